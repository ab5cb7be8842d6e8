"""Outputs lie where their op declares it, in natives and fakes, for whatever layout of inputs."""

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ir import ops
from ir.ops.layout import dense_strides, empty_dense, is_dense


def _views(shape):
    """Inputs of one shape, by name: each order of dimensions, with and without gaps."""
    for order in itertools.permutations(range(len(shape))):
        back = [order.index(i) for i in range(len(shape))]
        stored = [shape[i] for i in order]
        name = "".join(map(str, order))
        yield f"dense {name}", torch.randn(stored).permute(back)
        padded = torch.randn([n + 2 for n in stored])
        yield f"padded {name}", padded[tuple(slice(1, 1 + n) for n in stored)].permute(back)
        strided = torch.randn([2 * n for n in stored])
        yield f"strided {name}", strided[(slice(None, None, 2),) * len(stored)].permute(back)


def _expanded(shape):
    yield "expanded first", torch.randn(1, *shape[1:]).expand(shape)
    yield "expanded last", torch.randn(*shape[:-1], 1).expand(shape)
    yield "overlapping", torch.randn(sum(shape)).as_strided(shape, (1,) * len(shape))


SHAPES = [(5,), (3, 4), (1, 4), (3, 2), (2, 3, 4), (2, 1, 6), (0, 4), (2, 3, 2, 4)]
VIEWS = [(s, n, x) for s in SHAPES for n, x in _views(s)]
OVERLAPPING = [(s, n, x) for s in SHAPES if 0 not in s for n, x in _expanded(s)]


def _declared(x, shape):
    """Strides of the declared layout, written from its text; None for a size that says nothing."""
    order = sorted(range(x.dim()), key=lambda i: (-x.stride(i), i))
    order = [i for i in order if shape[i] > 1]
    strides, step = [None] * x.dim(), 1
    for i in reversed(order):
        strides[i] = step
        step *= shape[i]
    return strides


def _telling(t):
    return [s if n > 1 and t.numel() else None for n, s in zip(t.shape, t.stride(), strict=True)]


def _assert_declared(t, x):
    if t.numel():
        assert _telling(t) == _declared(x, t.shape)
    assert t.storage_offset() == 0


@pytest.mark.parametrize(("shape", "name", "x"), VIEWS)
def test_dense_strides_are_the_declared_ones_and_torchs(shape, name, x):
    _assert_declared(torch.empty_strided(shape, dense_strides(shape, x)), x)
    _assert_declared(empty_dense(x), x)
    assert _telling(empty_dense(x)) == _telling(x * 2)
    # A tensor without elements is contiguous to torch, whatever its strides.
    assert is_dense(x) == (_telling(x) == _declared(x, shape) or x.numel() == 0)


@pytest.mark.parametrize(("shape", "name", "x"), OVERLAPPING)
def test_dense_strides_of_overlapping_inputs_are_torchs(shape, name, x):
    assert _telling(empty_dense(x)) == _telling(x * 2)


def _calls(x):
    """Every op that takes such an x, its arguments, and which of its outputs follow x."""
    d = x.shape[-1]
    weight = torch.randn(d, dtype=x.dtype)
    yield ops.rms_norm, (x, weight, 1e-6)
    yield ops.rms_norm, (x, None, 1e-6)
    yield ops.rms_norm, (x, weight.float(), 1e-6, 1)
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    for residual in (x, x.contiguous(), turned):
        yield ops.fused_add_rms_norm, (x, residual, weight, 1e-6)
    if d % 2 == 0:
        yield ops.gelu_and_mul_sparse, (x, 0.5)
        yield ops.silu_and_mul, (x,)
        yield ops.gelu_and_mul, (x, "tanh")
        yield ops.gelu_and_mul, (x, "none")
    if x.dim() <= 3:
        yield ops.static_quant_fp8, (x, torch.ones(1))
        yield ops.dynamic_per_token_quant_fp8, (x, torch.tensor(3.0))
        for column_major, ue8m0 in itertools.product((False, True), repeat=2):
            if not column_major or x.dim() > 1:
                for size in {1, d // 2 if d % 2 == 0 else d, d}:
                    yield ops.per_token_group_quant_fp8, (x, size, column_major, ue8m0)
    if x.dim() in (2, 3) and d % 2 == 0:
        positions = torch.zeros(x.shape[0], dtype=torch.int64)
        for is_neox, rotary_dim in ((True, d), (False, d), (False, 2), (True, 2)):
            cache = torch.ones(1, rotary_dim)
            yield ops.rotary_embedding, (positions, x, x, d, cache, is_neox, rotary_dim)
        yield ops.rotary_embedding, (positions, x, None, d, torch.ones(1, d), True)


_FOLLOWS_X = {
    "rms_norm",
    "fused_add_rms_norm",
    "gelu_and_mul_sparse",
    "silu_and_mul",
    "gelu_and_mul",
}


def _outputs(value):
    return value if isinstance(value, tuple) else (value,)


def _column_major(args):
    return len(args) == 4 and args[2] is True


def _fake_outputs(op, args):
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args]
        return _outputs(op(*fakes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "name", "x"), VIEWS)
def test_native_and_fake_lie_as_declared(shape, name, x, dtype):
    # A change of dtype keeps the dimensions' order but closes gaps; views of it reopen them.
    if dtype is not x.dtype:
        x = (
            torch.empty(x.untyped_storage().nbytes() // 4, dtype=dtype)
            .normal_()
            .as_strided(x.shape, x.stride(), x.storage_offset())
        )
    for op, args in _calls(x):
        real, fake = _outputs(op(*args)), _fake_outputs(op, args)
        for r, f in zip(real, fake, strict=True):
            assert (r.shape, r.dtype, _telling(r)) == (f.shape, f.dtype, _telling(f)), op.name
            assert r.storage_offset() == f.storage_offset() == 0
            if op.name in _FOLLOWS_X:
                _assert_declared(r, x)
            elif r is real[-1] and op.name.startswith("per_token") and _column_major(args):
                swapped = r.transpose(-1, -2)
                assert _telling(swapped) == _telling(swapped.contiguous())
            else:
                assert r.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "name", "x"), OVERLAPPING)
def test_fake_lies_as_native_does_for_overlapping_inputs(shape, name, x, dtype):
    if dtype is not x.dtype:
        x = (
            torch.empty(x.untyped_storage().nbytes() // 4, dtype=dtype)
            .normal_()
            .as_strided(x.shape, x.stride(), x.storage_offset())
        )
    for op, args in _calls(x):
        for r, f in zip(_outputs(op(*args)), _fake_outputs(op, args), strict=True):
            assert (r.shape, r.dtype, _telling(r)) == (f.shape, f.dtype, _telling(f)), op.name


def test_outputs_share_no_memory_with_inputs_or_each_other():
    for dtype in (torch.float32, torch.bfloat16):
        for op, args in _calls(torch.randn(3, 4).to(dtype)):
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            inputs = {t.untyped_storage().data_ptr() for t in tensors}
            made = [t.untyped_storage().data_ptr() for t in _outputs(op(*args)) if t.numel()]
            assert not inputs & set(made), op.name
            assert len(set(made)) == len(made), op.name
