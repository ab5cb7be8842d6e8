"""What each pass did, as data, and as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

WHY_KEPT: Mapping[str, str] = MappingProxyType(
    {
        "an-input-is-read": "another input, which may be the same tensor, is read after a write",
        "an-input-is-written": "another input, which may be the same tensor, is written",
        "input-written": "the caller would see its input written",
        "layout": "its strides differ from the original's",
        "missing-metadata": "a node has no value in its metadata",
        "original-used-after-write": "the original is used after the clone is written",
        "original-written-before-use": "the original is written before the clone is used",
        "output-aliases-input": "an output would share memory with an input",
        "output-offset": "an output would begin elsewhere in its storage",
        "outputs-alias": "two outputs would share memory",
        "places-by-number": "a call reaches places of the storage by number",
        "symbolic-offset": "where its tensor begins is not a number",
        "too-many-accesses": "there are more accesses than are compared",
        "unknown-access": "a call of which nothing is known reaches the memory",
    }
)
"""What each reason to keep a clone means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionalizedNode:
    """A `maybe_inplace` that became the default overload; `donated` names its activations."""

    node: str
    op: str
    donated: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Functionalized:
    """`donated_inputs`: positions, among the placeholders, of inputs given away whole."""

    nodes: tuple[FunctionalizedNode, ...]
    donated_inputs: tuple[int, ...]

    def lines(self) -> list[str]:
        shown = [f"functionalize: {len(self.nodes)} nodes, donated inputs {self.donated_inputs}"]
        return shown + [f"  {n.node}: {n.op} <- {', '.join(n.donated)}" for n in self.nodes]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredNode:
    """`source`: "hit", "miss", "disabled" or "bypass: REASON"; `declined`: providers whose
    `supports_args` sizes did not settle; `guards`: what tracing assumed about sizes."""

    node: str
    op: str
    overload: str
    provider: str
    source: str
    declined: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    nodes: tuple[LoweredNode, ...]
    before: int
    after: int

    @property
    def selected_impls(self) -> dict[str, dict[str, str]]:
        """op -> node -> provider."""
        found: dict[str, dict[str, str]] = {}
        for n in self.nodes:
            found.setdefault(n.op, {})[n.node] = n.provider
        return found

    def lines(self) -> list[str]:
        sources = Counter(n.source for n in self.nodes)
        counts = ", ".join(f"{count} {source}" for source, count in sorted(sources.items()))
        shown = [f"lower: {self.before} -> {self.after} nodes ({counts or 'nothing to do'})"]
        for n in self.nodes:
            notes = [f"declined {', '.join(n.declined)}"] if n.declined else []
            notes += [f"assumes {g}" for g in n.guards]
            shown.append("; ".join([f"  {n.node}: {n.op} by {n.provider} ({n.source})", *notes]))
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClone:
    """`reason` is a fixed slug, `detail` names the node that decided."""

    node: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clones:
    removed: tuple[str, ...]
    kept: tuple[KeptClone, ...]
    before: int
    after: int

    def lines(self) -> list[str]:
        shown = [
            f"clones: {self.before} -> {self.after} nodes, {len(self.removed)} removed, "
            f"{len(self.kept)} kept"
        ]
        return shown + [f"  {k.node} kept: {k.reason} {k.detail}".rstrip() for k in self.kept]


@dataclass(slots=True)
class Report:
    """What the passes did, in the order in which they ran. Grows with every graph compiled.

    `watch` is called with a stage and its fx.Graph: "captured", "functionalize", "traced" (by
    AOTAutograd), "lower" and "clones", each after the pass of that name. Inductor leaves out
    "traced".
    """

    passes: list[Functionalized | Lowered | Clones] = field(default_factory=list)
    watch: Callable[[str, Any], None] | None = None

    def seen(self, stage: str, graph: Any) -> None:
        """Show a graph to who watches."""
        if self.watch is not None:
            self.watch(stage, graph)

    def lines(self) -> list[str]:
        return [line for p in self.passes for line in p.lines()]
