"""The Triton providers against natives: in the interpreter, and on a GPU where there is one."""

import importlib.util
import itertools

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)

from ir import kernels, ops

kernels.load()
from ir.kernels.triton import launch  # noqa: E402

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45, 3e38, -3e38, 6e-8]
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
WIDTHS = [1, 2, 3, 5, 16, 31, 64, 127, 257]
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.interpret),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
on_each_device = pytest.mark.parametrize("device", DEVICES)


def _filled(shape, dtype, scale=3.0):
    torch.manual_seed(sum(shape))
    x = (torch.randn(shape) * scale).to(dtype)
    if x.dim() > 1 and shape[0] > 2 and shape[-1] >= len(SPECIAL):
        x[1, ..., : len(SPECIAL)] = torch.tensor(SPECIAL).to(dtype)
        x[2] = torch.tensor(-0.0)
    return x


def _layouts(x):
    """x's values in other layouts: permuted, padded in every dimension, with steps between."""
    yield x
    if x.dim() > 1:
        yield x.transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.zeros([n + 3 for n in x.shape], dtype=x.dtype)
    inner = wide[tuple(slice(1, 1 + n) for n in x.shape)]
    yield inner.copy_(x)
    steps = torch.zeros([*x.shape[:-1], 2 * x.shape[-1]], dtype=x.dtype)
    yield steps[..., ::2].copy_(x)


def _outputs(value):
    return value if isinstance(value, tuple) else (value,)


