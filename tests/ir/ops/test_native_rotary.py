"""The native of the rotary embedding against NumPy, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
import torch

from ir import ops

NUMPY = {
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
}


def _numpy(t):
    if t.dtype is torch.bfloat16:
        return t.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.contiguous().numpy()


def _reference(positions, x, head_size, cache, is_neox, rotary_dim):
    dtype, half = _numpy(x).dtype, rotary_dim // 2
    round_ = lambda a: a.astype(dtype).astype(np.float32)  # noqa: E731
    rows = round_(_numpy(cache).astype(np.float32))[positions.numpy()]
    y = _numpy(x).reshape(x.shape[0], -1, head_size).copy()
    first = range(half) if is_neox else range(0, rotary_dim, 2)
    second = range(half, rotary_dim) if is_neox else range(1, rotary_dim, 2)
    for token, head in np.ndindex(y.shape[:2]):
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            x1, x2 = y[token, head, [a, b]].astype(np.float32)
            cos, sin = rows[token, i], rows[token, half + i]
            y[token, head, a] = (round_(x1 * cos) - round_(x2 * sin)).astype(dtype)
            y[token, head, b] = (round_(x2 * cos) + round_(x1 * sin)).astype(dtype)
    return y.reshape(x.shape)


def _bits(a):
    return a.view({2: np.uint16, 4: np.uint32}[a.dtype.itemsize])


@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize(("head_size", "rotary_dim"), [(2, 2), (6, 2), (10, 10), (34, 14)])
@pytest.mark.parametrize("dtype", NUMPY)
def test_rotary_embedding_is_numpys_bit_for_bit(dtype, head_size, rotary_dim, is_neox):
    torch.manual_seed(head_size)
    for n in (0, 1, 3):
        for cache_dtype in {dtype, torch.float32}:
            cache = torch.randn(11, rotary_dim, dtype=cache_dtype)
            positions = torch.randint(11, (n,))
            query = torch.randn(n, 3 * head_size, dtype=dtype)
            key = torch.randn(n, 2 * head_size, dtype=dtype)
            for q, k in ((query, key), (query.view(n, 3, -1), key.view(n, 2, -1))) if n else ():
                out = ops.rotary_embedding(positions, q, k, head_size, cache, is_neox, rotary_dim)
                for got, x in zip(out, (q, k), strict=True):
                    want = _reference(positions, x, head_size, cache, is_neox, rotary_dim)
                    np.testing.assert_array_equal(_bits(_numpy(got)), _bits(want))
                    assert got.is_contiguous()
            if n == 0:
                q, k = ops.rotary_embedding(
                    positions, query, key, head_size, cache, is_neox, rotary_dim
                )
                assert (q.shape, k.shape) == (query.shape, key.shape)


def test_rotary_embedding_turns_by_the_whole_head_by_default():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    cache = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    positions = torch.zeros(1, dtype=torch.int64)
    query, _ = ops.rotary_embedding(positions, x, None, 4, cache, True)
    assert query.tolist() == [[-3.0, -4.0, 1.0, 2.0]]
    query, _ = ops.rotary_embedding(positions, x, None, 4, cache, False)
    assert query.tolist() == [[-2.0, 1.0, -4.0, 3.0]]


def test_rotary_embedding_without_a_key_returns_an_empty_one():
    x = torch.ones(2, 4, dtype=torch.float16)
    cache = torch.ones(3, 4, dtype=torch.float16)
    _, key = ops.rotary_embedding(torch.tensor([0, 2]), x, None, 4, cache, True)
    assert key.shape == (0,)
    assert key.dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("is_neox", [True, False])
def test_rotary_embedding_copies_what_it_does_not_turn_bit_for_bit(dtype, is_neox):
    # Every bit pattern, NaN payloads among them.
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(-1, 8)
    x = torch.cat((torch.zeros_like(bits[:, :2]), bits), -1).view(dtype)
    positions = torch.zeros(len(x), dtype=torch.int64)
    cache = torch.tensor([[1.0, 0.0]])
    query, key = ops.rotary_embedding(positions, x, x.clone(), 10, cache, is_neox, 2)
    assert torch.equal(query[:, 2:].view(torch.int16), bits)
    assert torch.equal(key[:, 2:].view(torch.int16), bits)


def test_rotary_embedding_keeps_signs_of_zero_and_special_values():
    x = torch.tensor([[-0.0, -0.0], [float("inf"), 1.0], [float("nan"), 1.0]])
    cache = torch.tensor([[1.0, 0.0]])
    query, _ = ops.rotary_embedding(torch.zeros(3, dtype=torch.int64), x, None, 2, cache, True)
    # -0*1 - -0*0 = -0 + 0 = 0; -0*1 + -0*0 = -0.
    assert query[0].signbit().tolist() == [False, True]
    assert query[0].tolist() == [0.0, 0.0]
    assert query[1].isnan().tolist() == [False, True]
    assert query[2].isnan().tolist() == [True, True]


def test_rotary_embedding_refuses_a_position_outside_the_cache():
    with pytest.raises(IndexError):
        ops.rotary_embedding(torch.tensor([3]), torch.ones(1, 2), None, 2, torch.ones(3, 2), True)
