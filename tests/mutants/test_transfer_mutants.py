"""Faults of real transfer code, planted: each is seen and shrinks to a pinned case."""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.refused_transfers import RULES, refused_case
from fuzz.strategies.transfers import transfer_case
from oracle.checking import CaseChecker
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import kind_named
from oracle.properties import PROPERTIES
from oracle.script import ScriptError
from oracle.shrink import shrink
from oracle.subject import Probes, Subject
from oracle.subjects.transfers import observe_ir
from oracle.verdict import Outcome, Place, Verdict
from reference.transfer import expect_transfer

FAULTS = runpy.run_path(str(Path(__file__).parent / "kernels" / "transfers.py"))["FAULTS"]


SMALLEST: dict[tuple[str, str, str], str] = {
    ("replicas_by_modulo", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 2x1; "
        "P: TP 4, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("head_slot_off_by_one", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND, padding 1; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("head_offset_off_by_one", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 2x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND, padding 1; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p1 -> d1: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("head_offset_by_tp_ratio", "transfer-bytes", "wrong-byte"): (
        "mamba1 layers [0]: conv.x 2x1, ssm 4x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 2, 2 blocks of 1 tokens, kernel 1, HND; "
        "p1 -> d1: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("replicated_means_whole", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 2x1; "
        "P: TP 4, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("copies_read_too", "transfer-once", "written-twice"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 2, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("states_follow_attention", "transfer-bytes", "missing"): (
        "mla layers [0]: latent 1x1; "
        "gdn layers [1]: conv.q 2x1, conv.k 2x1, conv.v 2x1, ssm 2x1; "
        "P: TP 2, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1], [1]] -> [[1], [1]]"
    ),
    ("convolution_as_one_block", "transfer-bytes", "wrong-byte"): (
        "mamba2 layers [0]: conv.x 2x1, conv.B 1x1, conv.C 1x1, ssm 2x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 2, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("block_counts_swapped", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 3 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("own_blocks_for_both", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 2 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("tail_dropped", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 2 tokens, kernel 2, HND; "
        "D: TP 1, 2 blocks of 2 tokens, kernel 2, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("full_tail_dropped", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("logical_numbers_as_kernel_numbers", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 2 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("permuted_within_a_page", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 3 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 2 tokens, kernel 1, HND; "
        "p0 -> d0: 2 tokens, 0 cached, blocks [[1, 2]] -> [[1]]"
    ),
    ("state_kind_forgotten", "transfer-bytes", "missing"): (
        "mamba1 layers [0]: conv.x 1x1, ssm 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("prefix_hit_trims_from_the_front", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 3 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 3 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 2 tokens, 1 cached, blocks [[1, 2]] -> [[1, 2]]"
    ),
    ("prefix_hit_ignored", "transfer-outside", "written-outside"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 1 cached, blocks [[1]] -> [[1]]"
    ),
    ("null_block_is_data", "transfer-bytes", "missing"): (
        "mamba1 layers [0]: conv.x 1x1, ssm 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[0, 1]] -> [[1]]"
    ),
    ("keys_and_values_confused", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("half_a_block_is_half_the_heads", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 2x1; "
        "mamba2 layers [1]: conv.x 1x1, conv.B 1x1, conv.C 1x1, ssm 1x1; "
        "P: TP 1, 3 blocks of 1 tokens, kernel 1, HND, blocks first, shared tensors; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p1 -> d1: 1 tokens, 0 cached, blocks [[1], [2]] -> [[1], [1]]"
    ),
    ("layouts_ignored", "transfer-bytes", "wrong-byte"): (
        "full layers [0]: k 1x1, v 2x1; "
        "P: TP 1, 2 blocks of 2 tokens, kernel 2, HND; "
        "D: TP 1, 2 blocks of 2 tokens, kernel 2, NHD; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("full_hit_sends_nothing", "transfer-protocol", "not-notified"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p1 -> d1: 1 tokens, 1 cached, blocks [[1]] -> [[1]]"
    ),
    ("only_ranks_read_are_notified", "transfer-protocol", "not-notified"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 2, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("consumers_own_request_id", "transfer-protocol", "notified-wrongly"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("freed_after_the_first", "transfer-protocol", "freed-wrongly"): (
        "sliding layers [0]: k 1x1, v 1x1; "
        "mamba2 layers [1]: conv.x 1x1, conv.B 1x1, conv.C 1x1, ssm 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND, stages of [1, 1] layers; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1], [1]] -> [[1], [1]]"
    ),
    ("engines_meet_unchecked", "transfer-refusal", "not-refused"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 1 blocks of 1 tokens, kernel 1, HND; "
        "P: TP 1, 1 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[]] -> [[]]"
    ),
    ("blocks_may_repeat", "transfer-refusal", "not-refused"): (
        "mla layers [0]: latent 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1, 1]]"
    ),
    ("refused_by_value_error", "transfer-refusal", "wrong-error"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 1 blocks of 2 tokens, kernel 2, HND; "
        "D: TP 1, 1 blocks of 3 tokens, kernel 3, HND; "
        "p2 -> d2: 1 tokens, 0 cached, blocks [[]] -> [[]]"
    ),
    ("refused_without_names", "transfer-refusal", "unnamed"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 1 blocks of 1 tokens, kernel 1, HND; "
        "P: TP 1, 1 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[]] -> [[]]"
    ),
    ("asserts_instead", "transfer-refusal", "raised"): (
        "sliding layers [0]: k 1x1, v 1x1; "
        "mamba2 layers [1]: conv.x 1x1, conv.B 1x1, conv.C 1x1, ssm 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND, stages of [1, 1] layers; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1], [1]] -> [[1], [1]]"
    ),
    ("padding_not_counted", "transfer-bytes", "page-size"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND, padding 1; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("writes_a_block_late", "transfer-outside", "writes-outside"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("reads_a_block_late", "transfer-outside", "reads-outside"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("notified_twice", "transfer-protocol", "notified-wrongly"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("sliding_windows_not_sent", "transfer-bytes", "missing"): (
        "sliding layers [0]: k 1x1, v 1x1 window 1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("last_piece_dropped", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 2x1; "
        "P: TP 1, 2 blocks of 2 tokens, kernel 2, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("last_page_dropped", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("overlapping_pieces", "transfer-refusal", "refused-legal"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
    ("ids_begin_one_late", "transfer-bytes", "missing"): (
        "full layers [0]: k 1x1, v 1x1; "
        "P: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "D: TP 1, 2 blocks of 1 tokens, kernel 1, HND; "
        "p0 -> d0: 1 tokens, 0 cached, blocks [[1]] -> [[1]]"
    ),
}
"""What each fault shrinks to, by fault, judge and kind."""

ROWS: dict[str, tuple[str, ...] | str] = {
    "vllm#45330": ("head_offset_by_tp_ratio",),
    "vllm#52516": ("replicated_means_whole",),
    "sglang#31295": ("head_offset_by_tp_ratio", "reads_a_block_late"),
    "sglang#23744": ("replicas_by_modulo", "convolution_as_one_block"),
    "vllm-ascend#3366": ("copies_read_too", "head_offset_off_by_one"),
    "vllm#37635": ("head_offset_by_tp_ratio", "copies_read_too", "convolution_as_one_block"),
    "vllm#39724": ("logical_numbers_as_kernel_numbers",),
    "vllm#28677": ("own_blocks_for_both", "logical_numbers_as_kernel_numbers"),
    "vllm#41693": ("null_block_is_data",),
    "vllm#18632": ("full_hit_sends_nothing",),
    "LMCache#5151": ("full_tail_dropped", "prefix_hit_trims_from_the_front"),
    "vllm#33795": ("block_counts_swapped",),
    "vllm#43368": ("ids_begin_one_late", "keys_and_values_confused"),
    "vllm#20189": ("half_a_block_is_half_the_heads",),
    "vllm#49297": ("states_follow_attention",),
    "sglang#18939": ("state_kind_forgotten", "sliding_windows_not_sent", "tail_dropped"),
    "sglang#39846": ("freed_after_the_first", "only_ranks_read_are_notified"),
    "vllm#36958": ("consumers_own_request_id",),
    "vllm#24268": (
        "cannot occur: a lease is taken out of the table by the first of expiry and completion, "
        "and the later of them finds none; tests/ir/transfer/test_transfer_leases.py compares "
        "every order of events with the reference"
    ),
    "sglang#31218": ("permuted_within_a_page",),
}
"""The rows of class 4 of the bugs that judges must see: faults modelled on each, or why not."""

RARE = {"crash", "timeout", "unknown"}
"""Kinds for what ends a process or a solver: tests of the engine show them."""

ELSEWHERE = {"transfer-proof", "transfer-engines"}
"""Judges of other evidence, broken in test_proof_mutants.py and oracle/test_engines_judge.py."""


class Planner:
    """``ir.transfer`` in this process, so that a fault can be planted."""

    name = "ir"

    def observe(self, case, provider: str, route: str, probes: Probes):
        return observe_ir(case, route)


@contextmanager
def planted(fault: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        yield


def disagreements(case, route: str) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Planner()), PROPERTIES["transfer"], case, "cpu")
    results = checker.observe("planner", route, None, interpreted=False)
    return [r.verdict for r in results if r.verdict.outcome is Outcome.DISAGREES]


def cases() -> Iterator:
    for i in range(300):
        if i % 5 == 4:
            yield refused_case(SeededChooser(0, "mutants", i), RULES[i // 5 % len(RULES)])
        yield transfer_case(SeededChooser(0, "mutants", i))


def smallest(fault: str, judge: str, kind: str, route: str) -> str:
    """The case to which a fault's disagreement shrinks, as the report prints it."""

    def shows(case) -> bool:
        return any((v.judge, v.kind) == (judge, kind) for v in disagreements(case, route))

    with planted(fault):
        found = next(case for case in cases() if shows(case))
        shrunk = shrink(found, shows, limit=1_500).case
    assert disagreements(shrunk, route) == []
    return "; ".join(kind_named("transfer").lines(shrunk))


@pytest.mark.parametrize("pinned", SMALLEST, ids=lambda pinned: pinned[0])
def test_a_fault_is_seen_and_shrinks_to_its_smallest_case(pinned: tuple[str, str, str]):
    assert smallest(*pinned, "planned") == SMALLEST[pinned]


def test_every_fault_is_pinned():
    assert {fault for fault, _, _ in SMALLEST} == set(FAULTS)


def test_every_row_has_faults_that_are_pinned_or_a_reason():
    named = {fault for row in ROWS.values() if isinstance(row, tuple) for fault in row}
    assert named <= set(FAULTS)
    assert len(ROWS) == 20


@pytest.mark.parametrize("route", ["planned", "memory"])
def test_without_a_fault_no_judge_speaks(route: str):
    assert [v for case in cases() for v in disagreements(case, route)] == []


def test_every_kind_of_disagreement_is_shown_by_a_fault():
    shown = {(judge, kind) for _, judge, kind in SMALLEST}
    run = [judge for judge in PROPERTIES["transfer"].judges if judge not in ELSEWHERE]
    kinds = {(judge, kind) for judge in run for kind in JUDGES[judge].kinds if kind not in RARE}
    assert kinds - shown == set()


def script_of(case, judge: str, kind: str, place: Place | None) -> str:
    finding = Finding(
        fingerprint="0" * 12,
        property="transfer",
        subject="ir",
        op="transfer",
        provider="planner",
        route="memory",
        judge=judge,
        kind=kind,
        contract="",
        device="cpu",
        case=case,
        place=place or Place(name="call", observed="", expected=""),
        versions={"torch": "2.13.0"},
    )
    return kind_named("transfer").script(finding, expect_transfer(case))


def status_of(script: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "fault",
    [
        "head_offset_off_by_one",
        "copies_read_too",
        "prefix_hit_ignored",
        "full_hit_sends_nothing",
        "engines_meet_unchecked",
        "refused_without_names",
        "blocks_may_repeat",
        "asserts_instead",
    ],
)
def test_a_script_exits_1_while_the_fault_is_there_and_0_without(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    with planted(fault):
        case, found = next((c, d[0]) for c in cases() if (d := disagreements(c, "memory")))
        script = tmp_path / "script.py"
        script.write_text(script_of(case, found.judge, found.kind, found.place))
        assert status_of(script) == 1
        assert "observed" in capsys.readouterr().out
    assert status_of(script) == 0
    assert capsys.readouterr().out == "no fault\n"


def test_no_script_in_one_process_stands_for_a_fault_of_several():
    case = replace(transfer_case(SeededChooser(0, "mutants", 0)), fault="kill")
    with pytest.raises(ScriptError, match="fault 'kill' on route 'memory'; accepted: nixl,"):
        script_of(case, "transfer-engines", "not-freed", Place(name="x", observed="", expected=""))


def test_no_script_holds_more_memory_than_it_should(monkeypatch: pytest.MonkeyPatch):
    case = transfer_case(SeededChooser(0, "mutants", 0))
    monkeypatch.setattr("oracle.scripts.transfer_text.LARGEST", 10)
    with pytest.raises(ScriptError, match="bytes of memory; accepted: up to 10"):
        script_of(case, "transfer-bytes", "missing", Place(name="x", observed="", expected=""))


@pytest.mark.slow
def test_a_run_finds_shrinks_writes_and_replays_a_fault(judged, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFER_FAULT", "replicated_means_whole")
    outcome = judged(
        "transfers", faulty=True, properties=("transfer",), providers=("planner",), budget=100
    )
    assert outcome.finished.exit_code == 1
    # One finding for each part of each kind of group that is lost.
    assert {(f.judge, f.kind) for f in outcome.findings} == {("transfer-bytes", "missing")}
    finding = next(f for f in outcome.findings if f.place.name == "full k")
    assert kind_named("transfer").lines(finding.case)[0] == "full layers [0]: k 2x1, v 1x1"
    script = tmp_path / "findings" / finding.fingerprint / "script.py"
    plain = {**os.environ, "MUTANT_FAULTS": "0"}
    assert subprocess.run([sys.executable, script], env=plain, check=False).returncode == 0
