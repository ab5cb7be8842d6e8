"""Bugs of captured graphs, made in `ir.capture` and found: each by a judge, on a pinned case.

The rows are those of the third class of known bugs. A row has faults, or says where it is judged.
"""

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import (
    called_case,
    drawn_case,
    padded_case,
    plain_case,
    refused_case,
    shared_case,
)
from ir.state import ir_state
from oracle.checking import CaseChecker
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import kind_named
from oracle.properties import PROPERTIES
from oracle.script import ScriptError
from oracle.shrink import shrink
from oracle.subject import Subject
from oracle.subjects.capture.subject import observe
from oracle.verdict import Outcome, Place, Verdict
from reference.model.capture import CaptureCase
from reference.replays import TRAPS, ExpectedCapture, expect_capture

FAULTS = runpy.run_path(str(Path(__file__).parent / "kernels" / "captures.py"))["FAULTS"]

SMALLEST: dict[tuple[str, str, str], str] = {
    ("ledger_is_not_checked", "capture-refusal", "not-refused"): (
        "x0: float32[] = [1.0], attribute; return x0; x0: replace; replay()"
    ),
    ("ledger_names_nobody", "capture-refusal", "unnamed"): (
        "x0: float32[] = [1.0], attribute; return x0; x0: replace; replay()"
    ),
    ("ledger_asserts", "capture-completion", "raised"): (
        "x0: float32[] = [1.0], attribute; return x0; x0: replace; replay()"
    ),
    ("ledger_minds_objects", "capture-completion", "refused-legal"): (
        "x0: float32[] = [1.0], attribute; return x0; x0: view; replay()"
    ),
    ("grown_states_are_taken_for_the_same", "capture-refusal", "not-refused"): (
        "x0: float32[1] = [1.0], state; return x0; x0: grow; replay()"
    ),
    ("states_are_not_in_the_ledger", "capture-ledger", "unowned"): (
        "x0: float32[] = [1.0], state; return x0"
    ),
    ("only_parameters_are_in_the_ledger", "capture-refusal", "not-refused"): (
        "x0: float32[] = [1.0], attribute; return x0; x0: replace; replay()"
    ),
    ("entries_lie_elsewhere", "capture-ledger", "elsewhere"): (
        "x0: float32[] = [1.0], attribute; return x0"
    ),
    ("entries_are_packed", "capture-ledger", "elsewhere"): (
        "x0: float32[2, 3] strides [5, 1] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], static; return nothing"
    ),
    ("smaller_graphs_have_an_empty_ledger", "capture-ledger", "unowned"): (
        "x0: float32[2, 1] = [1.0, 1.0], static, padded with 0; "
        "x1: float32[1, 1] = [1.0], attribute; return x1; captured for 1, 2 rows"
    ),
    ("seal_is_forgotten", "capture-refusal", "not-refused"): (
        "x0: float32[] = [1.0], state; return nothing; states are sealed; x0: replace"
    ),
    ("inputs_are_checked_and_not_copied", "capture-values", "value"): (
        "x0: float32[] = [1.0], static; return x0; replay([-1.0])"
    ),
    ("inputs_are_copied_in_turn", "capture-values", "value"): (
        "x0: float16[] = [0.5], static; x1: float16[] = [1.0], static; return x1; replay(x1, x0)"
    ),
    ("inputs_are_cast", "capture-refusal", "not-refused"): (
        "x0: float32[] = [1.0], static; return nothing; replay with inputs of another dtype"
    ),
    ("inputs_are_filled_before_the_ledger_is_asked", "capture-memory", "changed-by-refusal"): (
        "x0: float32[1] = [1.0], static; x1: float32[] = [-2.0], static; return nothing; "
        "x0: data; replay([1.0], [1.0])"
    ),
    ("misfits_are_asserted", "capture-completion", "raised"): (
        "return nothing; replay with inputs of another dtype"
    ),
    ("writes_happen_once", "capture-memory", "owner-after"): (
        "x0: float32[] = [1.0], attribute; v1 = aten.add_.Tensor(x0, 1); return nothing; replay()"
    ),
    ("writes_happen_once", "capture-padding", "owner-after"): (
        "x0: bfloat16[2, 1] = [1.0, 1.0], static, padded with 0; "
        "x1: int64[2] = [1, 2], static, padded with -1; "
        "x2: bfloat16[2, 2, 2, 1, 1] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], kv_cache; "
        "v3 = aten.view.default(x0, [2, 1, 1]); "
        "v4 = ir.reshape_and_cache.default(x2, v3, v3, x1); return nothing; "
        "captured for 2 rows; replay([1.0, 2.0], [1, 2])"
    ),
    ("generator_starts_anew_at_each_replay", "capture-eager", "replay-differs"): (
        "return nothing, four random numbers; the generator is seeded with 93; replay()"
    ),
    ("replays_fill_what_they_own", "capture-eager", "memory-differs"): (
        "x0: float32[] = [1.0], attribute; return x0; replay()"
    ),
    ("results_are_the_graphs_own", "capture-held", "result-shared"): (
        "x0: float32[] = [1.0], attribute; return x0; replay()"
    ),
    ("results_are_widened", "capture-values", "dtype"): (
        "x0: float32[] = [1.0], attribute; return x0; replay()"
    ),
    ("results_have_a_row_more", "capture-values", "shape"): (
        "x0: float32[] = [1.0], attribute; return x0; replay()"
    ),
    ("results_are_on_meta", "capture-layout", "device"): (
        "x0: float32[] = [1.0], attribute; return x0; replay()"
    ),
    ("results_are_packed", "capture-layout", "stride"): (
        "x0: float32[2, 3, 2] strides [1, 2, 6], attribute; return x0; replay()"
    ),
    ("one_result_more", "capture-values", "arity"): ("return nothing; replay()"),
    ("results_go_with_the_next_replay", "capture-held", "held-overwritten"): (
        "x0: float32[] = [1.0], attribute; return x0; replay(); replay()"
    ),
    ("capture_leaves_what_it_wrote", "capture-memory", "trace-left"): (
        "x0: float32[] = [1.0], attribute; v1 = aten.add_.Tensor(x0, 1); return nothing"
    ),
    ("refused_captures_leave_zeros", "capture-memory", "trace-left"): (
        "x0: float32[2] = [1.0, 1.0], static; "
        "x1: float32[1] offset 1 in storage 0 = [1.0], static; return nothing"
    ),
    ("syncs_are_not_seen", "capture-refusal", "not-refused"): ("trap: item; return nothing"),
    ("syncs_have_another_reason", "capture-refusal", "wrong-reason"): (
        "trap: nonzero; return nothing"
    ),
    ("owners_are_not_compared", "capture-refusal", "not-refused"): (
        "trap: grown-state; return nothing"
    ),
    ("recordings_are_not_compared", "capture-refusal", "not-refused"): (
        "trap: other-thread; return nothing"
    ),
    ("replays_inside_a_capture_are_not_refused", "capture-refusal", "not-refused"): (
        "trap: nested-replay; return nothing"
    ),
    ("writers_are_refused", "capture-completion", "refused-legal"): (
        "x0: float32[] = [1.0], attribute; v1 = aten.add_.Tensor(x0, 0); return nothing"
    ),
    ("rows_of_a_larger_batch_stay", "capture-padding", "outside-slots"): (
        "x0: float32[2, 4] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], static, padded with 0; "
        "x1: int64[2] = [1, 2], static, padded with -1; "
        "x2: float32[4] = [1.0, 1.0, 1.0, 1.0], static; "
        "x3: float32[2, 1, 4, 2, 2], kv_cache; v4 = aten.mul.Tensor(x0, x2); "
        "v5 = aten.view.default(x0, [-1, 2, 2]); v6 = aten.view.default(v4, [-1, 2, 2]); "
        "v7 = ir.reshape_and_cache.default(x3, v5, v6, x1); return nothing; "
        "captured for 2 rows; "
        "replay([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1, 2], [1.0, 1.0, 1.0, 1.0]); "
        "replay([1.0, 1.0, 1.0, 1.0], [-1], [1.0, 2.0, 1.0, 2.0])"
    ),
    ("padding_is_zero", "capture-padding", "outside-slots"): (
        "x0: bfloat16[2, 1] = [1.0, 1.0], static, padded with 0; "
        "x1: int64[2] = [1, 2], static, padded with -1; "
        "x2: bfloat16[2, 2, 2, 1, 1] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], kv_cache; "
        "v3 = aten.view.default(x0, [-1, 1, 1]); "
        "v4 = ir.reshape_and_cache.default(x2, v3, v3, x1); return nothing; "
        "captured for 2 rows; replay([1.0], [1])"
    ),
    ("batches_are_cut_from_the_end", "capture-padding", "real-row"): (
        "x0: float32[2, 2] = [1.0, 1.0, 1.0, 1.0], static, padded with 0; return x0; "
        "captured for 2 rows; replay([1.0, 1.0])"
    ),
    ("slots_are_one_too_few", "capture-padding", "owner-after"): (
        "x0: bfloat16[2, 1] = [1.0, 1.0], static, padded with 0; "
        "x1: int64[2] = [1, 2], static, padded with -1; "
        "x2: bfloat16[2, 2, 2, 1, 1] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], kv_cache; "
        "v3 = aten.view.default(x0, [2, 1, 1]); "
        "v4 = ir.reshape_and_cache.default(x2, v3, v3, x1); return nothing; "
        "captured for 2 rows; replay([1.0, 2.0], [1, 2])"
    ),
    ("slots_may_be_of_any_dtype", "capture-refusal", "not-refused"): (
        "x0: float32[1, 1] = [1.0], static, padded with 0; return nothing; "
        "captured for 1 rows; replay with inputs of another dtype"
    ),
    ("rows_without_a_slot_go_to_the_null_block", "capture-padding", "outside-slots"): (
        "x0: bfloat16[1, 1] = [1.0], static, padded with 0; "
        "x1: int64[1] = [1], static, padded with -1; "
        "x2: bfloat16[2, 1, 2, 1, 1] = [1.0, 1.0, 1.0, 1.0], kv_cache; "
        "v3 = aten.view.default(x0, [1, 1, 1]); "
        "v4 = ir.reshape_and_cache.default(x2, v3, v3, x1); return nothing; "
        "captured for 1 rows; replay([-1.5], [-1])"
    ),
    ("compiled_functions_add_one", "capture-eager", "replay-differs"): (
        "x0: float32[2, 2] = [1.0, 1.0, 1.0, 1.0], attribute; "
        "v1, v2 = aten.chunk.default(x0, 2); return v1; replay()"
    ),
}
"""What each fault shrinks to, by fault, judge and kind."""

