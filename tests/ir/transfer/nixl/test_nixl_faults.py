"""A producer that dies, stops, restarts or garbles its metadata costs its requests, no more.

Meanwhile a second producer is read from, and afterwards the same blocks are filled by the first.
"""

import pytest

from ir.transfer.nixl import Fault, Status

SEEDS = (3, 7)
FAULTS = [fault for fault in Fault if fault is not Fault.NONE]

ENDS = {
    Fault.KILL: {Status.FAILED},
    Fault.STOP: {Status.DEADLINE},
    Fault.RESTART: {Status.FAILED},
    Fault.CORRUPT: {Status.FAILED},
    Fault.ABORT: {Status.ABORTED},
}

REASONS = {
    Fault.KILL: ("DISCONNECT", "'P' is gone"),
    Fault.STOP: ("its deadline has passed",),
    Fault.RESTART: ("'P' is gone", "DISCONNECT"),
    Fault.CORRUPT: ("another digest", "metadata that NIXL can load"),
    Fault.ABORT: ("aborted",),
}


@pytest.mark.slow
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
def test_a_fault_costs_the_request_that_it_hits(
    transfers, engines, cluster, fault: Fault, push: bool
):
    for seed in SEEDS:
        scenario = transfers.random_scenario(seed)
        outcome = engines.run(cluster, scenario, push=push, fault=fault)
        assert engines.faults_of(scenario, outcome, fault) == []
        assert outcome.first.status in ENDS[fault]
        assert any(reason in outcome.first.error for reason in REASONS[fault])


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.STOP, Fault.ABORT], ids=lambda fault: fault.value)
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_blocks_of_a_request_that_ended_early_are_not_given_away(
    transfers, engines, cluster, fault: Fault, push: bool
):
    outcome = engines.run(cluster, transfers.random_scenario(3), push=push, fault=fault)
    assert outcome.first.quarantined
    assert outcome.reuse_refused
