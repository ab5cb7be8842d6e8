"""Quantization to float8_e4m3fn: x divided by a scale in float32, clamped, rounded once."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.layout import empty_contiguous
from ir.ops.validation import check_activation, check_scalar

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
# A scale this small maps the least step of a unit range, 1/512, onto the largest value.
TOKEN_SCALE_FLOOR = 1.0 / (FP8_MAX * 512.0)
GROUP_ABSMAX_FLOOR = 1e-10
_EXPONENT_BITS = 0x7F800000


def _to_fp8(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale as float8_e4m3fn, row-major. The cast alone would saturate on some versions of
    torch and give NaN on others."""
    scaled = (x.to(torch.float32) / scale).clamp(-FP8_MAX, FP8_MAX)
    return scaled.to(FP8, memory_format=torch.contiguous_format)


def _over_fp8_max(absmax: Tensor) -> Tensor:
    """absmax / 448, rounded once to float32.

    In float32, torch multiplies by the reciprocal instead when the divisor is a Python number
    and the device is a GPU. In float64 both ways are so close that the rounding to float32 is
    right: x / 448 is never within 2^-35 of the middle of two normal float32.
    """
    return (absmax.to(torch.float64) / FP8_MAX).to(torch.float32)


def _next_power_of_two(scale: Tensor) -> Tensor:
    """The smallest power of two >= scale, for normal positive float32; inf and NaN stay."""
    below = (scale.view(torch.int32) & _EXPONENT_BITS).view(torch.float32)
    power = torch.where(below < scale, below * 2.0, below)
    return torch.where(scale.isnan(), scale, power)


@register_op
def static_quant_fp8(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale, clamped to +-448, as float8_e4m3fn (`static_quant_fp8/1`).

    x: (..., d), 1 to 3 dimensions, float32, float16 or bfloat16. scale: float32, () or (1,), of any
    value (0, negative and NaN included). Returns x's shape, row-major. NaN stays NaN, an infinity
    becomes +-448, a zero keeps its sign. Raises InputError.
    """
    return _to_fp8(x, scale)


@static_quant_fp8.register_validation
def _check_static_quant_fp8(x: Tensor, scale: Tensor) -> None:
    check_activation("static_quant_fp8", x, 3)
    check_scalar("static_quant_fp8", "scale", scale, x)


@static_quant_fp8.register_fake
def fake_static_quant_fp8(x: Tensor, scale: Tensor) -> Tensor:
    return empty_contiguous(x, FP8)


@static_quant_fp8.register_input_generator
def _generate_static_quant_fp8(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    scale: float = 0.0125,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    x = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    return x, torch.tensor([scale], dtype=torch.float32, device=device)


@register_op
def dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """x / scale as float8_e4m3fn, a scale for each row (`dynamic_per_token_quant_fp8/1`).

    x: (..., d), 1 to 3 dimensions, float32, float16 or bfloat16. scale_ub: float32, () or (1,): an
    upper bound of the absolute maximum of a row, of any value. scale = max(absmax / 448, 1 / (448 *
    512)). Returns (y, scale): y of x's shape, scale float32 (..., 1), both row-major. A row that
    holds a NaN has a NaN scale and NaN outputs. Raises InputError.
    """
    absmax = x.abs().amax(dim=-1, keepdim=True).to(torch.float32)
    if scale_ub is not None:
        absmax = torch.minimum(absmax, scale_ub)
    scale = _over_fp8_max(absmax).clamp(min=TOKEN_SCALE_FLOOR).contiguous()
    return _to_fp8(x, scale), scale


@dynamic_per_token_quant_fp8.register_validation
def _check_dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None = None) -> None:
    check_activation("dynamic_per_token_quant_fp8", x, 3)
    if scale_ub is not None:
        check_scalar("dynamic_per_token_quant_fp8", "scale_ub", scale_ub, x)


@dynamic_per_token_quant_fp8.register_fake
def fake_dynamic_per_token_quant_fp8(
    x: Tensor, scale_ub: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    scale = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
    return empty_contiguous(x, FP8), scale


@dynamic_per_token_quant_fp8.register_input_generator
def _generate_dynamic_per_token_quant_fp8(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    scale_ub: float | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    bound = None if scale_ub is None else torch.tensor([scale_ub], device=device)
    return x, bound


def empty_group_scale(x: Tensor, group_size: int, column_major_scales: bool) -> Tensor:
    """An uninitialized scale for each group of x's last dimension, in its declared layout."""
    groups = x.shape[-1] // group_size
    if not column_major_scales:
        return torch.empty((*x.shape[:-1], groups), dtype=torch.float32, device=x.device)
    stored = (*x.shape[:-2], groups, x.shape[-2])
    return torch.empty(stored, dtype=torch.float32, device=x.device).transpose(-1, -2)


@register_op
def per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
) -> tuple[Tensor, Tensor]:
    """x / scale as float8_e4m3fn, a scale for each group (`per_token_group_quant_fp8/1`).

    x: (..., d), 1 to 3 dimensions, float32, float16 or bfloat16. group_size: neighbours in the
    last dimension that share a scale; divides d. scale = max(absmax, 1e-10) / 448. ue8m0: the
    next power of two of it. Returns (y, scale): y of x's shape, row-major; scale float32
    (..., d / group_size), row-major, or with column_major_scales (rank >= 2) its last two
    dimensions stored swapped. Raises InputError.
    """
    groups = x.unflatten(-1, (x.shape[-1] // group_size, group_size))
    absmax = groups.abs().amax(dim=-1).to(torch.float32).clamp(min=GROUP_ABSMAX_FLOOR)
    scale = _over_fp8_max(absmax)
    if ue8m0:
        scale = _next_power_of_two(scale)
    y = _to_fp8(groups, scale.unsqueeze(-1)).view(x.shape)
    if column_major_scales:
        return y, scale.transpose(-1, -2).contiguous().transpose(-1, -2)
    return y, scale.contiguous()


@per_token_group_quant_fp8.register_validation
def _check_per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
) -> None:
    op = "per_token_group_quant_fp8"
    check_activation(op, x, 3)
    if group_size < 1 or x.shape[-1] % group_size:
        raise InputError(op, "group_size", group_size, f"a divisor of {x.shape[-1]}")
    if column_major_scales and x.dim() < 2:
        raise InputError(op, "x.dim()", x.dim(), "2 or 3 with column_major_scales")


@per_token_group_quant_fp8.register_fake
def fake_per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
) -> tuple[Tensor, Tensor]:
    scale = empty_group_scale(x, group_size, column_major_scales)
    return empty_contiguous(x, FP8), scale


@per_token_group_quant_fp8.register_input_generator
def _generate_per_token_group_quant_fp8(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    group_size: int = 128,
    column_major_scales: bool = False,
    ue8m0: bool = False,
    device: torch.device | str | None = None,
) -> tuple[Tensor, int, bool, bool]:
    x = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    return x, group_size, column_major_scales, ue8m0