ROUTES = {"compiled_functions_add_one": "compiled"}
"""Of the faults that no case shows on the host as it is."""

ROWS: dict[str, tuple[str, ...] | str] = {
    "flashinfer#4398": ("ledger_is_not_checked",),
    "vllm#45487": ("seal_is_forgotten", "grown_states_are_taken_for_the_same"),
    "TensorRT-LLM#16290": ("owners_are_not_compared",),
    "vllm#44868": ("ledger_is_not_checked", "states_are_not_in_the_ledger"),
    "vllm#11596": ("owners_are_not_compared",),
    "flashinfer#2185": ("inputs_are_checked_and_not_copied",),
    "vllm#13418": ("rows_of_a_larger_batch_stay",),
    "vllm#38719": ("padding_is_zero",),
    "vllm#36939": ("rows_without_a_slot_go_to_the_null_block",),
    "sglang#24743": ("padding_is_zero", "slots_may_be_of_any_dtype"),
    "TensorRT-LLM#13278": ("rows_of_a_larger_batch_stay", "padding_is_zero"),
    "vllm#26675": "of hooks: property connector",
    "vllm#29608": "of hooks: property connector",
    "TensorRT-LLM#8275": "of streams, which a host has not: tests marked gpu",
    "vllm#28537": "of metadata: property connector",
    "vllm#48251": ("only_parameters_are_in_the_ledger",),
    "vllm#41613": ("syncs_are_not_seen",),
    "pytorch#84967": ("generator_starts_anew_at_each_replay",),
    "pytorch#144386": ("results_are_the_graphs_own", "results_go_with_the_next_replay"),
}
"""The rows of class 3 of the bugs that judges must see: faults modelled on each, or where."""

