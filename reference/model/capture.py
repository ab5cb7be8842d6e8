"""A case of the capture kind: a function that is captured, and what happens around its replays.

    body      a program: its first inputs are the graph's static inputs, the rest are owned
    owners    how the function reaches each of the rest: ("buffer", "state")
    events    replay x0 = ...; o1 is given other memory; replay, refused; ...

An owner is a place that holds a tensor: the tensor may be written there, and the place may be
given another one. Where ``sizes`` are given there is a graph for each of these batch sizes, and
dimension 0 of the static inputs that have a padding is the batch.

The step ``ir.reshape_and_cache.default`` takes the cache, which the op itself finds in the state
of the layer, as its first operand: an input owned as ``kv_cache``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .program import ProgramCase
from .storage import Storage

OWNERS = (
    "buffer", "parameter", "attribute", "item", "state", "kv_cache", "given", "unnamed",
)  # fmt: skip
"""Of a module; ``item`` of a dict of it; ``state`` and ``kv_cache`` of the registry of states;
``given`` to the capture by name; ``unnamed`` reached in a way that nobody can follow."""

MOVES = ("replace", "data", "resize", "drop", "dtype", "transpose", "view", "grow", "back")
"""What may happen to an owner: another tensor of the same content; other memory for the very
tensor; more of it; none; another dtype; its dimensions swapped in place; another tensor on the
same memory; a larger state; and the tensor and memory of the beginning again."""

HOW = ("copied", "static", "audited")
"""How a replay is asked for: results copied, the graph's own, or with a look at all owners."""

MISFITS = ("shape", "rank", "dtype", "number")
"""What is wrong with the inputs of a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """``given``: content of each static input in index order, or the number of a static input
    that is given itself; empty for a replay on what the static inputs hold."""

    given: tuple[Storage | int, ...]
    how: str = "copied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Input number ``position`` of the body, static or owned, gets ``content`` in place."""

    position: int
    content: Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One of ``MOVES`` happens to input number ``position``."""

    position: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A replay with inputs that do not fit, in the way of ``MISFITS`` that ``how`` names."""

    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """All memory that the graph made is filled with ``byte``."""

    byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """What is free, and what is freed or handed out from now on, is filled with ``byte``."""

    byte: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The states that graphs use must stay as they are from now on; not ``on``: no longer."""

    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Another state of the kind of the one at ``position`` is asked for, in a new scope."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reseed:
    """The generator from which the function draws is seeded."""

    seed: int


CaptureEvent: TypeAlias = "Replay | Write | Move | Misfit | Poison | Churn | Seal | Create | Reseed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureCase:
    """``trap`` is something that a captured function may not do, done before step number ``at``.

    ``noise``: the function returns four random numbers beside, from a generator of the graph.
    ``padding`` has, where there are ``sizes``, a value for each static input, None where it has
    no rows; ``batched`` says which outputs have rows.
    """

    body: ProgramCase
    owners: tuple[str, ...]
    events: tuple[CaptureEvent, ...]
    sizes: tuple[int, ...] = ()
    padding: tuple[int | None, ...] = ()
    batched: tuple[bool, ...] = ()
    trap: str = ""
    at: int = 0
    noise: bool = False

    @property
    def op(self) -> str:
        return "capture"

    @property
    def static(self) -> int:
        """How many static inputs there are."""
        return len(self.body.inputs) - len(self.owners)

    def owner(self, position: int) -> str:
        """How input number ``position`` of the body is reached; empty for a static one."""
        return self.owners[position - self.static] if position >= self.static else ""

    @property
    def replays(self) -> tuple[Replay, ...]:
        return tuple(event for event in self.events if isinstance(event, Replay))
