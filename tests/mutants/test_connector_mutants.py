"""Faults of runners and connectors, planted: each is seen and shrinks to a pinned case."""

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.connectors import by_hand_case, connector_case
from oracle.checking import CaseChecker
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import kind_named
from oracle.properties import PROPERTIES
from oracle.script import ScriptError
from oracle.shrink import shrink
from oracle.subject import Probes, Subject
from oracle.subjects.connector import observe_ir
from oracle.verdict import Outcome, Place, Verdict
from reference.model import ConnectorCase
from reference.serving import expect_run

KERNELS = Path(__file__).parent / "kernels"
FAULTS = {
    name: fault
    for file in ("runners.py", "connectors.py")
    for name, fault in runpy.run_path(str(KERNELS / file))["FAULTS"].items()
}

SMALLEST: dict[tuple[str, str, str, str, str], str] = {
    ("dummy_metadata_lacks_a_field", "connector-completion", "raised", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    (
        "full_is_refused_where_it_could_give_way",
        "connector-completion",
        "refused-legal",
        "file",
        "full",
    ): ("file, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"),
    ("dummy_run_has_a_way_of_its_own", "connector-completion", "refused-legal", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("undeclared_connectors_pass", "connector-completion", "not-refused", "undeclared", "full"): (
        "undeclared, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request"
    ),
    (
        "undeclared_connectors_are_refused_late",
        "connector-completion",
        "refused-late",
        "undeclared",
        "full",
    ): (
        "undeclared, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve nobody"
    ),
    (
        "what_hooks_record_is_not_looked_at",
        "connector-completion",
        "not-refused",
        "claiming",
        "full",
    ): (
        "claiming, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    (
        "refusal_is_no_documented_error",
        "connector-completion",
        "wrong-error",
        "undeclared",
        "full",
    ): (
        "undeclared, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request"
    ),
    ("graphs_are_given_up_silently", "connector-completion", "mode", "file", "full"): (
        "file, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("dummy_runs_are_left_out", "connector-completion", "other-steps", "file", "eager"): (
        "none, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "dummy run of 1"
    ),
    ("hooks_are_turned_off_in_dummy_runs", "connector-hooks", "not-entered", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("last_layer_is_not_saved", "connector-hooks", "misplaced", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("captures_start_no_loads", "connector-hooks", "misplaced", "staged", "full"): (
        "staged of 64 tokens, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks "
        "of 1, 1 a request"
    ),
    ("steps_are_cleared_twice", "connector-hooks", "misplaced", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("graphs_are_replayed_twice", "connector-hooks", "not-replayed", "staged", "full"): (
        "staged of 64 tokens, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks "
        "of 1, 1 a request; "
        "dummy run of 1"
    ),
    ("real_steps_may_run_twice", "connector-hooks", "accepted", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, real: start_load_kv:0 begin_pass:0 begin_pass:0"
    ),
    ("passes_may_be_left_half_way", "connector-hooks", "accepted", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: start_load_kv:0 begin_pass:0 wait_for_layer_load:0 begin_pass:0"
    ),
    ("dummy_steps_run_once", "connector-hooks", "refused", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: start_load_kv:0 begin_pass:0 begin_pass:0"
    ),
    ("refused_calls_reach_the_connector", "connector-hooks", "forwarded", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: save_kv_layer:0"
    ),
    ("steps_may_end_early", "connector-hooks", "ended-early", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: "
    ),
    ("steps_of_two_passes_do_not_end", "connector-hooks", "not-ended", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: start_load_kv:0 begin_pass:0 begin_pass:0 wait_for_layer_load:0 "
        "save_kv_layer:0 wait_for_save:0 get_finished:0"
    ),
    ("who_finished_is_forgotten", "connector-hooks", "finished", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve nobody, finished ['r0']"
    ),
    ("dummy_runs_hear_again_who_finished", "connector-hooks", "finished", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve nobody, finished ['r0']; "
        "dummy run of 1"
    ),
    ("calls_with_nothing_bound_do_nothing", "connector-metadata", "unbound", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("dummy_metadata_is_made_by_the_runner", "connector-metadata", "not-own", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    ("dummy_metadata_is_made_once", "connector-metadata", "not-fresh", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "dummy run of 1"
    ),
    ("failed_steps_stay_bound", "connector-metadata", "left-bound", "by-hand", ""): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "by hand, dummy: "
    ),
    ("connector_counts_in_the_output", "connector-metadata", "output-changed", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
    ("kv_is_never_loaded", "connector-kv", "wrong-kv", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 2 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; "
        "serve r1 [0, 1] tokens 1 to 2 in [2, 1], load 1"
    ),
    ("kv_is_never_loaded", "connector-requests", "logits", "file", "eager"): (
        "file, eager, graphs of [2] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 2 a "
        "request; "
        "serve r0 [0, 1] tokens 0 to 2 in [1, 2], save 2; "
        "serve r1 [0, 1] tokens 1 to 2 in [2, 1], load 2"
    ),
    ("slots_are_those_of_the_capture", "connector-kv", "wrong-kv", "staged", "full"): (
        "none, full, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
    ("loads_go_to_the_first_block", "connector-kv", "wrong-kv", "file", "eager"): (
        "file, eager, graphs of [2] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 2 a "
        "request; "
        "serve r0 [0, 1] tokens 0 to 2 in [1, 2], save 2; "
        "serve r0 [0, 1] tokens 1 to 2 in [1, 2], load 2"
    ),
    ("slots_of_a_larger_batch_stay", "connector-kv", "wrong-kv", "none", "full"): (
        "none, full, graphs of [2] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1]; r1 [1] tokens 0 to 1 in [2]; "
        "serve r0 [0] tokens 0 to 1 in [2]"
    ),
    ("rows_that_pad_write_to_the_null_block", "connector-kv", "written-outside", "none", "full"): (
        "none, full, graphs of [2] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
    ("dummy_rows_have_slot_zero", "connector-kv", "dummy-wrote", "none", "eager"): (
        "none, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a request"
    ),
    (
        "prompts_of_whole_blocks_lose_their_last",
        "connector-store",
        "missing-entry",
        "file",
        "eager",
    ): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1"
    ),
    ("what_failed_to_load_is_saved", "connector-store", "extra-entry", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], load 1, save 1"
    ),
    ("entries_are_written_in_place", "connector-store", "torn-entry", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1, dies at sync 0"
    ),
    ("kv_is_saved_before_attention", "connector-store", "wrong-entry", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1"
    ),
    ("what_was_written_stays_beside_the_entry", "connector-store", "stray-file", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1"
    ),
    ("entries_of_all_models_are_one", "connector-requests", "matched", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; "
        "restart as model n; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
    ("entries_of_all_models_are_one", "connector-store", "missing-entry", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "restart as model n; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1"
    ),
    ("last_block_is_never_matched", "connector-requests", "matched", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
    ("a_dying_save_goes_on", "connector-requests", "outlived", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1, dies at sync 0"
    ),
    ("failed_loads_are_kept_quiet", "connector-requests", "not-failed", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], load 1"
    ),
    ("a_failure_is_everybodys", "connector-requests", "failed-wrongly", "file", "eager"): (
        "file, eager, graphs of [2] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; r1 [0] tokens 0 to 1 in [2], load 1"
    ),
    ("what_is_asked_for_is_received", "connector-requests", "received-wrongly", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], load 1"
    ),
    ("what_is_taken_is_sent", "connector-requests", "sent-wrongly", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "entry [0]: blocked; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1"
    ),
    ("answers_are_repeated_in_dummy_runs", "connector-requests", "sent-wrongly", "file", "eager"): (
        "file, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1], save 1; "
        "dummy run of 1"
    ),
    ("all_tokens_are_of_the_first_row", "connector-requests", "token", "file", "eager"): (
        "none, eager, graphs of [2] rows, float32: 1 layers, 1 heads, 2 blocks of 2, 1 a "
        "request; "
        "serve r0 [0, 1] tokens 0 to 2 in [1]"
    ),
    ("rows_come_back_in_reverse", "connector-requests", "logits", "none", "eager"): (
        "none, eager, graphs of [2] rows, float32: 1 layers, 1 heads, 3 blocks of 1, 2 a "
        "request; "
        "serve r0 [0, 1] tokens 0 to 2 in [1, 2]"
    ),
    ("a_row_that_pads_comes_back", "connector-requests", "logits", "none", "eager"): (
        "none, eager, graphs of [1] rows, float32: 1 layers, 1 heads, 2 blocks of 1, 1 a "
        "request; "
        "serve r0 [0] tokens 0 to 1 in [1]"
    ),
}
"""By fault, judge, kind, and where it is looked for: connector and mode, or steps by hand."""

ROWS: dict[str, tuple[str, ...] | str] = {
    "flashinfer#4398": "no workspace in this model: property addresses",
    "vllm#45487": "no workspace in this model: property addresses",
    "TensorRT-LLM#16290": "the ledger of captures: property addresses",
    "vllm#44868": ("slots_are_those_of_the_capture",),
    "vllm#11596": "the ledger of captures: property addresses",
    "flashinfer#2185": ("slots_are_those_of_the_capture",),
    "vllm#13418": ("slots_of_a_larger_batch_stay",),
    "vllm#38719": ("dummy_rows_have_slot_zero",),
    "vllm#36939": ("rows_that_pad_write_to_the_null_block",),
    "sglang#24743": ("slots_of_a_larger_batch_stay",),
    "TensorRT-LLM#13278": ("rows_that_pad_write_to_the_null_block", "graphs_are_given_up_silently"),
    "vllm#26675": ("dummy_run_has_a_way_of_its_own", "hooks_are_turned_off_in_dummy_runs"),
    "vllm#29608": ("what_hooks_record_is_not_looked_at", "kv_is_never_loaded"),
    "TensorRT-LLM#8275": "an event on another stream than the replay's: a host has no streams",
    "vllm#28537": ("dummy_metadata_lacks_a_field", "dummy_metadata_is_made_by_the_runner"),
    "vllm#48251": "the ledger of captures: property addresses",
    "vllm#41613": "refusals of captures: property addresses",
    "pytorch#84967": "no random numbers in this model: property addresses",
    "pytorch#144386": "held outputs: property addresses",
}
"""The rows of class 3 of the bugs that judges must see: faults modelled on each, or why not."""

RARE = {"crash", "timeout"}
"""Kinds for what ends a process: tests of the engine show them."""


class Workers:
    """``ir.connector`` in this process, so that a fault can be planted."""

    name = "ir"

    def observe(self, case: ConnectorCase, provider: str, route: str, probes: Probes):
        return observe_ir(case, route)


@contextmanager
def planted(fault: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        yield


def disagreements(case: ConnectorCase) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Workers()), PROPERTIES["connector"], case, "cpu")
    results = checker.observe("runner", "run", None, interpreted=False)
    return [r.verdict for r in results if r.verdict.outcome is Outcome.DISAGREES]


def cases(connector: str, mode: str, count: int) -> Iterator[ConnectorCase]:
    for i in range(count):
        chooser = SeededChooser(0, "mutants", i)
        if connector == "by-hand":
            yield by_hand_case(chooser)
        else:
            yield connector_case(chooser, connector=connector, mode=mode)


def smallest(fault: str, judge: str, kind: str, connector: str, mode: str) -> str:
    """The case to which a fault's disagreement shrinks, as the report prints it."""

    def shows(case: ConnectorCase) -> bool:
        return any((v.judge, v.kind) == (judge, kind) for v in disagreements(case))

    with planted(fault):
        found = next(case for case in cases(connector, mode, 400) if shows(case))
        shrunk = shrink(found, shows, limit=1_500).case
    assert disagreements(shrunk) == []
    return "; ".join(kind_named("connector").lines(shrunk))


@pytest.mark.parametrize("pinned", SMALLEST, ids=lambda pinned: f"{pinned[0]}-{pinned[2]}")
def test_a_fault_is_seen_and_shrinks_to_its_smallest_case(pinned: tuple[str, str, str, str, str]):
    assert smallest(*pinned) == SMALLEST[pinned]


def test_every_fault_is_pinned():
    assert {pinned[0] for pinned in SMALLEST} == set(FAULTS)


def test_every_row_has_faults_that_are_pinned_or_a_reason():
    named = {fault for row in ROWS.values() if isinstance(row, tuple) for fault in row}
    assert named <= set(FAULTS)
    assert len(ROWS) == 19


def test_every_kind_of_disagreement_is_shown_by_a_fault():
    shown = {(judge, kind) for _, judge, kind, _, _ in SMALLEST}
    judges = PROPERTIES["connector"].judges
    kinds = {(judge, kind) for judge in judges for kind in JUDGES[judge].kinds if kind not in RARE}
    assert kinds - shown == set()


@pytest.mark.parametrize(
    ("connector", "mode"),
    [("by-hand", ""), ("file", "eager"), ("staged", "full"), ("none", "full")],
)
def test_without_a_fault_no_judge_speaks(connector: str, mode: str):
    assert [v for case in cases(connector, mode, 12) for v in disagreements(case)] == []


def script_of(case: ConnectorCase, route: str = "run") -> str:
    finding = Finding(
        fingerprint="0" * 12,
        property="connector",
        subject="ir",
        op="connector",
        provider="runner",
        route=route,
        judge="connector-kv",
        kind="wrong-kv",
        contract="",
        device="cpu",
        case=case,
        place=Place(name="kv", observed="", expected=""),
        versions={"torch": "2.13.0"},
    )
    return kind_named("connector").script(finding, expect_run(case))


def status_of(script: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("fault", "connector", "mode"),
    [
        ("undeclared_connectors_pass", "undeclared", "full"),
        ("undeclared_connectors_are_refused_late", "undeclared", "full"),
        ("graphs_are_given_up_silently", "file", "full"),
        ("last_layer_is_not_saved", "file", "eager"),
        ("captures_start_no_loads", "staged", "full"),
        ("graphs_are_replayed_twice", "staged", "full"),
        ("steps_may_end_early", "by-hand", ""),
        ("refused_calls_reach_the_connector", "by-hand", ""),
        ("dummy_metadata_is_made_by_the_runner", "file", "eager"),
        ("kv_is_never_loaded", "file", "eager"),
        ("kv_is_saved_before_attention", "file", "eager"),
        ("what_is_taken_is_sent", "file", "eager"),
        ("entries_of_all_models_are_one", "file", "eager"),
        ("dummy_runs_hear_again_who_finished", "file", "eager"),
        ("answers_are_repeated_in_dummy_runs", "file", "eager"),
        ("all_tokens_are_of_the_first_row", "none", "eager"),
        ("a_row_that_pads_comes_back", "none", "eager"),
    ],
)
def test_a_script_exits_1_while_the_fault_is_there_and_0_without(
    fault: str, connector: str, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    script = tmp_path / "script.py"
    with planted(fault):
        case = next(case for case in cases(connector, mode, 400) if disagreements(case))
        script.write_text(script_of(case))
        assert status_of(script) == 1
        assert "observed" in capsys.readouterr().out
    assert status_of(script) == 0
    assert capsys.readouterr().out == "no fault\n"


def test_no_script_stands_for_a_compiled_model():
    case = next(cases("file", "eager", 1))
    with pytest.raises(ScriptError, match="route 'compiled'; accepted: run"):
        script_of(case, "compiled")
