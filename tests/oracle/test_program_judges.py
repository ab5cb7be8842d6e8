"""The judges of programs, each on a run that is right but for one thing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from oracle.judges import JUDGES
from oracle.judges.programs_graph import GRAPH_KINDS
from oracle.kinds import Terms, kind_named
from oracle.observation import Died, Raised
from oracle.observation.program import (
    CloneFacts,
    GraphFacts,
    GraphFault,
    Perturbed,
    ProgramPerturbed,
    ProgramRaised,
    ProgramReturned,
)
from oracle.properties import PROPERTIES
from oracle.properties.shares import SHARES
from oracle.subjects.programs import reference
from oracle.verdict import Outcome
from reference.model import ProgramCase, ProgramStep, Storage, Value, View

PROGRAM = kind_named("program")


def case(*, norm: bool = False) -> ProgramCase:
    """y = 2x (or its norm), returned with a view of x; x is written."""
    call = (
        ProgramStep("ir.rms_norm.default", (Value(1), None, 0.0))
        if norm
        else ProgramStep("aten.mul.Tensor", (Value(1), 2))
    )
    return ProgramCase(
        storages=(Storage("float32", 5, np.arange(1, 6, dtype=np.float32).tobytes()),),
        tensors=(View(0, (2, 2), (2, 1)),),
        inputs=(0,),
        steps=(
            ProgramStep("aten.add_.Tensor", (Value(0), 1)),
            call,
            ProgramStep("aten.select.int", (Value(0), 0, 1)),
        ),
        outputs=(2, 3),
    )


Change = Callable[[ProgramReturned], object]


def judged(judge: str, change: Change, *, norm: bool = False) -> tuple[object, ...]:
    """The verdict on the reference's own answer with one thing changed."""
    program = case(norm=norm)
    right = reference.observe(program)
    assert isinstance(right, ProgramReturned)
    found = change(right)
    expectation = PROGRAM.expect(program, Terms())
    evidence = PROGRAM.evidence(program, expectation, found, Terms())
    verdict = JUDGES[judge].judge(evidence)
    return verdict.outcome.value, verdict.kind, str(verdict.place or "")


def output(number: int, **changed: object) -> Change:
    def change(right: ProgramReturned) -> ProgramReturned:
        outputs = list(right.outputs)
        outputs[number] = replace(outputs[number], **changed)  # type: ignore[arg-type]
        return replace(right, outputs=tuple(outputs))

    return change


def other_values(right: ProgramReturned) -> ProgramReturned:
    values = right.outputs[0].values.copy()
    values[1, 0] = 7
    return output(0, values=values)(right)  # type: ignore[return-value]


def written_beside(right: ProgramReturned) -> ProgramReturned:
    after = right.inputs_after[0].copy()
    after[4] = 0
    return replace(right, inputs_after=(after,))


def not_written(right: ProgramReturned) -> ProgramReturned:
    after = right.inputs_after[0].copy()
    after[0] = 1
    return replace(right, inputs_after=(after,))


def graph(**facts: object) -> Change:
    return lambda right: replace(right, graph=GraphFacts(**facts))  # type: ignore[arg-type]


def perturbed(*pairs: Perturbed) -> ProgramPerturbed:
    return ProgramPerturbed(route="fx-perturbed", perturbed=pairs)


def step_off(right: ProgramReturned) -> ProgramReturned:
    seen = right.seen[2]
    return replace(right, seen={2: replace(seen, values=seen.values * np.float32(1.5))})


