"""Random transfers land byte for byte where the unsharded cache, cut by definition, says."""

import pytest

CASES = 2_400


@pytest.mark.parametrize("shard", range(8))
def test_every_byte_lands_once_and_nothing_else_is_touched(transfers, shard: int):
    failed = {
        seed: found
        for seed in range(shard, CASES, 8)
        if (found := transfers.disagreements(transfers.random_scenario(seed)))
    }
    assert failed == {}


@pytest.mark.slow
def test_ten_thousand_distinct_cases_agree(transfers):
    scenarios = {transfers.random_scenario(seed): seed for seed in range(CASES, CASES + 10_100)}
    assert len(scenarios) >= 10_000
    assert [seed for case, seed in scenarios.items() if transfers.disagreements(case)] == []


def test_the_cases_cover_what_can_differ(transfers):
    cases = [transfers.random_scenario(seed) for seed in range(CASES)]
    seen = {
        kind.value: sum(any(g.kind is kind for g in c.producer.model.groups) for c in cases)
        for kind in {g.kind for c in cases for g in c.producer.model.groups}
    }
    assert len(seen) == 6
    assert min(seen.values()) >= 100

    def count(of) -> int:
        return sum(1 for case in cases if of(case))

    at_least_fifty = {
        "more producers": count(lambda c: c.producer.tp > c.consumer.tp),
        "more consumers": count(lambda c: c.producer.tp < c.consumer.tp),
        "layouts differ": count(lambda c: c.producer.layout != c.consumer.layout),
        "placements differ": count(lambda c: c.producer.placement != c.consumer.placement),
        "kernels differ": count(lambda c: c.producer.kernel_tokens != c.consumer.kernel_tokens),
        "stages differ": count(lambda c: c.producer.stage_layers != c.consumer.stage_layers),
        "tensors shared": count(lambda c: c.consumer.shares_tensors),
        "partial hit": count(lambda c: 0 < c.request.cached_tokens < c.request.prompt_tokens),
        "full hit": count(lambda c: c.request.cached_tokens == c.request.prompt_tokens),
        "null blocks": count(lambda c: any(0 in x for x in c.request.producer_blocks)),
        "copies": count(
            lambda c: any(
                p.units < max(c.producer.tp, c.consumer.tp) and p.name == "k"
                for g in c.producer.model.groups
                for p in g.parts
            )
        ),
    }
    assert {name: n for name, n in at_least_fifty.items() if n < 50} == {}
