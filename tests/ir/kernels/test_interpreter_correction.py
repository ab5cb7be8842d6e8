"""Triton's interpreter computes in bfloat16 and float8 as a GPU does, or says that it does not."""

import importlib.util
import os
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)

import triton
import triton.language as tl

from ir import kernels
from ir.kernels.triton import interpreter

kernels.load()
interpret = pytest.mark.interpret


def _floats():
    """Bits of float32 around every bfloat16, and of its special values."""
    high = np.arange(2**16, dtype=np.uint32) << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    return torch.from_numpy((high[:, None] | low).reshape(-1).view(np.float32))


@triton.jit
def _cast_kernel(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i, mask=i < n).to(y.dtype.element_ty), mask=i < n)


@triton.jit
def _arithmetic_kernel(x, y, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i), tl.load(y + i)
    tl.store(out + i, a + b)
    tl.store(out + BLOCK + i, a * b)
    tl.store(out + 2 * BLOCK + i, a - b)
    tl.store(out + 3 * BLOCK + i, tl.where(a < b, a, b))


@triton.jit
def _dot_kernel(x, y, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    place = i[:, None] * BLOCK + i[None, :]
    tl.store(out + place, tl.dot(tl.load(x + place), tl.load(y + place)))


def _run(kernel: Any, grid, *args, **meta):
    kernel[grid](*args, **meta)


def _cast(x, dtype):
    y = torch.empty(x.shape, dtype=dtype)
    block = 1 << 16
    with np.errstate(all="ignore"):
        _run(_cast_kernel, (triton.cdiv(x.numel(), block),), x, y, x.numel(), BLOCK=block)
    return y


def _same(a, b):
    a, b = a.float(), b.float()
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(
        a.nan_to_num(0.0).view(torch.int32), b.nan_to_num(0.0).view(torch.int32)
    )


@interpret
def test_float32_to_bfloat16_rounds_to_nearest_even():
    x = _floats()
    assert _same(_cast(x, torch.bfloat16), x.to(torch.bfloat16))


@interpret
def test_bfloat16_to_float32_is_exact():
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    assert _same(_cast(x, torch.float32), x)


@interpret
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_casts_to_e4m3fn_round_to_nearest_even_and_saturate(dtype):
    x = _floats().to(dtype).unique() if dtype is not torch.float32 else _floats()
    want = x.float().clamp(-448, 448).to(torch.float8_e4m3fn)
    assert _same(_cast(x, torch.float8_e4m3fn), want)


@interpret
def test_e4m3fn_to_float32_is_exact():
    x = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e4m3fn)
    assert _same(_cast(x, torch.float32), x)


@interpret
def test_integers_become_the_nearest_bfloat16():
    x = torch.arange(-128, 128, dtype=torch.int16) * 255
    assert _same(_cast(x, torch.bfloat16), x.to(torch.bfloat16))


@interpret
def test_bfloat16_arithmetic_is_float32s_rounded():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1024).bfloat16()
    out = torch.empty(4, 1024, dtype=torch.bfloat16)
    _run(_arithmetic_kernel, (1,), x, y, out, BLOCK=1024)
    assert _same(out, torch.stack((x + y, x * y, x - y, torch.minimum(x, y))))


@interpret
def test_dot_of_bfloat16_is_that_of_its_values():
    torch.manual_seed(0)
    x, y = torch.randn(2, 16, 16).bfloat16()
    out = torch.empty(16, 16)
    _run(_dot_kernel, (1,), x, y, out, BLOCK=16)
    torch.testing.assert_close(out, x.float() @ y.float(), rtol=1e-6, atol=1e-6)


@interpret
def test_correction_is_active_on_a_known_version():
    why = interpreter.correction()
    assert (why is None) == (triton.__version__ in interpreter.KNOWN)


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET=1")
def test_correction_says_that_nothing_is_interpreted():
    assert interpreter.correction() == (
        "the interpreter's casts are not corrected: TRITON_INTERPRET is not 1"
    )


def test_an_unknown_version_is_left_alone_and_named(monkeypatch):
    monkeypatch.setattr(interpreter, "_state", [])
    monkeypatch.setattr(interpreter.triton, "__version__", "9.9.9")
    monkeypatch.setattr(interpreter, "_patch", lambda builder: pytest.fail("patched"))
    interpreter.correct()
    assert interpreter.correction() == (
        "the interpreter's casts are not corrected: Triton 9.9.9 is unknown, known: 3.7.1"
    )


def test_a_known_version_is_patched_once(monkeypatch):
    patched = []
    monkeypatch.setattr(interpreter, "_state", [])
    monkeypatch.setattr(interpreter.triton, "__version__", interpreter.KNOWN[0])
    monkeypatch.setattr(interpreter, "_patch", patched.append)
    interpreter.correct()
    interpreter.correct()
    assert interpreter.correction() is None
    assert len(patched) == 1


def test_rounding_is_to_nearest_even_once():
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20], dtype=np.float32)
    bits = interpreter.from_float32(ties, tl.bfloat16)
    assert bits.dtype == np.uint16
    values = bits.view(ml_dtypes.bfloat16).astype(np.float64).tolist()
    assert values == [1.0, 1 + 2.0**-6, 1 + 2.0**-7]
    inf = np.array([np.inf, -np.inf, 1e9, np.nan], dtype=np.float32)
    assert interpreter.from_float32(inf, tl.float8e4nv).tolist()[:3] == [0x7E, 0xFE, 0x7E]
    np.testing.assert_array_equal(
        interpreter.to_float32(interpreter.from_float32(inf, tl.float8e4nv), tl.float8e4nv),
        np.array([448, -448, 448, np.nan], dtype=np.float32),
    )
