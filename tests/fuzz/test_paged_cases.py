"""Drawn calls over a paged cache mean something, and reach the edges of what they may be."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies import fixed_signatures, free_signature, legal_case
from reference.declaration import FLOATS
from reference.dtypes import FORMATS, decode
from reference.expectation import Expected, Unknown, expect, memory_after, tensor_arrays
from reference.legal import DECLARATIONS
from reference.model import OpCase
from reference.paged import sequence_rows

NUMBERS = ("nan", "inf", "max")
STATEFUL = sorted(op for op, declaration in DECLARATIONS.items() if declaration.states)


def drawn(op: str, count: int = 80) -> list[OpCase]:
    declaration = DECLARATIONS[op]
    signatures = [s for t in FLOATS for s in fixed_signatures(declaration, t)]
    signatures += [free_signature(declaration, t) for t in FLOATS for _ in range(3)]
    return [
        legal_case(declaration, signatures[i % len(signatures)], SeededChooser(2, op, i))
        for i in range(count)
    ]


@pytest.mark.parametrize("op", STATEFUL)
def test_every_drawn_case_has_a_meaning_and_a_state_of_its_own_memory(op: str):
    declaration = DECLARATIONS[op]
    for case in drawn(op):
        assert isinstance(expect(declaration, case), Expected)
        views = case.views()
        for spec in declaration.states:
            mine = views[spec.name]
            assert mine.is_contiguous
            assert [v.storage for v in views.values()].count(mine.storage) == 1


@pytest.mark.parametrize("op", STATEFUL)
def test_bytes_and_values_of_what_is_left_in_a_state_are_told_alike(op: str):
    declaration = DECLARATIONS[op]
    for case in drawn(op):
        expected = expect(declaration, case)
        assert isinstance(expected, Expected)
        after = memory_after(declaration, case)
        for spec, output in zip(declaration.outputs, expected.outputs, strict=True):
            if spec.left_in is not None:
                view = case.views()[spec.left_in]
                held = decode(view.of(after[view.storage]), output.dtype)
                assert np.array_equal(held, output.interval.lo, equal_nan=True)
                assert output.interval.is_point
                assert output.may_alias == spec.left_in


def test_slots_are_named_once_or_not_at_all_and_some_are_the_last():
    some, none, last = 0, 0, 0
    for case in drawn("reshape_and_cache", 160):
        named = tensor_arrays(case, case.arrays())
        slots, cache = named["slot_mapping"], named["kv_cache"]
        some, none = some + int((slots >= 0).sum()), none + int((slots < 0).sum())
        last += int((slots == cache.shape[1] * cache.shape[2] - 1).any())
    assert some > none > 100
    assert last > 20


def test_lengths_lie_at_the_edges_of_blocks_and_tables_hold_nonsense_beyond():
    beyond, poisoned = 0, 0
    rests: set[int] = set()
    ratios: set[int] = set()
    for case in drawn("paged_decode_attention", 240):
        named = tensor_arrays(case, case.arrays())
        cache, query = named["kv_cache"].astype(np.float64), named["query"]
        size = cache.shape[2]
        if size > 2:
            rests |= {int(n) % size - size * (int(n) % size == size - 1) for n in named["seq_lens"]}
        ratios.add(query.shape[1] // cache.shape[3])
        beyond += int(((named["block_tables"] < 0) | (named["block_tables"] > 1000)).any())
        poisoned += int(np.isnan(cache).any())
    assert {-1, 0, 1} <= rests
    assert {1, 2, 4, 7, 8, 16} <= ratios
    assert beyond > 40
    assert poisoned > 40


def live(case: OpCase) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keys and values of each sequence, (length, kv_heads, head_size) each."""
    arrays, views = case.arrays(), case.views()
    cache, tables, lengths = (
        decode(views[name].of(arrays[views[name].storage]), case.dtype_of(name) or "")
        for name in ("kv_cache", "block_tables", "seq_lens")
    )
    rows = [sequence_rows(cache, *of) for of in zip(tables, lengths.astype(int), strict=True)]
    return [(keys, values) for keys, values in rows]


def queries(case: OpCase) -> np.ndarray:
    view = case.views()["query"]
    return decode(view.of(case.arrays()[view.storage]), case.dtype_of("query") or "")


def test_one_case_in_ten_has_a_special_number_where_attention_reads():
    found: Counter[str] = Counter()
    for case in drawn("paged_decode_attention", 600):
        largest = FORMATS[case.dtype_of("query") or ""].max
        for query, (keys, values) in zip(queries(case), live(case), strict=True):
            for name, part in (("key", keys), ("value", values), ("query", query)):
                found[f"{name} nan"] += bool(np.isnan(part).any())
                found[f"{name} inf"] += bool(np.isinf(part).any())
                found[f"{name} max"] += bool((abs(part) == largest).any())
    assert 30 < sum(found.values()) < 90
    assert set(+found) == {f"{a} {b}" for a in ("key", "value", "query") for b in NUMBERS}


def test_long_sequences_meet_their_largest_logit_late():
    long = late = second = 0
    for case in drawn("paged_decode_attention", 600):
        for query, (keys, _) in zip(queries(case), live(case), strict=True):
            if len(keys) > 64 and np.isfinite(keys).all() and np.isfinite(query).all():
                long += 1
                logits = keys[:, 0] @ query[0]
                late += int(logits.argmax()) >= len(keys) - len(keys) // 4
                # A quarter of them is more than a kernel looks at together.
                second += len(keys) > 256
    assert long > 25
    # By chance it would be a quarter of them.
    assert late > 0.5 * long
    assert second > 8


def test_a_sequence_has_a_block_twice_only_where_there_are_too_few():
    for case in drawn("paged_decode_attention", 240):
        named = tensor_arrays(case, case.arrays())
        _, blocks, size, *_ = named["kv_cache"].shape
        for table, length in zip(named["block_tables"], named["seq_lens"], strict=True):
            used = table[: -(-int(length) // size)]
            assert len(set(used.tolist())) == min(len(used), blocks)


def test_histories_are_empty_partly_filled_and_full():
    found: Counter[str] = Counter()
    for case in drawn("quant_fp8_delayed", 300):
        named = tensor_arrays(case, case.arrays())
        filled, place = named["amax"] > 0, int(named["next"][0])
        if filled.all() or not filled.any():
            found["full" if filled.all() else "empty"] += 1
        else:
            # As so many calls leave it that made no second round yet.
            assert filled[:place].all()
            assert not filled[place:].any()
            found["partly"] += 1
            found[f"after {place}"] += 1
    assert found["empty"] > 10
    assert found["full"] > 60
    assert found["partly"] > 90
    assert {f"after {n}" for n in range(1, 16)} <= set(found)


@pytest.mark.parametrize(
    ("op", "name", "value", "because"),
    [
        ("reshape_and_cache", "slot_mapping", 10**4, "slot-out-of-range"),
        ("paged_decode_attention", "seq_lens", 10**4, "length-out-of-range"),
        ("paged_decode_attention", "seq_lens", -1, "length-out-of-range"),
        ("quant_fp8_delayed", "next", 16, "place-out-of-range"),
    ],
)
def test_a_number_that_points_nowhere_has_no_meaning(op: str, name: str, value: int, because: str):
    declaration = DECLARATIONS[op]
    case = next(c for c in drawn(op) if c.views()[name].numel)
    number = case.views()[name].storage
    array = case.storages[number].array()
    array[:] = value
    storages = [*case.storages]
    storages[number] = replace(storages[number], content=array.tobytes())
    assert expect(declaration, replace(case, storages=tuple(storages))) == Unknown(because)
