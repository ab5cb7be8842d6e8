"""Random transfers land byte for byte where the unsharded cache, cut by definition, says.

What the cases cover is a test of their strategy; the property of transfers draws many more.
"""

import pytest

CASES = 800


@pytest.mark.parametrize("shard", range(4))
def test_every_byte_lands_once_and_nothing_else_is_touched(transfers, shard: int):
    failed = {
        seed: found
        for seed in range(shard, CASES, 4)
        if (found := transfers.disagreements(transfers.random_scenario(seed)))
    }
    assert failed == {}


@pytest.mark.slow
def test_ten_thousand_distinct_cases_agree(transfers):
    scenarios = {transfers.random_scenario(seed): seed for seed in range(CASES, CASES + 10_100)}
    assert len(scenarios) >= 10_000
    assert [seed for case, seed in scenarios.items() if transfers.disagreements(case)] == []