RARE = {"crash", "timeout"}
"""Kinds for what ends a process: tests of the engine show them."""


class Captures:
    """`ir.capture` in this process, so that a fault can be planted."""

    name = "ir"

    def observe(self, case: CaptureCase, provider: str, route: str, probes: object):
        return observe(case, route)


@contextmanager
def planted(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        yield


def disagreements(case: CaptureCase, route: str = "host") -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Captures()), PROPERTIES["addresses"], case, "cpu")
    results = checker.observe("host", route, None, interpreted=False)
    return [r.verdict for r in results if r.verdict.outcome is Outcome.DISAGREES]


def cases(count: int = 200) -> Iterator[CaptureCase]:
    traps = tuple(TRAPS)
    for i in range(count):
        yield drawn_case(SeededChooser(0, "mutants", "drawn", i))
        trap = traps[17 * i % len(traps)]
        yield refused_case(SeededChooser(0, "mutants", "refused", i), trap)
        yield padded_case(SeededChooser(0, "mutants", "padded", i))
        if i % 4 == 0:
            yield called_case(SeededChooser(0, "mutants", "called", i))
            yield shared_case(SeededChooser(0, "mutants", "shared", i))


def smallest(name: str, judge: str, kind: str) -> str:
    """The case to which a fault's disagreement shrinks, as the report prints it."""

    route = ROUTES.get(name, "host")

    def shows(case: CaptureCase) -> bool:
        return any((v.judge, v.kind) == (judge, kind) for v in disagreements(case, route))

    with planted(name):
        found = next(case for case in cases() if shows(case))
        shrunk = shrink(found, shows, limit=600).case
    assert disagreements(shrunk, route) == []
    return "; ".join(kind_named("capture").lines(shrunk))


