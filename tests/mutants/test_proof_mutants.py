"""Faults in plans that the prover refutes, with sizes at which running the plan shows them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import cast

import pytest

from fuzz.lattices.copies import copy_case, copy_count
from fuzz.lattices.tp import attention_case, proof_case, single, state_case
from ir.transfer import Worker, plan_transfer
from oracle.checking import CaseChecker
from oracle.judges.table import JUDGES
from oracle.observation.proof import Copies, Proof
from oracle.observation.split import Split
from oracle.proofs.counterexample import counterexample
from oracle.proofs.outcome import Proved, Refuted
from oracle.proofs.prover import prove
from oracle.properties import PROPERTIES
from oracle.subject import Subject
from oracle.subjects.transfers import observe_ir
from oracle.subjects.transfers.convert import as_engine, as_model
from oracle.subjects.transfers.symbolic import formulas
from oracle.verdict import Outcome
from reference.model import TransferCase

pytest.importorskip("z3", reason="needs z3-solver")


KERNELS = Path(__file__).parent / "kernels"
FAULTS = {
    name: plant
    for file in ("transfers", "proof_faults")
    for name, plant in run_path(str(KERNELS / f"{file}.py"))["FAULTS"].items()
}
MIXED = ("HND", "NHD")
REFUTED = {
    "head_slot_off_by_one": "uncovered",
    "head_offset_off_by_one": "wrong-source",
    "last_piece_dropped": "covered-twice-or-outside",
    "last_page_dropped": "beyond-its-row",
    "replicated_means_whole": "covered-twice-or-outside",
    "ids_begin_one_late": "wrong-id",
    "block_counts_swapped": "wrong-id",
    "padding_not_counted": "page-size",
    "reads_a_block_late": "read-outside",
    "reads_more_than_it_writes": "does-not-pair",
    "paddings_must_agree": "refused-legal",
    "last_rank_forgotten": "uncovered",
    "layers_swapped": "read-outside",
}
"""What is told of each fault from end to end: the first claim that fails at its sizes."""
COPIES = {
    "ids_begin_one_late": "wrong-id",
    "block_counts_swapped": "wrong-id",
    "own_blocks_for_both": "wrong-id",
    "keys_and_values_confused": "uncovered",
    "half_a_block_is_half_the_heads": "covered-twice",
    "layouts_ignored": "uncovered",
    "padding_not_counted": "page-size",
    "writes_a_block_late": "uncovered",
    "reads_a_block_late": "read-outside",
    "last_page_dropped": "beyond-its-row",
    "overlapping_pieces": "covered-twice-or-outside",
    "only_ranks_read_are_notified": "not-notified",
    "consumers_own_request_id": "not-notified",
    "reads_more_than_it_writes": "does-not-pair",
    "paddings_must_agree": "refused-legal",
    "layers_swapped": "read-outside",
}
"""The same of whatever two ranks hold."""
SPLITS = {
    "replicas_by_modulo": "covered-twice",
    "head_slot_off_by_one": "uncovered",
    "head_offset_off_by_one": "wrong-source",
    "head_offset_by_tp_ratio": "read-outside",
    "replicated_means_whole": "covered-twice-or-outside",
    "copies_read_too": "covered-twice",
    "states_follow_attention": "covered-twice-or-outside",
    "convolution_as_one_block": "read-outside",
    "told_too_often": "notified-wrongly",
    "last_rank_forgotten": "uncovered",
}
"""The same of maps of ranks."""
OPEN = {"unknown", "gave-up", "no-polynomial", "nothing-claimed"} | {
    "no-topology",
    "no-such-copy",
    "one-for-all",
}
"""Why a proof is undecided: shown by tests/oracle/proofs."""
TOPOLOGIES = ((4, 2, 4), (2, 4, 1), (2, 2, 1), (4, 4, 2), (2, 1, 2))


SHARED = (((2, 1), 1), ((1, 2), 1), ((4, 2), 1))


def end_to_end() -> Iterator[TransferCase]:
    for topology in TOPOLOGIES:
        for layouts in (MIXED, ("HND", "HND")):
            yield single(attention_case(topology, layouts, 2))


def laid_out() -> Iterator[TransferCase]:
    """Both layouts, together and apart, blocks of one length and of unlike, and a state."""
    wanted = {
        ("full", MIXED, (False, False), (1, 1)),
        ("full", ("HND", "HND"), (True, True), (1, 1)),
        ("full", ("NHD", "HND"), (True, True), (2, 1)),
        ("full", ("HND", "HND"), (False, False), (2, 1)),
        ("mamba2", ("HND", "HND"), (False, False), (1, 1)),
    }
    for case in map(copy_case, range(copy_count())):
        sides = case.producer, case.consumer
        kernels, blocks = ([getattr(e, f"{n}_tokens") for e in sides] for n in ("kernel", "block"))
        found = (
            case.model.groups[0].kind,
            tuple(e.layout for e in sides),
            tuple(e.blocks_first for e in sides),
            tuple(blocks),
        )
        if found in wanted and (kernels == blocks or found[2] == (False, False)):
            yield case


def topologies() -> Iterator[TransferCase]:
    for topology in TOPOLOGIES:
        yield attention_case(topology, ("HND", "HND"), 1)
    for sizes, shares in SHARED:
        yield state_case(sizes, shares, 1)


def refuted(cases: Iterator[TransferCase], route: str) -> tuple[TransferCase, Refuted] | None:
    for case in cases:
        found = observe_ir(case, route)
        if isinstance(found, Proof | Copies | Split):
            answer = prove(case, found).refuted
            if answer is not None:
                return case, answer
    return None


def proved(case: TransferCase) -> Proved:
    found = formulas(case)
    assert isinstance(found, Proof)
    return prove(case, found)


class Planner:
    name = "ir"

    def observe(self, case, provider, route, probes):
        return observe_ir(case, route)


def disagrees(case, route: str) -> bool:
    checker = CaseChecker(cast(Subject, Planner()), PROPERTIES["transfer"], case, "cpu")
    results = checker.observe("planner", route, None, interpreted=False)
    return any(r.verdict.outcome is Outcome.DISAGREES for r in results)


@pytest.mark.parametrize("fault", REFUTED)
def test_a_fault_is_refuted_with_sizes_that_replay(fault: str):
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        found = refuted(end_to_end(), "proved")
        assert found is not None
        case, answer = found
        assert answer.kind == REFUTED[fault]
        wrong = counterexample(case, answer)
        assert disagrees(wrong, "planned")
        assert disagrees(wrong, "memory")
    assert not disagrees(wrong, "planned")
    assert proved(case).refuted is None


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=pytest.mark.slow) if f.startswith("half") else f for f in COPIES],
)
def test_a_fault_is_refuted_whatever_ranks_hold_and_replays(fault: str):
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        found = refuted(laid_out(), "proved-copy")
        assert found is not None
        case, answer = found
        assert answer.kind == COPIES[fault]
        wrong = counterexample(case, answer)
        assert disagrees(wrong, "planned")
        assert disagrees(wrong, "memory")
    assert not disagrees(wrong, "planned")


@pytest.mark.parametrize("fault", SPLITS)
def test_a_fault_in_the_map_of_ranks_is_refuted_and_replays(fault: str):
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch)
        found = refuted(topologies(), "proved-split")
        assert found is not None
        case, answer = found
        assert answer.kind == SPLITS[fault]
        assert disagrees(case, "planned")
    assert not disagrees(case, "planned")
    assert refuted(iter([case]), "proved-split") is None


@pytest.mark.parametrize("route", ["proved", "proved-copy"])
def test_rows_that_wrap_are_refuted_with_addresses_at_which_they_do(route: str):
    """No run of a case has memory there: the plan itself is made at the addresses that are told."""
    with pytest.MonkeyPatch.context() as patch:
        FAULTS["rows_past_the_end"](patch)
        found = refuted(end_to_end() if route == "proved" else laid_out(), route)
        assert found is not None
        case, answer = found
        assert answer.kind == "wraps"
        assert max(ends_of_rows(counterexample(case, answer), answer)) > 1 << 64
    assert max(ends_of_rows(counterexample(case, answer), answer)) <= 1 << 64


def ends_of_rows(case: TransferCase, refuted: Refuted) -> list[int]:
    """Where the rows of a rank's plan end, with memory at the addresses of a counterexample."""
    sizes, bases, engines = refuted.sizes, {}, {}
    sides = (("P", case.producer, case.producer_id), ("D", case.consumer, case.consumer_id))
    for side, engine, name in sides:
        engine = replace(engine, num_blocks=sizes[f"n.{side}"])
        engines[side] = as_engine(engine, as_model(case.model), name)
        # A claim is about one side's addresses: the other side lies anywhere.
        at = next((n for symbol, n in sizes.items() if symbol.startswith(f"b.{side}.")), 1 << 20)
        bases[side] = []
        for tensor, stride in enumerate(engines[side].page_strides(0)):
            at += sizes.get(f"g.{side}.{tensor}", 0) if tensor else 0
            bases[side].append(at)
            at += stride * engine.num_blocks
        assert at <= 1 << 64
    plan = plan_transfer(
        engines["P"],
        engines["D"],
        Worker(0, refuted.rank[1]),
        producer_bases={worker: bases["P"] for worker in engines["P"].workers},
        consumer_bases=bases["D"],
    )
    return [
        int(address) + int(stride) * (int(count) - 1) + int(length)
        for channel in plan.channels
        for rows in (channel.consumer_rows, channel.producer_rows)
        for address, length, _, stride, count in rows
    ]


def test_every_kind_is_shown_by_a_fault():
    shown = {*REFUTED.values(), *COPIES.values(), *SPLITS.values(), "wraps"}
    assert set(JUDGES["transfer-proof"].kinds) - shown == OPEN


@pytest.mark.parametrize("index", range(0, 3_160, 632))
def test_topologies_are_proved(index: int):
    case = proof_case(index)
    found = proved(case)
    assert (found.unknown, found.refuted) == ("", None)
    assert found.claims > 15
