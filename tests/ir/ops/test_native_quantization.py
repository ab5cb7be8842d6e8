"""The natives of the quantizations against NumPy, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
import torch

from ir import ops

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
NAN, INF = float("nan"), float("inf")
SPECIAL = [0.0, -0.0, INF, -INF, NAN, 1e-45, -1e-45, 3.4e38, -3.4e38, 6e-8, 448.0, 464.0, 465.0]


def _fp8_bits(x, scale):
    with np.errstate(all="ignore"):
        q = np.clip((x / scale).astype(np.float32), np.float32(-448), np.float32(448))
        return q.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def _assert_same_bits(y, bits):
    got = y.view(torch.uint8).numpy()
    # The sign of a NaN is not part of the contract.
    nan = (got & 0x7F) == 0x7F
    np.testing.assert_array_equal(nan, (bits & 0x7F) == 0x7F)
    np.testing.assert_array_equal(got[~nan], bits[~nan])


def _inputs(dtype, *shape):
    torch.manual_seed(shape[-1])
    x = torch.randn(*shape, dtype=dtype) * 10
    if shape[-1] >= len(SPECIAL) and shape[0] > 1:
        x[1, ..., : len(SPECIAL)] = torch.tensor(SPECIAL).to(dtype)
    return x


@pytest.mark.parametrize("dtype", FLOATS)
def test_static_quant_fp8_is_numpys_bit_for_bit(dtype):
    for shape in ((0, 5), (1, 1), (3, 31), (2, 3, 257)):
        x = _inputs(dtype, *shape)
        for scale in (1.0, 0.1, 3e-39, 1e30):
            for s in (torch.tensor(scale), torch.tensor([scale])):
                y = ops.static_quant_fp8(x, s)
                assert (y.shape, y.dtype) == (x.shape, torch.float8_e4m3fn)
                _assert_same_bits(y, _fp8_bits(x.float().numpy(), np.float32(scale)))


def test_static_quant_fp8_rounds_every_bfloat16_to_the_nearest_even():
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    _assert_same_bits(
        ops.static_quant_fp8(x, torch.tensor(1.0)), _fp8_bits(x.float().numpy(), np.float32(1))
    )


def test_static_quant_fp8_divides_instead_of_multiplying_by_a_reciprocal():
    # The quotients are ties of the format; times the reciprocal, some are a step beside one.
    scales = np.arange(3, 200, 2, dtype=np.float32)
    ties = np.arange(17, 32, 2, dtype=np.float32) / np.float32(16)
    beside = 0
    for scale in scales:
        x = ties * scale
        divided = _fp8_bits(x, scale)
        beside += (divided != _fp8_bits(x * (np.float32(1) / scale), np.float32(1))).sum()
        y = ops.static_quant_fp8(torch.from_numpy(x), torch.tensor(scale))
        _assert_same_bits(y, divided)
    assert beside > 0


@pytest.mark.parametrize("bound", [None, 5.0, 0.0, INF, NAN])
@pytest.mark.parametrize("dtype", FLOATS)
def test_dynamic_per_token_quant_fp8_is_numpys_bit_for_bit(dtype, bound):
    for shape in ((0, 5), (1, 1), (3, 31), (2, 3, 257), (7,)):
        x = _inputs(dtype, *shape)
        x[..., :1] = 0.0
        ub = None if bound is None else torch.tensor(bound)
        y, scale = ops.dynamic_per_token_quant_fp8(x, ub)
        x32 = x.float().numpy()
        absmax = np.abs(x32).max(-1, keepdims=True)
        if bound is not None:
            absmax = np.minimum(absmax, np.float32(bound))
        want = np.maximum(absmax / np.float32(448), np.float32(1 / (448 * 512)))
        assert scale.shape == (*shape[:-1], 1)
        np.testing.assert_array_equal(scale.numpy(), want)
        _assert_same_bits(y, _fp8_bits(x32, want))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dynamic_per_token_quant_fp8_of_special_rows(dtype):
    x = torch.tensor([[0.0, -0.0], [INF, -1.0], [NAN, 1.0]], dtype=dtype)
    y, scale = ops.dynamic_per_token_quant_fp8(x)
    np.testing.assert_array_equal(
        scale.numpy(), np.array([[1 / (448 * 512)], [INF], [NAN]], dtype=np.float32)
    )
    np.testing.assert_array_equal(y.float().numpy(), [[0.0, 0.0], [NAN, 0.0], [NAN, NAN]])
    assert y.float().signbit()[:2].tolist()[0] == [False, True]
    assert y.float().signbit()[1, 1].item()


@pytest.mark.parametrize("ue8m0", [False, True])
@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_per_token_group_quant_fp8_is_numpys_bit_for_bit(dtype, column_major, ue8m0):
    for shape, size in (((0, 6), 3), ((1, 1), 1), ((3, 39), 13), ((2, 3, 64), 16), ((3, 39), 39)):
        x = _inputs(dtype, *shape)
        x[..., :1] = 0.0
        y, scale = ops.per_token_group_quant_fp8(x, size, column_major, ue8m0)
        grouped = x.float().numpy().reshape(*shape[:-1], shape[-1] // size, size)
        absmax = np.maximum(np.abs(grouped).max(-1), np.float32(1e-10))
        want = absmax / np.float32(448)
        if ue8m0:
            with np.errstate(all="ignore"):
                want = np.exp2(np.ceil(np.log2(want.astype(np.float64)))).astype(np.float32)
        np.testing.assert_array_equal(scale.numpy(), want)
        _assert_same_bits(y, _fp8_bits(grouped, want[..., None]).reshape(shape))
        if column_major and scale.numel() and 1 not in scale.shape:
            assert scale.stride()[-2:] == (1, shape[-2])
        else:
            assert scale.is_contiguous() or scale.numel() == 0 or 1 in scale.shape


def test_a_power_of_two_scale_is_kept_and_its_successor_doubled():
    for exponent in (-30, -1, 0, 5, 110):
        one = np.float32(2.0**exponent)
        absmax = np.array([448 * one, np.nextafter(448 * one, np.float32(np.inf))])
        x = torch.from_numpy(absmax.astype(np.float32))[:, None]
        _, scale = ops.per_token_group_quant_fp8(x, 1, False, True)
        assert scale.tolist() == [[float(one)], [float(2 * one)]]


def test_a_scale_is_the_float32_nearest_to_the_quotient():
    # A reciprocal of 448 in float32 is off by one step in a third of these.
    absmax = np.random.default_rng(0).random(20000, dtype=np.float32) + np.float32(2e-3)
    want = (absmax.astype(np.longdouble) / 448).astype(np.float32)
    assert (absmax * np.float32(1 / 448) != want).any()
    x = torch.from_numpy(absmax)[:, None]
    _, token = ops.dynamic_per_token_quant_fp8(x)
    _, group = ops.per_token_group_quant_fp8(x, 1)
    np.testing.assert_array_equal(token.numpy()[:, 0], want)
    np.testing.assert_array_equal(group.numpy()[:, 0], want)
