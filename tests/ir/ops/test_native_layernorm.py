"""The natives of the norms against float64 arithmetic and against values worked out by hand."""

import numpy as np
import pytest
import torch

from ir import ops

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
# Half a unit in the last place, relative.
ROUNDOFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
NAN, INF = float("nan"), float("inf")


def _float64(t):
    return t.to(torch.float64).numpy()


def _norm_in_float64(s, weight, epsilon, variance_size):
    head = s[..., :variance_size]
    y = s / np.sqrt((head * head).mean(-1, keepdims=True) + epsilon)
    return y if weight is None else y * _float64(weight)


def _assert_near(y, expected, roundoffs):
    bound = sum(ROUNDOFF[d] for d in roundoffs) * 1.01 + 8 * ROUNDOFF[torch.float32]
    # Half a step of float16's subnormals, scaled by a weight; the others' are below 1e-38.
    absolute = 2.0**-22 if torch.float16 in roundoffs else 1e-30
    assert y.shape == expected.shape
    error = np.abs(_float64(y) - expected)
    np.testing.assert_array_less(error, bound * np.abs(expected) + absolute)


@pytest.mark.parametrize("d", [1, 2, 3, 7, 31, 64, 257])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rms_norm_is_float64s_within_its_roundings(dtype, n, d):
    torch.manual_seed(d)
    x = torch.randn(n, d, dtype=dtype)
    for variance_size in (None, (d + 1) // 2, d):
        y = ops.rms_norm(x, None, 1e-5, variance_size)
        _assert_near(y, _norm_in_float64(_float64(x), None, 1e-5, variance_size), [dtype])
        for w in FLOATS:
            weight = torch.randn(d, dtype=w)
            y = ops.rms_norm(x, weight, 1e-5, variance_size)
            expected = _norm_in_float64(_float64(x), weight, 1e-5, variance_size)
            _assert_near(y, expected, [w, w, dtype])


@pytest.mark.parametrize("d", [1, 2, 3, 31, 257])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_fused_add_rms_norm_is_float64s_within_its_roundings(dtype, n, d):
    torch.manual_seed(d)
    # Signs agree, so that float32's rounding of the sum stays relative to it.
    x, r = torch.rand(2, n, d).to(dtype)
    y, residual = ops.fused_add_rms_norm(x, r, None, 1e-6)
    s = _float64(x) + _float64(r)
    _assert_near(y, _norm_in_float64(s, None, 1e-6, None), [dtype])
    assert torch.equal(residual, (x.float() + r.float()).to(dtype))


def test_fused_add_rms_norm_normalizes_the_sum_before_it_is_rounded():
    # 1 + 0.45 * 2^-7 rounds to 1 in bfloat16, and 1 / (1 + 0.45 * 2^-7) to 1 - 2^-8.
    x = torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16)
    r = torch.tensor([[0.45 * 2.0**-7, 0.0]], dtype=torch.bfloat16)
    y, residual = ops.fused_add_rms_norm(x, r, None, 0.0, 1)
    assert residual.tolist() == [[1.0, 1.0]]
    assert y.tolist() == [[1.0, 1.0 - 2.0**-8]]


def test_rms_norm_rounds_to_the_weights_dtype_before_it_multiplies():
    # 1 / sqrt(1 + 2^-8) lies between two bfloat16.
    x = torch.ones(1, 4, dtype=torch.float32)
    weight = torch.full((4,), 1.0078125, dtype=torch.bfloat16)
    y = ops.rms_norm(x, weight, 2.0**-8)
    t = torch.tensor(1.0) * torch.rsqrt(torch.tensor(1.0 + 2.0**-8))
    expected = (t.bfloat16() * torch.tensor(1.0078125).bfloat16()).float()
    assert y.tolist() == [[expected.item()] * 4]
    assert expected.item() != (t * 1.0078125).item()


def test_rms_norm_rounds_epsilon_to_float32():
    x = torch.zeros(1, 2)
    x[0, 0] = 1.0
    y = ops.rms_norm(x, None, 0.1, 1)
    expected = torch.rsqrt(torch.tensor(1.0) + torch.tensor(np.float32(0.1)))
    assert y[0, 0].item() == expected.item()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("row", "epsilon", "expected"),
    [
        ([0.0, -0.0, 0.0], 1e-6, [0.0, -0.0, 0.0]),
        ([0.0, -0.0, 0.0], 0.0, [NAN, NAN, NAN]),
        ([INF, 1.0, -1.0], 1e-6, [NAN, 0.0, -0.0]),
        ([-INF, 1.0, -1.0], 1e-6, [NAN, 0.0, -0.0]),
        ([NAN, 1.0, -0.0], 1e-6, [NAN, NAN, NAN]),
    ],
)
def test_rms_norm_of_special_rows(dtype, row, epsilon, expected):
    y = ops.rms_norm(torch.tensor([row], dtype=dtype), None, epsilon)
    np.testing.assert_array_equal(_float64(y)[0], np.array(expected))
    decided = ~np.isnan(np.array(expected))
    signs = np.signbit(np.array(expected))[decided]
    np.testing.assert_array_equal(np.signbit(_float64(y)[0])[decided], signs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_overflows_where_float32_does(dtype):
    x = torch.tensor([[3e38, -3e38]], dtype=dtype)
    y = ops.rms_norm(x, None, 1e-6)
    assert y.tolist() == [[0.0, 0.0]]
    assert y.signbit().tolist() == [[False, True]]


def test_fused_add_rms_norm_overflows_the_residual_where_its_dtype_does():
    x = torch.tensor([[65504.0, -65504.0]], dtype=torch.float16)
    y, residual = ops.fused_add_rms_norm(x, x, None, 1e-6)
    assert residual.tolist() == [[INF, -INF]]
    assert y.tolist() == [[1.0, -1.0]]
