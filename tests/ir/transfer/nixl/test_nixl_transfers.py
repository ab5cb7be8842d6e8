"""Engines in processes of their own exchange random caches, byte for byte, over both transports."""

import pytest

from ir.transfer.nixl import Fault

CASES = 24


@pytest.mark.slow
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_every_byte_lands_where_the_reference_says(transfers, engines, cluster, push: bool):
    failed = {}
    for seed in range(CASES):
        scenario = transfers.random_scenario(seed)
        outcome = engines.run(cluster, scenario, push=push)
        if found := engines.faults_of(scenario, outcome, Fault.NONE):
            failed[seed] = found
    assert failed == {}
