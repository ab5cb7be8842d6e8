"""What must be refused, by whom and under which rule."""

from dataclasses import replace

import pytest

from reference.model import TransferCase
from reference.transfer import (
    CachedGroup,
    CachedModel,
    CachedPart,
    Engine,
    Refused,
    Transfer,
    refused_pair,
    refused_request,
)

KEYS = CachedGroup("full", (0,), (CachedPart("k", 4, 1), CachedPart("v", 4, 1)))
STATE = CachedGroup("gdn", (1,), (CachedPart("ssm", 4, 1, True),))
MODEL = CachedModel(query_heads=24, groups=(KEYS, STATE))
ENGINE = Engine(
    tp=2,
    stage_layers=(2,),
    num_blocks=5,
    block_tokens=4,
    kernel_tokens=2,
    layout="HND",
    blocks_first=True,
)
REQUEST = Transfer(
    producer_request="p",
    consumer_request="d",
    prompt_tokens=7,
    cached_tokens=0,
    producer_blocks=((1, 2), (0, 3)),
    consumer_blocks=((4, 3), (1,)),
)
CASE = TransferCase(model=MODEL, producer=ENGINE, consumer=ENGINE, requests=(REQUEST,))


def test_a_sound_case_is_not_refused():
    assert refused_pair(CASE) is None
    assert refused_request(CASE, REQUEST) is None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"tp": 0}, "tp-below-one"),
        ({"kernel_tokens": 0}, "kernel-tokens-below-one"),
        ({"page_padding": -1}, "negative-padding"),
        ({"block_tokens": 5}, "kernel-splits-block"),
        ({"stage_layers": (2, 0)}, "stages-miss-layers"),
        ({"stage_layers": (1,)}, "stages-miss-layers"),
        ({"tp": 5}, "query-heads"),
        ({"tp": 3}, "shards"),
        ({"tp": 8}, "shards"),
        ({"shares_tensors": True, "blocks_first": False}, "unlike-groups-share"),
    ],
)
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_an_engine_that_cannot_exist_is_refused_by_name(changes, rule: str, side: str):
    case = replace(CASE, **{side: replace(ENGINE, **changes)})
    name = {"producer": "P", "consumer": "D"}[side]
    assert refused_pair(case) == Refused(scope="engine", rule=rule, names=(name,))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"consumer_id": "P"}, "same-id"),
        ({"consumer_model": replace(MODEL, query_heads=48)}, "models"),
        ({"consumer": replace(ENGINE, kernel_tokens=3, block_tokens=3)}, "kernels"),
    ],
)
def test_engines_that_cannot_meet_are_refused_by_both_names(changes, rule: str):
    refused = refused_pair(replace(CASE, **changes))
    names = ("P", changes.get("consumer_id", "D"))
    assert refused == Refused(scope="pair", rule=rule, names=names)


def test_copies_are_for_parts_that_need_not_be_split():
    alone = replace(CASE, model=replace(MODEL, groups=(KEYS, replace(STATE, layers=(1,)))))
    both = replace(alone, model=replace(MODEL, groups=(replace(KEYS, layers=(0, 1)),)))
    eight = replace(ENGINE, tp=8)
    assert refused_pair(replace(both, producer=eight, consumer=eight)) is None
    assert refused_pair(replace(alone, producer=eight, consumer=eight)) is not None


def test_sizes_that_divide_neither_way_are_refused():
    model = CachedModel(query_heads=6, groups=(replace(KEYS, parts=(CachedPart("k", 6, 1),)),))
    sizes = {"stage_layers": (1,)}
    case = replace(
        CASE,
        model=model,
        producer=replace(ENGINE, tp=2, **sizes),
        consumer=replace(ENGINE, tp=3, **sizes),
    )
    assert refused_pair(case) == Refused(scope="pair", rule="tp", names=("P", "D"))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"producer_blocks": ((1, 2),)}, "lists"),
        ({"prompt_tokens": 0}, "empty-prompt"),
        ({"cached_tokens": 1}, "cached-tokens"),
        ({"cached_tokens": 8}, "cached-tokens"),
        ({"cached_tokens": -1}, "cached-tokens"),
        ({"consumer_blocks": ((4, 5), (1,))}, "no-such-block"),
        ({"producer_blocks": ((1, -1), (3,))}, "no-such-block"),
        ({"producer_blocks": ((1, 2), (0,))}, "states"),
        ({"consumer_blocks": ((4, 3), (1, 2))}, "states"),
        ({"consumer_blocks": ((4,), (1,))}, "too-few-blocks"),
        ({"consumer_blocks": ((4, 4), (1,))}, "block-twice"),
        ({"producer_blocks": ((1, 0), (3,))}, "lost-token"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_the_consumers_id(changes, rule: str):
    refused = refused_request(CASE, replace(REQUEST, **changes))
    assert refused == Refused(scope="request", rule=rule, names=("d",))


@pytest.mark.parametrize("cached", [2, 4, 6, 7])
def test_whole_units_and_all_of_the_prompt_can_be_cached(cached: int):
    assert refused_request(CASE, replace(REQUEST, cached_tokens=cached)) is None


def test_groups_that_share_tensors_share_block_numbers():
    request = replace(REQUEST, consumer_blocks=((4, 3), (3,)))
    assert refused_request(CASE, request) is None
    shared = replace(CASE, consumer=replace(ENGINE, shares_tensors=True))
    refused = refused_request(shared, request)
    assert refused is not None
    assert refused.rule == "block-twice"