PERTURBED = Perturbed(
    factor="shape", order="program first", step=0, same_key=True, same_graph=False,
    warm="a", cold="b",
)  # fmt: skip
CLONES = CloneFacts(clones=(2, 3), removed=(2,), removable=1, told="data set 1")
VERDICTS: dict[str, tuple[str, Change, str, str]] = {
    "arity": (
        "program-values", lambda r: replace(r, outputs=r.outputs[:1]),
        "arity", "outputs: observed 1, expected 2",
    ),
    "dtype": (
        "program-values", output(0, dtype="float16"),
        "dtype", "output[0]: observed float16, expected float32",
    ),
    "shape": (
        "program-values", output(0, shape=(4,)),
        "shape", "output[0]: observed (4,), expected (2, 2)",
    ),
    "value": (
        "program-values", other_values, "value", "output[0, 1, 0]: observed 7.0, expected 8.0"
    ),
    "route": (
        "program-routes", other_values,
        "route-differs", "output[0, 1, 0]: observed 7.0, expected 8.0",
    ),
    "beside": (
        "program-inputs", written_beside,
        "input-after", "beside inputs[0, 4]: observed 0.0, expected 5.0",
    ),
    "input": (
        "program-inputs", not_written,
        "input-after", "input[0, 0]: observed 1.0, expected 2.0",
    ),
    "stride": (
        "program-layout", output(0, strides=(1, 2)), "stride",
        "output[0]: observed strides (1, 2), expected strides (2, 1) for shape (2, 2)",
    ),
    "offset": (
        "program-layout", output(1, offset=0),
        "offset", "output[1]: observed offset 0, expected offset 2",
    ),
    "device": (
        "program-layout", output(0, device="meta"),
        "device", "output[0]: observed meta, expected cpu",
    ),
    "aliases an input": (
        "program-aliases", output(0, storage=0), "output-aliases-input",
        "output[0]: observed in storage 0 of the inputs, expected in memory of its own",
    ),
    "lost its input": (
        "program-aliases", output(1, storage=-7), "output-lost-its-input",
        "output[1]: observed in memory of its own, expected in storage 0 of the inputs",
    ),
    "reaches": (
        "program-aliases", lambda r: replace(r, reached=(("output 1",), ("storage 0",))),
        "write-reaches",
        "write to output[0]: observed changes output 1, expected changes nothing else",
    ),
    "raised": (
        "program-completion", lambda _r: Raised("RuntimeError", (), "no\nmore"),
        "raised", "program: observed RuntimeError: ['no'], expected outputs",
    ),
    "crash": (
        "program-completion", lambda _r: Died("SIGSEGV"),
        "crash", "process: observed SIGSEGV, expected outputs",
    ),
    "timeout": (
        "program-completion", lambda _r: Died("timeout"),
        "timeout", "process: observed timeout, expected outputs",
    ),
    "weak key": (
        "program-cache", lambda _r: perturbed(PERTURBED), "cache-key-too-weak",
        "shape: observed graph a (program first), expected graph b, as without a cache",
    ),
    "warm": (
        "program-cache", graph(structure="a", uncached="b", lowered=1, misses=1),
        "warm-differs",
        "graph: observed graph a on a warm cache, expected graph b, as without a cache",
    ),
    "again": (
        "program-cache", graph(structure="a", uncached="a", lowered=2, hits=1, misses=1),
        "traced-again",
        "cache: observed 1 traced again of 2, expected none: the cache has served this very graph",
    ),
    "clones": (
        "program-clones", lambda r: replace(r, clones=CLONES), "removed-needed",
        "clones: observed values 2 removed, expected kept: data set 1 tells",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICTS)
def test_one_thing_that_is_wrong_is_what_is_said(name: str):
    judge, change, kind, place = VERDICTS[name]
    assert judged(judge, change) == ("DISAGREES", kind, place)
    assert kind in JUDGES[judge].kinds


@pytest.mark.parametrize("kind", GRAPH_KINDS)
def test_each_fault_of_a_graph_is_a_kind(kind: str):
    found = judged("program-graph", graph(faults=(GraphFault(kind, "add", "this", "that"),)))
    assert found == ("DISAGREES", kind, "graph: observed add: this, expected that")


def test_a_graph_that_nobody_looked_at_is_not_called_legal():
    assert judged("program-graph", graph(structure="a"))[0] == "NOT_APPLICABLE"
    assert judged("program-graph", graph(faults=()))[0] == "AGREES"


@pytest.mark.parametrize("judge", [n for n in JUDGES if n.startswith("program-")])
def test_calls_beside_their_neighbours_are_judged_by_the_cache_alone(judge: str):
    same = replace(PERTURBED, warm="b")
    wanted = "AGREES" if judge == "program-cache" else "NOT_APPLICABLE"
    assert judged(judge, lambda _r: perturbed(same))[0] == wanted
    assert judged(judge, lambda _r: perturbed())[0] == "NOT_APPLICABLE"


def test_what_an_op_of_the_ir_returns_is_held_against_its_contract():
    outcome, kind, place = judged("program-steps", step_off, norm=True)
    assert (outcome, kind) == ("DISAGREES", "value")
    assert str(place).startswith("y[")


def test_what_nobody_reads_may_have_been_written_over():
    dead = replace(case(norm=True), outputs=(0,))
    found = reference.observe(dead)
    assert isinstance(found, ProgramReturned)
    evidence = PROGRAM.evidence(dead, PROGRAM.expect(dead, Terms()), step_off(found), Terms())
    assert JUDGES["program-steps"].judge(evidence).outcome is Outcome.AGREES


def test_a_call_is_not_held_against_operands_that_nobody_observed():
    """The first norm overflowed: what the second must return of that is not known."""
    chained = replace(
        case(norm=True),
        steps=(*case(norm=True).steps, ProgramStep("ir.rms_norm.default", (Value(2), None, 0.0))),
        outputs=(4,),
    )
    found = reference.observe(chained)
    assert isinstance(found, ProgramReturned)
    infinite = np.full((2, 2), np.inf, np.float32)
    seen = {2: replace(found.seen[2], values=infinite), 4: found.seen[4]}
    expectation = PROGRAM.expect(chained, Terms())
    evidence = PROGRAM.evidence(chained, expectation, replace(found, seen=seen), Terms())
    verdict = JUDGES["program-steps"].judge(evidence)
    assert (verdict.kind, str(verdict.place)[:2]) == ("value", "y[")
    assert [call.step for call in evidence.calls] == [1]


@pytest.mark.parametrize("judge", [n for n in JUDGES if n.startswith("program-")])
@pytest.mark.parametrize("norm", [False, True])
def test_what_is_right_is_not_disagreed_with(judge: str, norm: bool):
    assert judged(judge, lambda right: right, norm=norm)[0] in ("AGREES", "NOT_APPLICABLE")


def test_an_illegal_program_that_returns_is_not_refused():
    refused = replace(
        case(), steps=(ProgramStep("aten.view.default", (Value(0), (3, 3))),), outputs=(1,)
    )
    right = reference.observe(case())
    expectation = PROGRAM.expect(refused, Terms())
    evidence = PROGRAM.evidence(refused, expectation, right, Terms())
    verdict = JUDGES["program-completion"].judge(evidence)
    assert (verdict.outcome, verdict.kind) == (Outcome.DISAGREES, "not-refused")


def beside_stock(
    judge: str, ours: object, stock: object, *, norm: bool = False
) -> tuple[Outcome, str]:
    program = case(norm=norm)
    expectation = PROGRAM.expect(program, Terms())
    if isinstance(ours, Raised):
        found: object = ProgramRaised(route="backend", raised=ours, stock=stock)  # type: ignore[arg-type]
    else:
        found = replace(ours, route="backend", stock=stock)  # type: ignore[type-var]
    verdict = JUDGES[judge].judge(PROGRAM.evidence(program, expectation, found, Terms()))
    return verdict.outcome, verdict.kind


def right(*, norm: bool = False) -> ProgramReturned:
    found = reference.observe(case(norm=norm))
    assert isinstance(found, ProgramReturned)
    return found


def test_what_torch_does_wrong_without_us_is_undecided():
    wrong = other_values(right())
    assert beside_stock("program-values", wrong, wrong) == (Outcome.UNDECIDED, "as-stock-torch")
    assert beside_stock("program-routes", wrong, wrong) == (Outcome.UNDECIDED, "as-stock-torch")
    assert beside_stock("program-layout", wrong, wrong) == (Outcome.AGREES, "")


def test_what_torch_does_right_or_wrong_otherwise_is_held_against_us():
    wrong = other_values(right())
    worse = output(1, offset=0)(wrong)
    for stock in (right(), worse, Raised("RuntimeError", (), "")):
        assert beside_stock("program-values", wrong, stock) == (Outcome.DISAGREES, "value")
    assert beside_stock("program-layout", worse, wrong) == (Outcome.DISAGREES, "offset")


def test_an_op_of_the_ir_that_is_wrong_inside_is_as_torch_has_it_only_bit_for_bit():
    off = step_off(right(norm=True))
    other = step_off(off)
    judge = "program-steps"
    assert beside_stock(judge, off, off, norm=True) == (Outcome.UNDECIDED, "as-stock-torch")
    for stock in (other, right(norm=True)):
        assert beside_stock(judge, off, stock, norm=True) == (Outcome.DISAGREES, "value")


def test_raising_as_torch_does_without_us_is_undecided_and_otherwise_is_ours():
    raised = Raised("BackendCompilerFailed", (), "backend='ours' raised:\nKeyError: 'x'\nat 7")
    same = replace(raised, message="backend='stock' raised:\nKeyError: 'x'\nat 9")
    words = replace(raised, message="backend='stock' raised:\nIndexError: 3")
    kind = replace(same, type="RuntimeError")
    judge = "program-completion"
    assert beside_stock(judge, raised, same) == (Outcome.UNDECIDED, "as-stock-torch")
    for stock in (words, kind, right()):
        assert beside_stock(judge, raised, stock) == (Outcome.DISAGREES, "raised")


def test_a_compiled_run_that_raised_is_counted_on_its_route():
    program = case()
    raised = Raised("RuntimeError", (), "")
    found = ProgramRaised(route="inductor", raised=raised, stock=raised)
    evidence = PROGRAM.evidence(program, PROGRAM.expect(program, Terms()), found, Terms())
    assert PROGRAM.measures(evidence) == {"route inductor": 1, "as stock": 1}


def test_a_run_is_counted_as_stocks_only_where_it_is():
    wrong, program = other_values(right()), case()
    expectation = PROGRAM.expect(program, Terms())
    for stock, count in ((wrong, 1), (right(), 0), (None, 0)):
        found = replace(wrong, route="backend", stock=stock)
        evidence = PROGRAM.evidence(program, expectation, found, Terms())
        assert PROGRAM.measures(evidence).get("as stock", 0) == count


@pytest.mark.parametrize("name", ["lowering", "clones"])
def test_who_judges_what_is_as_stocks_is_told(name: str):
    measures = {"route fx-cold": 10, "hits": 1, "programs with none": 1}
    line = (
        "2 compiled runs differ from running step by step as torch.compile's do without us: "
        f"`irverify run --subject torch --property {name}` judges those"
    )
    assert line not in PROPERTIES[name].summary(measures)
    assert line in PROPERTIES[name].summary({**measures, "as stock": 2})
    assert PROPERTIES[name].summary({"route eager": 10, "route aot-eager": 1}) == (
        "programs by route: eager 10 (100.0 %), aot-eager 1 (10.0 %)",
    )


@pytest.mark.parametrize("name", ["lowering", "clones"])
def test_torch_alone_compiles_the_very_programs_that_we_do(name: str):
    routes = [s.routes for s in PROPERTIES[name].streams("program", "") if s.name != "known"]
    assert [r for r in routes if ("backend" in r) != ("aot-eager" in r)] == []
    assert [r for r in routes if "eager" not in r and "fx-perturbed" not in r] == []


@pytest.mark.parametrize("name", ["lowering", "clones"])
def test_a_tenth_is_compiled_and_a_twentieth_by_inductor(name: str):
    streams = PROPERTIES[name].streams("program", "")
    shared = [s for s in streams if s.name not in ("perturbed", "known")]
    every = sum(s.count for s in shared)
    shares = {
        route: sum(s.count for s in shared if route in s.routes) / every
        for route in ("backend", "inductor")
    }
    assert shares == pytest.approx({"backend": 0.1, "inductor": 0.05}, abs=0.002)
    assert sum(share.percent for share in SHARES) == 100


def test_a_run_that_traces_too_much_again_is_told():
    found = PROPERTIES["lowering"].demands({"hits": 80, "misses": 20, "spurious offset": 6})
    assert found == (
        "lowering: 6.0 % of look-ups traced again what lay there under another key, "
        "at most 5 % wanted",
    )
    assert PROPERTIES["lowering"].demands({"hits": 80, "misses": 20, "spurious offset": 5}) == ()


def test_a_run_that_keeps_too_many_clones_or_removes_a_needed_one_is_told():
    demands = PROPERTIES["clones"].demands
    enough = {"programs with a removable clone": 500, "removable": 100}
    assert demands({**enough, "removed": 98}) == ()
    assert demands({"removable": 100, "removed": 97}) == ()
    assert demands({**enough, "removed": 97, "removed of none": 1}) == (
        "clones: 97.0 % of what can go is removed, at least 98 % wanted",
        "clones: 1 removed in programs in which none can go, 0 wanted",
    )
