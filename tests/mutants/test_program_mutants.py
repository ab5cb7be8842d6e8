"""Each real bug of lowering, caches and clone elimination that can occur here, made and found.

The rows are those of the first two classes of known bugs. A row has a mutant, which some judge
kills, or says why it cannot occur.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from fuzz.strategies.programs import (
    lowering_case,
    needed_clones_case,
    program_case,
    removable_clone_case,
)
from oracle.judges import JUDGES
from oracle.known_programs import CAUSES
from oracle.properties import PROPERTIES
from oracle.shrink import shrink
from oracle.verdict import Outcome
from reference.model import ProgramCase

PASSES = Path(__file__).parent / "passes"
FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    name: plant
    for file in ("lowerings", "clones")
    for name, plant in run_path(str(PASSES / f"{file}.py"))["FAULTS"].items()
}

ELSEWHERE = {"program-routes", "program-clones"}
"""Judges that see the faults of test_unsound_passes."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """The route and draw on which a fault is looked for, and who sees it as what."""

    route: str
    judge: str
    kind: str
    draw: Callable[..., ProgramCase] = program_case
    tries: int = 60
    provider: str = "passes"


cached = partial(Mutant, "fx-perturbed", "program-cache", "cache-key-too-weak", lowering_case)
lowered = partial(Mutant, "fx-cold", draw=lowering_case)
copied = partial(Mutant, "fx-pass", draw=needed_clones_case)
LOWERING: dict[str, Mutant] = {
    "shape not in the key": cached(tries=4),
    "strides not in the key": cached(tries=8),
    "dtype not in the key": cached(tries=4),
    "state of the process not in the key": cached(tries=4),
    "plain arguments not in the key": cached(tries=4),
    "plain arguments by equality": cached(tries=4),
    "provider not in the key": cached(tries=4),
    "one value for a whole replacement": lowered("program-graph", "value-shared"),
    "no origin": lowered("program-graph", "no-origin"),
    "a replacement behind its user": lowered("program-graph", "broken-graph"),
    "writers without users dropped": Mutant("fx-cold", "program-values", "value"),
    "calls with defaults not met": lowered("program-graph", "left-over"),
    "one result only": lowered("program-completion", "raised"),
    "an epsilon of its own": lowered("program-steps", "value"),
    "one dtype for x and weight": lowered("program-steps", "value"),
    "a padded output": lowered("program-completion", "raised"),
    "a provider's own strides": lowered("program-graph", "value-differs"),
    "slices that end at -1": Mutant(
        "fx-pass", "program-values", "shape", tries=600, provider="mutant"
    ),
    "keywords given up": Mutant(
        "fx-pass", "program-graph", "call-changed", tries=200, provider="mutant"
    ),
    "a written argument cloned first": Mutant(
        "fx-pass", "program-inputs", "input-after", tries=200, provider="mutant"
    ),
}
"""Of lowering and its caches."""

CLONES: dict[str, Mutant] = {
    "layout of a clone": Mutant("fx-pass", "program-layout", "stride", tries=400),
    "writes after reads": copied("program-values", "value"),
    "reads after writes": copied("program-values", "value"),
    "outputs in inputs": copied("program-aliases", "output-aliases-input"),
    "outputs in outputs": copied("program-aliases", "outputs-share-storage"),
    "inputs written": Mutant("fx-pass", "program-inputs", "input-written", tries=200),
    "values of what has gone": Mutant("fx-pass", "program-graph", "value-differs", tries=200),
    "equal calls merged": Mutant(
        "fx-pass", "program-values", "value", tries=400, provider="mutant"
    ),
    "clones put later": copied("program-values", "value", provider="mutant"),
    "in-place overloads not met": lowered("program-graph", "left-over"),
    "a view where the size is even": copied(
        "program-aliases", "output-aliases-input", provider="mutant"
    ),
    "views of another input": Mutant(
        "fx-pass",
        "program-values",
        "value",
        draw=lambda _chooser: CAUSES["view-of-an-aliased-input"].smallest[0],
        tries=1,
        provider="mutant",
    ),
    "an output regenerated at offset 0": Mutant(
        "fx-pass", "program-layout", "offset", tries=400, provider="mutant"
    ),
}
"""Of functionalization, clone elimination and reuse in place."""

MUTANTS = LOWERING | CLONES

LOWERING_ROWS: dict[str, str] = {
    "vllm#53366": "shape not in the key",
    "vllm#25093": "strides not in the key",
    "pytorch#181564": "state of the process not in the key",
    "pytorch#176044": "plain arguments not in the key",
    "pytorch#103453": "cannot occur: the cache keeps templates of graphs, which nothing tears "
    "down, and no compiled callables",
    "pytorch#162019": "a replacement behind its user",
    "pytorch#149879": "writers without users dropped",
    "vllm#40587": "one result only",
    "vllm#41767": "calls with defaults not met",
    "vllm#48324": "one dtype for x and weight",
    "llama.cpp#14545": "an epsilon of its own",
    "TensorRT-LLM#14361": "one value for a whole replacement",
    "pytorch#182328": "a padded output",
    "pytorch#184549": "shape not in the key",
    "vllm#50046": "strides not in the key",
    "vllm#49913": "a provider's own strides",
    "pytorch#137979": "a written argument cloned first",
    "vllm#17078": "slices that end at -1",
    "vllm#25623": "cannot occur in programs, whose sizes are numbers: symbolic ones are those of "
    "tests/ir/compilation, test_symbolic_sizes_are_compared_without_a_guard",
    "vllm#39358": "cannot occur in programs, whose sizes are numbers: symbolic ones are those of "
    "tests/ir/compilation, test_supports_args_neither_guards_nor_sees_a_hint",
}
"""Known bugs of lowering, pattern replacement and caching, by public issue number."""

CLONE_ROWS: dict[str, str] = {
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
"""Known bugs of functionalization, clone elimination and reuse, by public issue number."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(driven: Any, name: str):
    mutant = MUTANTS[name]
    driven.break_with(FAULTS[name], mutant.provider)
    assert any(driven.shows(mutant, case) for case in driven.cases(mutant, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_its_fault_a_mutants_programs_agree(driven: Any, name: str):
    mutant = dataclasses.replace(MUTANTS[name], provider="passes")
    for case, _ in zip(driven.cases(mutant, name), range(3), strict=False):
        assert driven.verdict(mutant, case).outcome is not Outcome.DISAGREES


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n, m in CLONES.items() if m.route == "fx-pass" and m.tries <= 200]
)
def test_what_kills_a_mutant_shrinks_to_a_few_steps(driven: Any, name: str):
    mutant = MUTANTS[name]
    driven.break_with(FAULTS[name], mutant.provider)
    case = next(case for case in driven.cases(mutant, name) if driven.shows(mutant, case))
    least = shrink(case, lambda c: driven.shows(mutant, c), limit=600).case
    assert len(least.steps) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [False, True])
def test_clones_kept_needlessly_are_counted(driven: Any, faulty: bool):
    wanting = Mutant("fx-pass", "program-clones", "", draw=removable_clone_case)
    if faulty:
        driven.break_with(FAULTS["written clones kept"], wanting.provider)
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


@pytest.mark.parametrize(("rows", "count"), [(LOWERING_ROWS, 20), (CLONE_ROWS, 14)])
def test_every_known_bug_has_a_mutant_or_says_why_it_cannot_occur(rows: dict[str, str], count: int):
    assert len(rows) == count
    assert [r for r, what in rows.items() if what not in MUTANTS and "cannot " not in what] == []


def test_every_fault_that_is_planted_is_looked_for():
    assert set(FAULTS) == {*MUTANTS, "written clones kept"}


def test_every_judge_of_programs_kills_a_mutant():
    judges = {mutant.judge for mutant in MUTANTS.values()} | ELSEWHERE
    assert judges == {name for name in JUDGES if name.startswith("program-")}