def _ran(op, args, device):
    """Outputs of the two providers on a device, moved to the CPU with their strides checked."""
    moved = [a.to(device) if isinstance(a, torch.Tensor) and device != "cpu" else a for a in args]
    native = _outputs(op.impls["native"].impl_fn(*moved))
    impl = op.impls["triton"]
    assert impl.supports_args(*moved)
    before = [a.clone() if isinstance(a, torch.Tensor) else a for a in moved]
    with op.set_priority(["triton"]):
        assert op.dispatch(*moved) is impl
        got = _outputs(op(*moved))
    for a, b in zip(moved, before, strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    for g, n in zip(got, native, strict=True):
        assert (g.shape, g.dtype) == (n.shape, n.dtype)
        sizes = zip(g.shape, g.stride(), n.stride(), strict=True)
        assert all(size < 2 or s == t for size, s, t in sizes) or not g.numel()
        yield g.cpu(), n.cpu()


def _steps(got, native):
    nan = native.float().isnan()
    assert torch.equal(got.float().isnan(), nan)
    kind = INTEGERS[got.element_size()]
    return (got.view(kind).long() - native.view(kind).long()).abs()[~nan]


def _assert_same_bits(op, args, device):
    for got, native in _ran(op, args, device):
        assert not _steps(got, native).any()


def _assert_near(op, args, device, relative, absolute):
    for got, native in _ran(op, args, device):
        _steps(got, native)
        finite = native.float().isfinite()
        assert torch.equal(got[~finite].nan_to_num(), native[~finite].nan_to_num())
        error = (got.double() - native.double())[finite].abs()
        assert (error <= relative * native.double()[finite].abs() + absolute).all()


def _ulp(dtype):
    return {torch.float32: 2.0**-21, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}[dtype]


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
def test_static_quant_fp8_is_natives_bit_for_bit(dtype, device):
    for d in WIDTHS:
        for x in _layouts(_filled((4, d), dtype)):
            for scale in (torch.tensor(0.37), torch.tensor([1e-3])):
                _assert_same_bits(ops.static_quant_fp8, (x, scale), device)


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
def test_dynamic_per_token_quant_fp8_is_natives_bit_for_bit(dtype, device):
    for d in WIDTHS:
        for x in _layouts(_filled((4, d), dtype)):
            for bound in (None, torch.tensor(1.5), torch.tensor([float("nan")])):
                _assert_same_bits(ops.dynamic_per_token_quant_fp8, (x, bound), device)


@on_each_device
@pytest.mark.parametrize(("column_major", "ue8m0"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_per_token_group_quant_fp8_is_natives_bit_for_bit(dtype, column_major, ue8m0, device):
    for groups, size in ((1, 1), (1, 13), (3, 13), (5, 1), (4, 16), (37, 7)):
        for x in _layouts(_filled((4, groups * size), dtype)):
            args = (x, size, column_major, ue8m0)
            _assert_same_bits(ops.per_token_group_quant_fp8, args, device)
    x = _filled((2, 3, 26), dtype)
    _assert_same_bits(ops.per_token_group_quant_fp8, (x, 13, column_major, ue8m0), device)


@on_each_device
@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rotary_embedding_is_natives_bit_for_bit(dtype, is_neox, device):
    for (heads, size), rotary_dim in (
        ((1, 2), 2), ((3, 10), 10), ((3, 34), 14), ((5, 62), 2), ((2, 128), 128), ((70, 64), 64),
    ):  # fmt: skip
        for cache_dtype in {dtype, torch.float32}:
            torch.manual_seed(size)
            cache = torch.randn(9, rotary_dim).to(cache_dtype)
            positions = torch.tensor([0, 8, 3])
            query, key = _filled((3, heads * size), dtype), _filled((3, size), dtype)
            for q, k in ((query, key), (query.view(3, heads, size), key.view(3, 1, size))):
                args = (positions, q, k, size, cache, is_neox, rotary_dim)
                _assert_same_bits(ops.rotary_embedding, args, device)
            args = (positions, query, None, size, cache, is_neox, rotary_dim)
            _assert_same_bits(ops.rotary_embedding, args, device)


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
def test_rms_norm_is_natives_within_its_sums_order(dtype, device):
    for d in WIDTHS:
        for x in _layouts(_filled((4, d), dtype)):
            for weight in (None, _filled((d,), dtype), _filled((d,), torch.float32)):
                for variance_size in (None, (d + 1) // 2):
                    args = (x, weight, 1e-5, variance_size)
                    _assert_near(ops.rms_norm, args, device, _ulp(dtype), 1e-7)


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
def test_fused_add_rms_norm_is_natives_within_its_sums_order(dtype, device):
    for d in WIDTHS:
        x, r = _filled((4, d), dtype), _filled((4, d), dtype, 1.0)
        for weight in (None, _filled((d,), torch.bfloat16)):
            for a, b in ((x, r), (x.t().contiguous().t(), r.t().contiguous().t())):
                _assert_near(
                    ops.fused_add_rms_norm, (a, b, weight, 1e-5), device, _ulp(dtype), 1e-7
                )


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
def test_activations_are_natives_within_their_functions(dtype, device):
    for d in WIDTHS:
        for x in _layouts(_filled((4, 2 * d), dtype)):
            _assert_near(ops.silu_and_mul, (x,), device, _ulp(dtype), 1e-9)
            # 1 + erf and 1 + tanh cancel where the gate is negative.
            finite = x.nan_to_num(1.0, 2.0, -2.0).clamp(-30, 30)
            for approximate in ("none", "tanh"):
                args = (finite, approximate)
                _assert_near(ops.gelu_and_mul, args, device, _ulp(dtype), 2e-5)


@on_each_device
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_and_mul_sparse_is_natives_within_its_functions(dtype, approximate, device):
    for d in WIDTHS:
        torch.manual_seed(d)
        for x in _layouts(torch.randn(4, 2 * d).to(dtype)):
            args = (x, 0.5, approximate)
            # What exceeds the cut is a difference: an error of it is relative to the gate.
            absolute = 16 * _ulp(dtype)
            _assert_near(ops.gelu_and_mul_sparse, args, device, _ulp(dtype), absolute)


@on_each_device
def test_no_rows_and_more_dimensions(device):
    for shape in ((0, 6), (2, 0, 6), (2, 3, 2, 6), (6,)):
        x = _filled(shape, torch.float32)
        _assert_near(ops.rms_norm, (x, None, 1e-6), device, 1e-6, 1e-7)
        _assert_near(ops.fused_add_rms_norm, (x, x, None, 1e-6), device, 1e-6, 1e-7)
        _assert_near(ops.silu_and_mul, (x,), device, 1e-6, 1e-7)
        if len(shape) < 4:
            _assert_same_bits(ops.static_quant_fp8, (x, torch.tensor(0.1)), device)
            _assert_same_bits(ops.per_token_group_quant_fp8, (x, 3), device)


@on_each_device
def test_rows_beyond_32_bits_are_reached(device):
    # Rows 2^30 elements apart, in memory that is only touched where rows are: the third lies at
    # 2^31, though row number and stride are 32-bit numbers.
    import mmap

    if device == "cuda":
        pytest.skip("needs memory that is reserved and not used")
    import numpy as np

    held = mmap.mmap(-1, (2**31 + 8) * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    flat = torch.from_numpy(np.frombuffer(held, dtype=np.float16))
    x = flat.as_strided((3, 4), (2**30, 1))
    x[0], x[1], x[2] = 1.0, 2.0, torch.tensor([3.0, -4.0, 0.5, 2.0])
    _assert_near(ops.rms_norm, (x, None, 1e-6), device, 2.0**-9, 1e-7)
    _assert_near(ops.silu_and_mul, (x,), device, 2.0**-9, 1e-7)
    _assert_same_bits(ops.static_quant_fp8, (x, torch.tensor(0.1)), device)


@on_each_device
def test_maybe_inplace_writes_its_activations_where_the_provider_can(device):
    x, r = torch.randn(2, 3, 8, device=device)
    want = ops.fused_add_rms_norm(x, r, None, 1e-6)
    with ops.fused_add_rms_norm.set_priority(["triton"]):
        y, residual = ops.fused_add_rms_norm.maybe_inplace(x, r, None, 1e-6)
    torch.testing.assert_close((x, r), want, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close((y, residual), want, rtol=1e-6, atol=1e-7)


@on_each_device
def test_layouts_that_cannot_be_declared_in_place_are_left_to_native(device):
    wide = torch.randn(4, 12, device=device)
    x = wide[:, :8]
    fused = ops.fused_add_rms_norm.impls["triton"]
    assert not fused.supports_args(x, x, None, 1e-6)
    assert not fused.supports_args(x.contiguous(), x.t().contiguous().t(), None, 1e-6)
    assert fused.supports_args(x.contiguous(), x.contiguous(), None, 1e-6)
    rotary = ops.rotary_embedding.impls["triton"]
    positions, cache = torch.zeros(4, dtype=torch.int64, device=device), wide[:, :4]
    assert not rotary.supports_args(positions, x, None, 4, cache, True)
    assert not rotary.supports_args(positions, x.contiguous(), x, 4, cache, True)
    assert rotary.supports_args(positions, x.contiguous(), None, 4, cache, True)


@on_each_device
def test_rows_too_wide_for_a_program_are_left_to_native(device):
    x = torch.zeros(0, 2 * launch.MAX_WIDTH + 2, device=device)
    assert not ops.rms_norm.impls["triton"].supports_args(x, None, 1e-6)
    assert not ops.fused_add_rms_norm.impls["triton"].supports_args(x, x, None, 1e-6)
    assert not ops.dynamic_per_token_quant_fp8.impls["triton"].supports_args(x)
    assert not ops.gelu_and_mul_sparse.impls["triton"].supports_args(x, 1.0)
    assert not ops.per_token_group_quant_fp8.impls["triton"].supports_args(x, x.shape[-1])
    assert ops.silu_and_mul.impls["triton"].supports_args(x)


@on_each_device
def test_provider_is_captured_whole_without_the_torch_wrap(device):
    import ir

    x = torch.randn(3, 8, device=device)
    r = torch.randn(3, 8, device=device)

    def f(x, r):
        y = ops.rms_norm(x, None, 1e-6)
        return y, *ops.fused_add_rms_norm(y, r, None, 1e-6)

    want = f(x, r)
    with (
        ir.enable_torch_wrap(False),
        ops.rms_norm.set_priority(["triton"]),
        ops.fused_add_rms_norm.set_priority(["triton"]),
    ):
        torch._dynamo.reset()
        got = torch.compile(f, fullgraph=True, backend="aot_eager")(x, r)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
