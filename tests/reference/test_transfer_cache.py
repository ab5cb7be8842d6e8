"""The unsharded cache, its codes, and how it is cut into shards, blocks and pages."""

import numpy as np
import pytest

from fuzz.catalogue.geometries import GroupGeometry
from reference.transfer import (
    POISON,
    SENTINEL,
    TP_SIZES,
    CachedGroup,
    CachedPart,
    Engine,
    admitted_pairs,
    decode,
    lane,
    topologies,
)
from reference.transfer.cache import block_pages, page_sizes, shards, state_pages, tensors_of
from reference.transfer.codes import code, full_part

HEADS = (CachedPart("k", 2, 3), CachedPart("v", 2, 3))
ATTENTION = CachedGroup("full", (0, 1), HEADS)
STATE = CachedGroup("gdn", (2,), (CachedPart("conv.x", 4, 5), CachedPart("ssm", 4, 7)))


def _engine(**changes) -> Engine:
    given = {
        "tp": 1,
        "stage_layers": (3,),
        "num_blocks": 4,
        "block_tokens": 4,
        "kernel_tokens": 2,
        "layout": "HND",
        "blocks_first": False,
    }
    return Engine(**(given | changes))


def test_a_code_is_its_coordinates():
    at = {
        "request": 5,
        "layer": 61,
        "part": 3,
        "unit": 127,
        "position": 4_095,
        "byte": 32_767,
    }
    assert decode(code(**at)) == at
    assert decode(SENTINEL) == decode(POISON) == decode(123) == {}


@pytest.mark.parametrize(
    ("name", "bits"),
    [("request", 3), ("layer", 9), ("part", 4), ("unit", 14), ("position", 18), ("byte", 15)],
)
def test_a_coordinate_beyond_its_field_is_refused(name: str, bits: int):
    at = dict.fromkeys(("request", "layer", "part", "unit", "position", "byte"), 0)
    assert decode(code(**at | {name: (1 << bits) - 1}))[name] == (1 << bits) - 1
    for bad in (-1, 1 << bits):
        with pytest.raises(ValueError, match=f"{name} {bad}; accepted: 0 to {(1 << bits) - 1}"):
            code(**at | {name: bad})


def test_no_two_bytes_of_a_cache_have_one_code():
    parts = [
        full_part(p, layer=n, index=i, positions=5) for n in (0, 1) for i, p in enumerate(HEADS)
    ]
    every = np.concatenate([part.ravel() for part in parts])
    assert len(np.unique(every)) == every.size == 2 * 2 * 5 * 2 * 3
    at = {"layer": 1, "part": 1, "unit": 0, "position": 4, "byte": 2}
    assert int(parts[3][4, 0, 2]) == code(**at)


def test_a_part_too_large_to_be_coded_is_refused():
    with pytest.raises(ValueError, match="unit 16384"):
        full_part(CachedPart("k", 16_385, 1), layer=0, index=0, positions=1)


def test_eight_lanes_make_up_a_code():
    codes = full_part(HEADS[0], layer=3, index=0, positions=2)
    lanes = [lane(codes, i).astype(np.uint64) << np.uint64(8 * i) for i in range(8)]
    assert (sum(lanes[1:], lanes[0]) == codes).all()


def test_copies_lie_on_neighbouring_ranks():
    axis = np.arange(2, dtype=np.uint64).reshape(1, 2, 1)
    assert [s.ravel().tolist() for s in shards(axis, tp=4)] == [[0], [0], [1], [1]]
    assert [s.ravel().tolist() for s in shards(axis, tp=2)] == [[0], [1]]
    assert [s.ravel().tolist() for s in shards(axis, tp=1)] == [[0, 1]]


def _numbered(tokens: int, heads: int) -> np.ndarray:
    """Cells 10 * token + head, one byte each."""
    token, head = np.indices((tokens, heads), dtype=np.uint64)
    return (10 * token + head)[..., None]


def test_heads_come_first_in_hnd_and_tokens_in_nhd():
    keys = _numbered(4, 2)
    (hnd,) = block_pages([keys], _engine())
    (nhd,) = block_pages([keys], _engine(layout="NHD"))
    assert hnd.tolist() == [[0, 10, 1, 11, 20, 30, 21, 31]]
    assert nhd.tolist() == [[0, 1, 10, 11, 20, 21, 30, 31]]


def test_keys_and_values_lie_apart_or_side_by_side_in_every_kernel_block():
    keys, values = _numbered(4, 1), 100 + _numbered(4, 1)
    assert [p.tolist() for p in block_pages([keys, values], _engine())] == [
        [[0, 10, 20, 30]],
        [[100, 110, 120, 130]],
    ]
    (both,) = block_pages([keys, values], _engine(blocks_first=True))
    assert both.tolist() == [[0, 10, 100, 110, 20, 30, 120, 130]]


def test_a_state_is_a_page_of_its_parts():
    (page,) = state_pages([_numbered(2, 2), 100 + _numbered(2, 1)])
    assert page.tolist() == [[0, 1, 100], [10, 11, 110]]


def test_pages_have_the_length_of_what_they_hold():
    assert page_sizes(ATTENTION, _engine()) == [24, 24]
    assert page_sizes(ATTENTION, _engine(tp=4)) == [12, 12]
    assert page_sizes(ATTENTION, _engine(blocks_first=True)) == [48]
    assert page_sizes(STATE, _engine(tp=2)) == [24]


def test_tensors_follow_groups_and_layers_or_are_shared():
    groups = (ATTENTION, STATE)
    assert tensors_of(groups, _engine(page_padding=1), 0) == (
        {(0, 0): 0, (0, 1): 2, (1, 2): 4},
        (25, 25, 25, 25, 49),
    )
    shared = _engine(shares_tensors=True, blocks_first=True)
    assert tensors_of(groups, shared, 0) == ({(0, 0): 0, (0, 1): 1, (1, 2): 0}, (48, 48))
    staged = _engine(stage_layers=(1, 2), blocks_first=True)
    assert tensors_of(groups, staged, 1) == ({(0, 1): 0, (1, 2): 1}, (48, 48))


def test_admitted_sizes_are_powers_of_two_and_their_pairs_are_pinned():
    assert all(size & (size - 1) == 0 for sizes in TP_SIZES.values() for size in sizes)
    assert sum(len(admitted_pairs(model, up_to=16)) for model in TP_SIZES) == 200
    assert sum(len(admitted_pairs(model, up_to=128)) for model in TP_SIZES) == 331


def test_topologies_are_counted():
    assert len(topologies(64)) == 3_160
    powers = {1 << i for i in range(7)}
    assert sum(set(t) <= powers for t in topologies(64)) == 343
    assert (2, 3, 6) not in topologies(8)


def test_an_unknown_kind_of_group_is_refused():
    with pytest.raises(ValueError, match="kind 'ring'; accepted: full, sliding"):
        GroupGeometry("ring", (0,), {}).cached()


def test_channels_of_mamba_1_are_split_alone():
    sizes = {"channels": 8, "state_size": 4, "conv_columns": 3, "conv_itemsize": 2}
    group = GroupGeometry("mamba1", (0,), sizes | {"ssm_itemsize": 4}).cached()
    parts = [CachedPart("conv.x", 8, 6, True), CachedPart("ssm", 8, 16, True)]
    assert group == CachedGroup("mamba1", (0,), tuple(parts))
