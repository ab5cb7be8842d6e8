"""What a paged cache means, by hand: rows in slots, and attention in rational numbers."""

from fractions import Fraction

import numpy as np
import pytest

from reference.contract import Operand, contract_for, evaluate
from reference.interval import MAYBE, MUST

BLOCKS, SIZE, KV_HEADS, WIDTH = 4, 3, 2, 2


def numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(np.float64)


def attended(query, cache, tables, lengths, scale: float, dtype: str = "float32"):
    arguments = {
        "kv_cache": Operand(cache, dtype),
        "query": Operand(query, dtype),
        "block_tables": Operand(np.asarray(tables, dtype=np.float64), "int32"),
        "seq_lens": Operand(np.asarray(lengths, dtype=np.float64), "int32"),
        "scale": scale,
    }
    contract = contract_for("paged_decode_attention")
    return evaluate(contract, arguments, rounding="strict")["y"]


def exponential(x: Fraction) -> Fraction:
    """e^x for x <= 0, to far more digits than float64 has."""
    small, term, total, n = x / 64, Fraction(1), Fraction(1), 0
    while abs(term) > Fraction(1, 10**40):
        n += 1
        term *= small / n
        total += term
    return Fraction(total.limit_denominator(10**40)) ** 64


def by_hand(query, cache, table, length: int, scale: float) -> list[list[Fraction]]:
    """One sequence, in rational numbers."""
    found = []
    group = query.shape[0] // cache.shape[3]
    for head in range(query.shape[0]):
        rows = [cache[:, table[t // SIZE], t % SIZE, head // group] for t in range(length)]
        logits = [
            Fraction(float(np.float32(scale)))
            * sum(Fraction(q) * Fraction(k) for q, k in zip(query[head], row[0], strict=True))
            for row in rows
        ]
        weights = [exponential(x - max(logits)) for x in logits]
        found.append(
            [
                sum(w * Fraction(row[1][d]) for w, row in zip(weights, rows, strict=True))
                / sum(weights)
                for d in range(WIDTH)
            ]
        )
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_the_interval_holds_the_exact_average_and_is_narrow(length: int):
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    query = numbers((1, 4, WIDTH), length)
    table = [2, 0, 3]
    found = attended(query, cache, [table], [length], 0.7)
    for head, row in enumerate(by_hand(query[0], cache, table, length, 0.7)):
        for d, exact in enumerate(row):
            lo, hi = (Fraction(float(end[0, head, d])) for end in (found.lo, found.hi))
            assert lo <= exact <= hi
            assert hi - lo < Fraction(1, 10**5)


def test_what_lies_beyond_a_length_is_not_looked_at():
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    query = numbers((2, 2, WIDTH), 1)
    once = attended(query, cache, [[1, -7], [2, 3]], [2, 4], 1.0)
    cache[:, 0] = np.nan
    cache[:, 1, 2:] = np.nan
    cache[:, 3, 1:] = np.inf
    again = attended(query, cache, [[1, 99], [2, 3]], [2, 4], 1.0)
    assert np.array_equal(once.lo, again.lo)
    assert np.array_equal(once.hi, again.hi)
    assert not again.nan.any()


def test_no_token_gives_zeros_and_one_gives_its_value_but_for_roundings():
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    query = numbers((2, 2, WIDTH), 1)
    found = attended(query, cache, [[1], [2]], [0, 1], 1.0)
    assert not found.lo[0].any()
    assert not found.hi[0].any()
    value = cache[1, 2, 0]
    assert (found.lo[1] <= value).all()
    assert (value <= found.hi[1]).all()
    assert (found.hi[1] - found.lo[1] <= 2.0**-18 * np.abs(value)).all()


def test_a_nan_reaches_what_it_is_averaged_into_and_nothing_else():
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    query = numbers((1, 4, WIDTH), 1)
    cache[0, 1, 0, 0, 1] = np.nan
    cache[1, 1, 1, 1, 0] = np.nan
    cache[1, 1, 1, 1, 1] = np.inf
    found = attended(query, cache, [[1]], [2], 1.0)
    assert (found.nan[0, :2] == MUST).all()
    assert (found.nan[0, 2:, 0] == MUST).all()
    assert (found.nan[0, 2:, 1] == MAYBE).all()


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_a_head_whose_largest_logit_is_infinite_is_nan(infinite: float):
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    cache[0, 1, :, 0] = infinite
    found = attended(np.ones((1, 4, WIDTH)), cache, [[1]], [2], 1.0)
    assert (found.nan[0, :2] == MUST).all()
    assert not found.nan[0, 2:].any()


def test_a_token_whose_logit_is_minus_infinity_counts_for_nothing_beside_others():
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    query = np.ones((1, 4, WIDTH))
    alone = attended(query, cache, [[1]], [1], 1.0)
    cache[0, 1, 1] = -np.inf
    beside = attended(query, cache, [[1]], [2], 1.0)
    assert not beside.nan.any()
    assert ((beside.lo <= alone.lo + 1e-5) & (alone.hi - 1e-5 <= beside.hi)).all()
    assert (beside.hi - beside.lo < 1e-4).all()


def test_logits_too_large_to_tell_apart_leave_an_average_between_the_values():
    cache = np.zeros((2, BLOCKS, SIZE, KV_HEADS, WIDTH))
    cache[0, 1, 0, :, 0], cache[0, 1, 1, :, 0] = 2.0**120, -(2.0**120)
    cache[1, 1, 0, :, 1], cache[1, 1, 1, :, 1] = 1.0, 3.0
    found = attended(np.full((1, 2, WIDTH), 1.7), cache, [[1]], [2], 0.3)
    assert not found.nan.any()
    assert (abs(found.lo[..., 0]) < 1e-30).all()
    assert (abs(found.hi[..., 0]) < 1e-30).all()
    assert (found.lo[..., 1] > 0.99).all()
    assert (found.hi[..., 1] < 3.01).all()


def test_rows_are_in_their_slots_and_the_rest_is_as_it_was():
    cache = numbers((2, BLOCKS, SIZE, KV_HEADS, WIDTH), 3)
    key, value = numbers((3, KV_HEADS, WIDTH), 4), numbers((3, KV_HEADS, WIDTH), 5)
    contract = contract_for("reshape_and_cache")
    arguments = {
        "key": Operand(key, "float32"),
        "value": Operand(value, "float32"),
        "slot_mapping": Operand(np.array([7.0, -1.0, 0.0]), "int64"),
        "kv_cache": Operand(cache, "float32"),
    }
    found = evaluate(contract, arguments, rounding="strict")
    wanted = cache.copy()
    wanted[0, 2, 1], wanted[1, 2, 1] = key[0], value[0]
    wanted[0, 0, 0], wanted[1, 0, 0] = key[2], value[2]
    assert np.array_equal(found["kv_cache"].lo, wanted)
    assert found["kv_cache"].is_point
    assert found["written"].lo == 2
