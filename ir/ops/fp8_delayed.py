"""Quantization to float8_e4m3fn with the scale of earlier calls.

The scale follows from the largest absolute value of the last calls, so that it is known before x
is read: one pass over x instead of two. The history is kept between calls, one for each layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.layout import empty_contiguous
from ir.ops.quantization import FP8, _over_fp8_max, _to_fp8
from ir.ops.validation import check_activation
from ir.state import IrContext, ir_state

HISTORY = "fp8_amax_history"
HISTORY_LENGTH = 16


def _history() -> dict[str, Tensor]:
    device = IrContext.get_scope("device")
    return {
        # Zeros say that there was no call yet.
        "amax": torch.zeros(HISTORY_LENGTH, dtype=torch.float32, device=device),
        "next": torch.zeros(1, dtype=torch.int64, device=device),
    }


ir_state.register_type(HISTORY, _history, per=("layer", "device"))


@register_op(state=(HISTORY,))
def quant_fp8_delayed(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / scale, clamped to +-448, as float8_e4m3fn, by a scale that earlier calls decided.

    x: (..., d), 1 to 3 dimensions, float32, float16 or bfloat16. Returns (y, scale): y of x's
    shape, row-major; scale float32 (1,).

    State `fp8_amax_history`, by the scope keys layer and device: the absolute maximum of the last
    16 calls that were finite and not 0, the oldest overwritten first. scale = its largest / 448,
    and 1 where no call left one. This call's own maximum counts from the next call on.
    Raises InputError.
    """
    held = ir_state.get(HISTORY)
    history, place = held["amax"], held["next"]
    largest = history.amax().reshape(1)
    scale = torch.where(largest > 0, _over_fp8_max(largest), torch.ones_like(largest))
    # x may have no rows.
    rows = x.abs().amax(dim=-1).reshape(-1).to(torch.float32)
    amax = torch.cat([rows, rows.new_zeros(1)]).amax().reshape(1)
    counts = torch.isfinite(amax) & (amax > 0)
    history.index_copy_(0, place, torch.where(counts, amax, history.index_select(0, place)))
    place.copy_((place + counts) % HISTORY_LENGTH)
    return _to_fp8(x, scale), scale


@quant_fp8_delayed.register_validation
def _check_quant_fp8_delayed(x: Tensor) -> None:
    check_activation("quant_fp8_delayed", x, 3)
    device = torch.device(IrContext.get_scope("device") or "cpu")
    if x.device.type not in ("meta", device.type):
        accepted = f"{device}, or with ir.scope(device={str(x.device)!r}) around the call"
        raise InputError("quant_fp8_delayed", "x.device", x.device, accepted)


@quant_fp8_delayed.register_fake
def fake_quant_fp8_delayed(x: Tensor) -> tuple[Tensor, Tensor]:
    return empty_contiguous(x, FP8), torch.empty(1, dtype=torch.float32, device=x.device)


@quant_fp8_delayed.register_input_generator
def _generate_quant_fp8_delayed(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
) -> tuple[Tensor]:
    return (torch.randn(num_tokens, hidden_size, dtype=dtype, device=device),)
