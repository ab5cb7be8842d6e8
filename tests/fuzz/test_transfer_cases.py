"""Random transfers are legal, those broken on purpose break the rule they are named after."""

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.refused_transfers import RULES, broken_rules, refused_case
from fuzz.strategies.transfers import transfer_case
from reference.model import STATE_KINDS, TransferCase, digest

CASES = [transfer_case(SeededChooser(0, "strategy", i)) for i in range(1_500)]


def test_every_case_is_legal():
    assert [case for case in CASES if broken_rules(case)] == []


def test_cases_are_distinct():
    assert len({digest(case) for case in CASES}) == len(CASES)


def test_no_block_holds_two_things():
    for case in CASES:
        for side, engine in (("producer", case.producer), ("consumer", case.consumer)):
            lists = [getattr(request, f"{side}_blocks") for request in case.requests]
            pools = [[b for x in lists for b in x[g] if b] for g in range(len(case.model.groups))]
            if engine.shares_tensors:
                pools = [[b for pool in pools for b in pool]]
            assert all(len(set(pool)) == len(pool) for pool in pools)


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_case_breaks_its_rule(rule: str):
    for i in range(8):
        assert rule in broken_rules(refused_case(SeededChooser(0, rule, i), rule))


def test_the_cases_cover_what_can_differ():
    def count(of) -> int:
        return sum(1 for case in CASES if of(case))

    def request(case: TransferCase):
        return case.requests[0]

    seen = {
        "more producers": count(lambda c: c.producer.tp > c.consumer.tp),
        "more consumers": count(lambda c: c.producer.tp < c.consumer.tp),
        "layouts differ": count(lambda c: c.producer.layout != c.consumer.layout),
        "placements differ": count(lambda c: c.producer.blocks_first != c.consumer.blocks_first),
        "kernels differ": count(lambda c: c.producer.kernel_tokens != c.consumer.kernel_tokens),
        "kernels below blocks": count(lambda c: c.producer.kernel_tokens < c.producer.block_tokens),
        "numbers of blocks differ": count(lambda c: c.producer.num_blocks != c.consumer.num_blocks),
        "stages differ": count(lambda c: c.producer.stage_layers != c.consumer.stage_layers),
        "tensors shared": count(lambda c: c.consumer.shares_tensors and len(c.model.groups) > 1),
        "several requests": count(lambda c: len(c.requests) > 1),
        "no hit": count(lambda c: request(c).cached_tokens == 0),
        "partial hit": count(lambda c: 0 < request(c).cached_tokens < request(c).prompt_tokens),
        "full hit": count(lambda c: request(c).cached_tokens == request(c).prompt_tokens),
        "null blocks": count(lambda c: any(0 in x for x in request(c).producer_blocks)),
        "a block's end": count(lambda c: request(c).prompt_tokens % c.producer.block_tokens == 0),
        "one past it": count(lambda c: request(c).prompt_tokens % c.producer.block_tokens == 1),
        "copies": count(
            lambda c: any(
                p.units < max(c.producer.tp, c.consumer.tp) and p.name == "k"
                for g in c.model.groups
                for p in g.parts
            )
        ),
    }
    for kind in ("full", "sliding", "mla", *STATE_KINDS):
        seen[kind] = count(lambda c, kind=kind: any(g.kind == kind for g in c.model.groups))
    assert {name: n for name, n in seen.items() if n < 100} == {}
