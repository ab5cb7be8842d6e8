"""What a captured graph means: memory, the owners of it, and when a replay is right.

Memory is numbered blocks with one integer each. An owner is a name that holds a block. A graph
adds to an input the values of the blocks that it reads, and adds the input to the block that it
writes. It uses blocks, not owners: it is right only while each owner still holds the block that
it held when the graph was captured. No allocator is modelled: blocks are never given out again
while a graph uses them, since whoever captured them keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What a replay returns; its own from then on."""

    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A replay that is refused; `owners` no longer hold what they held, in the ledger's order."""

    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A capture that is refused, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A captured graph: the block of each owner that it uses."""

    reads: Mapping[str, int]
    writes: Mapping[str, int]


@dataclass(slots=True)
class Memory:
    """Blocks, their owners and the graphs captured so far."""

    blocks: dict[int, int] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)
    sealed: bool = False

    def create(self, owner: str, value: int) -> None:
        """Give an owner a new block; the one it held keeps its value."""
        block = len(self.blocks)
        self.blocks[block] = value
        self.owners[owner] = block

    def write(self, owner: str, value: int) -> None:
        """Change the value in place."""
        self.blocks[self.owners[owner]] = value

    def drop(self, owner: str) -> None:
        del self.owners[owner]

    def give_back(self, owner: str, block: int) -> None:
        """Let an owner hold a block that it held before."""
        self.owners[owner] = block

    def capture(
        self,
        name: str,
        *,
        reads: tuple[str, ...],
        writes: tuple[str, ...],
        creates: bool = False,
        replaces: bool = False,
        host_reads: bool = False,
    ) -> Graph | Refused:
        """Capture; nothing of what the graph does has happened afterwards.

        The first reason counts, in the order in which the function does it: it reads a value to
        the host, then it replaces or creates an owner.
        """
        if host_reads:
            return Refused(reason="host-sync")
        if replaces:
            return Refused(reason="state-replaced")
        if creates:
            return Refused(reason="state-created")
        graph = Graph(
            reads={o: self.owners[o] for o in reads}, writes={o: self.owners[o] for o in writes}
        )
        self.graphs[name] = graph
        return graph

    def replay(self, name: str, given: int) -> Returned | Stale:
        """The graph once more, on its blocks. Where it is refused nothing has changed.

        The result is the input and what was read, each before anything is written.
        """
        graph = self.graphs[name]
        used = {**graph.reads, **graph.writes}
        stale = tuple(o for o, block in used.items() if self.owners.get(o) != block)
        if stale:
            return Stale(owners=stale)
        value = given + sum(self.blocks[b] for b in graph.reads.values())
        for block in graph.writes.values():
            self.blocks[block] += given
        return Returned(value=value)


def padded(rows: tuple[int, ...], slots: tuple[int, ...], size: int) -> tuple[tuple[int, int], ...]:
    """The (value, slot) pairs that a graph of `size` rows is given for a smaller batch.

    Padding is value 0 at slot -1. Raises ValueError for a batch that does not fit.
    """
    if len(rows) != len(slots) or not 1 <= len(rows) <= size:
        raise ValueError(f"{len(rows)} rows and {len(slots)} slots; accepted: 1 to {size} of each")
    real = tuple(zip(rows, slots, strict=True))
    return (*real, *((0, -1),) * (size - len(rows)))


def cache_after(cache: Mapping[int, int], rows: tuple[tuple[int, int], ...]) -> dict[int, int]:
    """A KV cache, value by slot, after rows of (value, slot); a negative slot writes nothing."""
    after = dict(cache)
    for value, slot in rows:
        if slot >= 0:
            after[slot] = value
    return after


def bucket(sizes: tuple[int, ...], rows: int) -> int | None:
    """The smallest captured size that holds a batch; None where none does."""
    return min((s for s in sizes if s >= rows >= 1), default=None)
