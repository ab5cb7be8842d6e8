"""Faults that functionalization and clone elimination really had, planted."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from ir.compilation import register_pass

Patch = pytest.MonkeyPatch
# `ir.compilation.lower` is the function, not the module.
LOWER, CLONES = (importlib.import_module(f"ir.compilation.{name}") for name in ("lower", "clones"))
aten = torch.ops.aten


def _without_reason(*reasons: str) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        real = CLONES._Elimination._refusal

        def refusal(self: Any, position: int, clone: fx.Node) -> Any:
            found = real(self, position, clone)
            return None if found is not None and found[0] in reasons else found

        patch.setattr(CLONES._Elimination, "_refusal", refusal)

    return apply


def _any_layout(patch: Patch) -> None:
    """A clone whose strides are others than its original's is one like any other."""
    real = CLONES._Elimination._pair

    def pair(self: Any, clone: fx.Node) -> Any:
        found = real(self, clone)
        if type(found) is not tuple or found[0] != "layout":
            return found
        original = clone.all_input_nodes[0]
        mine, own = self.aliases.held[clone], self.aliases.held[original]
        return CLONES._Pair(clone, original, mine, own, CLONES.root(mine), CLONES.root(own), 0)

    patch.setattr(CLONES._Elimination, "_pair", pair)


def _stale_values(patch: Patch) -> None:
    patch.setattr(CLONES._Elimination, "_follow", lambda self: None)


def _keeps_clones_that_are_written(patch: Patch) -> None:
    """What is written in place stays a copy, though nobody could tell."""
    real = CLONES._Elimination._refusal

    def refusal(self: Any, position: int, pair: Any) -> Any:
        if any("_." in str(user.target) for user in pair.clone.users):
            return "written", pair.clone.name
        return real(self, position, pair)

    patch.setattr(CLONES._Elimination, "_refusal", refusal)


def _only_default_overloads(patch: Patch) -> None:
    """Calls of ``maybe_inplace`` are not among those that a pass knows."""
    real = LOWER.ir_call

    def called(node: fx.Node) -> Any:
        return None if str(node.target).endswith(".maybe_inplace") else real(node)

    patch.setattr(LOWER, "ir_call", called)
    patch.setattr(LOWER, "_refuse_leftovers", lambda *_: None)


def _pass(fn: Callable[[fx.Graph], None]) -> Callable[[Patch], None]:
    return lambda _patch: register_pass("mutant")(fn) and None


def _merges_equal_calls(graph: fx.Graph) -> None:
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not aten.clone.default:
            continue
        first = seen.setdefault((node.target, node.args), node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _sinks_clones(graph: fx.Graph) -> None:
    """Puts each clone right before its first user, past what writes the original."""
    for node in list(graph.nodes):
        if node.target is aten.clone.default and node.users:
            order = {n: i for i, n in enumerate(graph.nodes)}
            min(node.users, key=order.__getitem__).prepend(node)


def _views_when_even(graph: fx.Graph) -> None:
    """Gives a view in a clone's place where the size is even."""
    for node in list(graph.find_nodes(op="call_function", target=aten.clone.default)):
        shape = node.meta["val"].shape
        if shape and shape[0] % 2 == 0:
            node.target, node.args, node.kwargs = aten.alias.default, node.args[:1], {}
            node.meta["val"] = aten.alias.default(node.args[0].meta["val"])


def _views_of_the_lowest(graph: fx.Graph) -> None:
    """Takes views of an input from the input that begins its storage, dimensions alike."""
    first: dict[Any, fx.Node] = {}
    inputs = graph.find_nodes(op="placeholder")
    for node in sorted(inputs, key=lambda n: n.meta["val"].storage_offset()):
        value = node.meta["val"]
        base = first.setdefault((value.untyped_storage()._cdata, value.dim()), node)
        for user in list(node.users) if base is not node else ():
            if user.target is aten.select.int and value.shape == base.meta["val"].shape:
                user.replace_input_with(node, base)


def _outputs_at_the_start(graph: fx.Graph) -> None:
    """Makes each output that is a view of an input anew, from the start of the storage."""
    output = graph.output_node()
    made: list[Any] = []
    for node in output.args[0]:  # type: ignore[union-attr]
        value = node.meta["val"]
        if node.op == "call_function" and node.target is aten.select.int:
            source = node.args[0]
            with graph.inserting_before(output):
                node = graph.call_function(
                    aten.as_strided.default, (source, [*value.shape], [*value.stride()], 0)
                )
            node.meta["val"] = source.meta["val"].as_strided(value.shape, value.stride(), 0)
        made.append(node)
    output.args = (tuple(made),)


FAULTS: dict[str, Callable[[Patch], None]] = {
    "layout of a clone": _any_layout,
    "writes after reads": _without_reason("original-used-after-write"),
    "reads after writes": _without_reason("original-written-before-use"),
    "outputs in inputs": _without_reason("output-aliases-input"),
    "outputs in outputs": _without_reason("outputs-alias"),
    "inputs written": _without_reason("input-written"),
    "values of what has gone": _stale_values,
    "equal calls merged": _pass(_merges_equal_calls),
    "clones put later": _pass(_sinks_clones),
    "in-place overloads not met": _only_default_overloads,
    "a view where the size is even": _pass(_views_when_even),
    "views of another input": _pass(_views_of_the_lowest),
    "an output regenerated at offset 0": _pass(_outputs_at_the_start),
    "written clones kept": _keeps_clones_that_are_written,
}
