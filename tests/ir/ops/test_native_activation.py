"""The natives of the gated activations against float64 arithmetic and special values."""

import math

import numpy as np
import pytest
import torch

from ir import ops

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
ROUNDOFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
NAN, INF = float("nan"), float("inf")
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _float64(t):
    return t.to(torch.float64).numpy()


def _silu(z):
    return z / (1 + np.exp(-z))


def _gelu(z, approximate):
    if approximate == "none":
        return 0.5 * z * (1 + _erf(z / math.sqrt(2)))
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def _assert_near(y, expected, dtype, steps, absolute):
    error = np.abs(_float64(y) - expected)
    bound = steps * ROUNDOFF[dtype] * 1.01 + 32 * ROUNDOFF[torch.float32]
    np.testing.assert_array_less(error, bound * np.abs(expected) + absolute)


@pytest.mark.parametrize("d", [1, 2, 3, 31, 257])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_silu_and_mul_is_float64s_within_its_roundings(dtype, n, d):
    torch.manual_seed(d)
    x = torch.randn(n, 2 * d, dtype=dtype) * 4
    gate, up = _float64(x[:, :d]), _float64(x[:, d:])
    y = ops.silu_and_mul(x)
    assert y.shape == (n, d)
    assert y.dtype == dtype
    # float16's subnormals add an absolute half step per rounding.
    _assert_near(y, _silu(gate) * up, dtype, 2, 2.0**-21 if dtype is torch.float16 else 1e-30)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("d", [1, 2, 3, 31, 257])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_and_mul_is_float64s_within_its_roundings(dtype, d, approximate):
    torch.manual_seed(d)
    x = torch.randn(3, 2 * d, dtype=dtype) * 2
    gate, up = _float64(x[:, :d]), _float64(x[:, d:])
    y = ops.gelu_and_mul(x, approximate)
    assert y.shape == (3, d)
    # 1 + erf and 1 + tanh cancel where the gate is negative: a step of float32 next to 1 remains.
    _assert_near(y, _gelu(gate, approximate) * up, dtype, 2, 40 * 2.0**-24 * (1 + np.abs(up)))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_and_mul_sparse_rounds_each_step(dtype, approximate):
    torch.manual_seed(0)
    x = torch.randn(5, 2 * 64, dtype=dtype)
    gate, up = x[:, :64], x[:, 64:]
    y = ops.gelu_and_mul_sparse(x, 0.5, approximate)
    g64 = _float64(gate)
    mean = torch.from_numpy(g64.mean(-1, keepdims=True)).float().to(dtype)
    std = torch.from_numpy(g64.std(-1, keepdims=True)).float().to(dtype)
    kept = torch.relu(gate - (mean + std * 0.5))
    expected = _gelu(_float64(kept), approximate) * _float64(up)
    assert (_float64(y) == 0).mean() > 0.5
    # float32's mean and std differ from float64's by steps of float32, which the cut shows.
    slack = 16 * 2.0**-24 * (1 + np.abs(_float64(up)))
    _assert_near(y, expected, dtype, 2, slack)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_and_mul_sparse_of_one_column_passes_nothing(dtype):
    x = torch.tensor([[3.0, 2.0], [-1.0, 5.0]], dtype=dtype)
    assert ops.gelu_and_mul_sparse(x, 1.6).tolist() == [[0.0], [0.0]]


def test_gelu_and_mul_sparse_takes_its_mean_in_float32():
    # The sum, 3 * 40000, is no finite float16.
    x = torch.tensor([[40000.0] * 3 + [1.0] * 3], dtype=torch.float16)
    assert ops.gelu_and_mul_sparse(x, 0.0).tolist() == [[0.0, 0.0, 0.0]]


def test_gelu_and_mul_sparse_uses_the_population_deviation():
    # mean 0, population std 1 (that of a sample would be 1.41): 1 - (0 + 1 * 0.5) = 0.5.
    x = torch.tensor([[-1.0, 1.0, 1.0, 1.0]])
    y = ops.gelu_and_mul_sparse(x, 0.5)
    np.testing.assert_allclose(y.numpy(), [[0.0, _gelu(np.float64(0.5), "none")]], rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("gate", "silu", "gelu"),
    [
        (0.0, 0.0, 0.0),
        (-0.0, -0.0, -0.0),
        (INF, INF, INF),
        (-INF, NAN, NAN),
        (NAN, NAN, NAN),
        (-30000.0, -0.0, -0.0),
        (30000.0, 30000.0, 30000.0),
    ],
)
def test_activations_of_special_values(dtype, gate, silu, gelu):
    # In vectors of 1 and of more than a SIMD register, which take different loops in torch.
    for d in (1, 40):
        x = torch.cat((torch.full((1, d), gate), torch.ones(1, d)), -1).to(dtype)
        for y, expected in (
            (ops.silu_and_mul(x), silu),
            (ops.gelu_and_mul(x, "none"), gelu),
            (ops.gelu_and_mul(x, "tanh"), gelu),
        ):
            want = torch.full((1, d), expected).to(dtype)
            torch.testing.assert_close(y, want, rtol=0, atol=0, equal_nan=True)
            if not math.isnan(expected):
                assert torch.equal(y.signbit(), want.signbit())


def test_sparse_keeps_nan_in_its_row():
    x = torch.tensor([[NAN, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]])
    y = ops.gelu_and_mul_sparse(x, 0.0)
    assert y.isnan().tolist() == [[True, True], [False, False]]
