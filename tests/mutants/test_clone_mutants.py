"""Each real bug of functionalization and clone elimination that can occur here, made and found.

The rows are those of the second class of known bugs. A row has a mutant, which some judge kills,
or says why it cannot occur.
"""

import dataclasses
import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx

from fuzz.strategies.programs import (
    lowering_case,
    needed_clones_case,
    program_case,
    removable_clone_case,
)
from ir.compilation import register_pass
from oracle.judges import JUDGES
from oracle.known_programs import CAUSES
from oracle.properties import PROPERTIES
from oracle.shrink import shrink
from oracle.verdict import Outcome
from reference.model import ProgramCase

Patch = pytest.MonkeyPatch
# `ir.compilation.lower` is the function, not the module.
LOWER, CLONES = (importlib.import_module(f"ir.compilation.{name}") for name in ("lower", "clones"))
aten = torch.ops.aten
ELSEWHERE = {
    "program-cache", "program-completion", "program-steps",  # test_lowering_mutants
    "program-routes", "program-clones",  # test_unsound_passes
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """How code is broken; the route and draw on which it is looked for; who sees it as what."""

    break_it: Callable[[Patch], None]
    route: str
    judge: str
    kind: str
    draw: Callable[..., ProgramCase] = program_case
    tries: int = 60
    provider: str = "passes"


# Clone elimination with one of its rules gone.


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


# Passes of other people's kinds.


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


MUTANTS: dict[str, Mutant] = {
    "layout of a clone": Mutant(
        _any_layout, "fx-pass", "program-layout", "stride", draw=program_case,
        tries=400,
    ),
    "writes after reads": Mutant(
        _without_reason("original-used-after-write"), "fx-pass", "program-values", "value",
        draw=needed_clones_case,
    ),
    "reads after writes": Mutant(
        _without_reason("original-written-before-use"), "fx-pass", "program-values", "value",
        draw=needed_clones_case,
    ),
    "outputs in inputs": Mutant(
        _without_reason("output-aliases-input"),
        "fx-pass", "program-aliases", "output-aliases-input", draw=needed_clones_case,
    ),
    "outputs in outputs": Mutant(
        _without_reason("outputs-alias"), "fx-pass", "program-aliases", "outputs-share-storage",
        draw=needed_clones_case,
    ),
    "inputs written": Mutant(
        _without_reason("input-written"), "fx-pass", "program-inputs", "input-written",
        draw=program_case, tries=200,
    ),
    "values of what has gone": Mutant(
        _stale_values, "fx-pass", "program-graph", "value-differs", draw=program_case, tries=200
    ),
    "equal calls merged": Mutant(
        _pass(_merges_equal_calls), "fx-pass", "program-values", "value", draw=program_case,
        tries=400, provider="mutant",
    ),
    "clones put later": Mutant(
        _pass(_sinks_clones), "fx-pass", "program-values", "value", draw=needed_clones_case,
        provider="mutant",
    ),
    "in-place overloads not met": Mutant(
        _only_default_overloads, "fx-cold", "program-graph", "left-over", draw=lowering_case
    ),
    "a view where the size is even": Mutant(
        _pass(_views_when_even), "fx-pass", "program-aliases", "output-aliases-input",
        draw=needed_clones_case, provider="mutant",
    ),
    "views of another input": Mutant(
        _pass(_views_of_the_lowest), "fx-pass", "program-values", "value",
        draw=lambda _chooser: CAUSES["view-of-an-aliased-input"].smallest[0], tries=1,
        provider="mutant",
    ),
    "an output regenerated at offset 0": Mutant(
        _pass(_outputs_at_the_start), "fx-pass", "program-layout", "offset", tries=400,
        provider="mutant",
    ),
}  # fmt: skip

ROWS: dict[str, str] = {
    "vllm#44574": "layout of a clone",
    "pytorch#132238": "writes after reads",
    "pytorch#153389": "reads after writes",
    "pytorch#198095": "views of another input",
    "pytorch#191002": "an output regenerated at offset 0",
    "pytorch#195292": "outputs in inputs",
    "pytorch#139628": "cannot occur: nothing here allocates a temporary for a view; clones that "
    "lowering puts in are traced calls whose sizes are their operand's",
    "pytorch#131192": "cannot fail a program: test_clones_kept_needlessly_are_counted has it",
    "pytorch#133249": "clones put later",
    "pytorch#160668": "equal calls merged",
    "velox#18393": "writes after reads",
    "vllm#44130": "a view where the size is even",
    "vllm#43058": "in-place overloads not met",
    "pytorch#189523": "cannot occur in programs, which are flat: nested graphs are those of "
    "tests/ir/compilation, test_functionalization and test_lowering",
}
"""Known bugs of functionalization, clone elimination and reuse in place, by public issue number."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(driven: Any, name: str):
    mutant = MUTANTS[name]
    driven.break_with(mutant)
    assert any(driven.shows(mutant, case) for case in driven.cases(mutant, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_its_fault_a_mutants_programs_agree(driven: Any, name: str):
    mutant = dataclasses.replace(MUTANTS[name], provider="passes")
    for case, _ in zip(driven.cases(mutant, name), range(3), strict=False):
        assert driven.verdict(mutant, case).outcome is not Outcome.DISAGREES


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n, m in MUTANTS.items() if m.route == "fx-pass" and m.tries <= 200]
)
def test_what_kills_a_mutant_shrinks_to_a_few_steps(driven: Any, name: str):
    mutant = MUTANTS[name]
    driven.break_with(mutant)
    case = next(case for case in driven.cases(mutant, name) if driven.shows(mutant, case))
    least = shrink(case, lambda c: driven.shows(mutant, c), limit=600).case
    assert len(least.steps) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [False, True])
def test_clones_kept_needlessly_are_counted(driven: Any, faulty: bool):
    wanting = Mutant(
        _keeps_clones_that_are_written, "fx-pass", "program-clones", "", draw=removable_clone_case
    )
    if faulty:
        driven.break_with(wanting)
    counts: Counter[str] = Counter()
    for case in driven.cases(wanting, "needlessly"):
        counts.update(driven.measures(wanting, case))
    # As many as a run must have that says how much is removed.
    whole = {name: 10 * number for name, number in counts.items()}
    assert counts["programs with a removable clone"] == wanting.tries
    told = PROPERTIES["clones"].demands(whole)
    assert [line.partition(" %")[2] for line in told] == [
        " of what can go is removed, at least 98 % wanted"
    ] * faulty


def test_every_known_bug_has_a_mutant_or_says_why_it_cannot_occur():
    assert len(ROWS) == 14
    assert [r for r, what in ROWS.items() if what not in MUTANTS and "cannot " not in what] == []


def test_every_judge_of_programs_kills_a_mutant():
    judges = {m.judge for m in MUTANTS.values()} | ELSEWHERE
    assert judges == {name for name in JUDGES if name.startswith("program-")}