@pytest.mark.slow
@pytest.mark.parametrize("pinned", SMALLEST, ids=lambda pinned: f"{pinned[0]}-{pinned[2]}")
def test_a_fault_is_seen_and_shrinks_to_its_smallest_case(pinned: tuple[str, str, str]):
    assert smallest(*pinned) == SMALLEST[pinned]


def test_every_fault_is_pinned():
    assert {name for name, _, _ in SMALLEST} == set(FAULTS)


def test_every_row_has_faults_that_are_pinned_or_says_where_it_is_judged():
    named = {name for row in ROWS.values() if isinstance(row, tuple) for name in row}
    assert named <= set(FAULTS)
    assert len(ROWS) == 19


def test_without_a_fault_no_judge_speaks():
    assert [v for case in cases(8) for v in disagreements(case)] == []


def test_every_kind_of_disagreement_is_shown_by_a_fault():
    shown = {(judge, kind) for _, judge, kind in SMALLEST}
    judges = PROPERTIES["addresses"].judges
    kinds = {(judge, kind) for judge in judges for kind in JUDGES[judge].kinds if kind not in RARE}
    assert kinds - shown == set()


def script_of(case: CaptureCase, judge: str, kind: str, place: Place, route: str = "host") -> str:
    finding = Finding(
        fingerprint="0" * 12,
        property="addresses",
        subject="ir",
        op="capture",
        provider="host",
        route=route,
        judge=judge,
        kind=kind,
        contract="",
        device="cpu",
        case=case,
        place=place,
        versions={"torch": "2.13.0"},
    )
    return kind_named("capture").script(finding, expect_capture(case))


def status_of(script: Path) -> int:
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
    finally:
        # A script ends with its process; here what it registered stays.
        for graph in ir_state.sealed:
            ir_state.unseal(graph)
        for name in [n for n in ir_state.types if n.startswith("irverify_")]:
            ir_state.unregister_type(name)
        ir_state.discard("kv_cache")
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "name",
    [
        "ledger_is_not_checked",
        "ledger_asserts",
        "inputs_are_checked_and_not_copied",
        "writes_happen_once",
        "results_are_the_graphs_own",
        "results_go_with_the_next_replay",
        "refused_captures_leave_zeros",
        "syncs_are_not_seen",
        "padding_is_zero",
        "rows_without_a_slot_go_to_the_null_block",
    ],
)
def test_a_script_exits_1_while_the_fault_is_there_and_0_without(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    script = tmp_path / "script.py"
    with planted(name):
        case, found = next((c, d[0]) for c in scripted() if (d := disagreements(c)))
        assert found.place is not None
        script.write_text(script_of(case, found.judge, found.kind, found.place))
        assert status_of(script) == 1
        assert "observed" in capsys.readouterr().out
    assert status_of(script) == 0
    assert capsys.readouterr().out == "no fault\n"


@pytest.mark.parametrize("make", [drawn_case, padded_case])
def test_a_script_needs_one_replay_to_show_memory_of_the_graph(make, tmp_path: Path):
    script, shown = tmp_path / "script.py", 0
    with planted("results_are_the_graphs_own"):
        for i in range(12):
            case = make(SeededChooser(0, "once", i))
            copied = [e for e in case.replays if e.how != "static"]
            case = replace(case, events=(*copied[:1],), noise=False)
            for found in disagreements(case):
                if found.kind == "result-shared" and found.place is not None:
                    shown += 1
                    script.write_text(script_of(case, found.judge, found.kind, found.place))
                    assert status_of(script) == 1
    assert shown >= 3


def scripted() -> Iterator[CaptureCase]:
    """Cases that a script can stand for."""
    for case in cases():
        expected = expect_capture(case)
        exact = isinstance(expected, ExpectedCapture) and (expected.exact or expected.refused)
        if exact and not case.noise:
            yield case


@pytest.mark.parametrize(
    ("change", "route", "judge", "message"),
    [
        ({"noise": True}, "host", "capture-values", "no contract settles"),
        ({}, "compiled", "capture-values", "no script for route 'compiled'"),
        ({}, "host", "capture-ledger", "no script for judge 'capture-ledger'"),
    ],
)
def test_no_script_stands_for_what_it_could_not_show(change, route: str, judge: str, message: str):
    case = replace(plain_case(SeededChooser(0, "script")), **change)
    place = Place(name="x", observed="", expected="")
    with pytest.raises(ScriptError, match=message):
        script_of(case, judge, "value", place, route)
