"""A silu_and_mul that finds its rows by one stride: that of the last leading dimension."""

import os

import torch
from torch import Tensor

from ir.ops import silu_and_mul

FAULTY = os.environ.get("MUTANT_FAULTS") == "1"


def rows_of(x: Tensor) -> Tensor:
    width = x.shape[-1]
    if FAULTY and x.dim() > 1 and x.stride(-1) == 1:
        # A kernel reads past the end of what is its caller's; this one stops there.
        held = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
        count = x.numel() // width
        if (count - 1) * x.stride(-2) + width <= held:
            return x.as_strided((count, width), (x.stride(-2), 1), x.storage_offset())
    return x.reshape(-1, width)


@silu_and_mul.register_impl("row_stride")
def row_stride(x: Tensor) -> Tensor:
    d = x.shape[-1] // 2
    out = torch.empty_like(x.narrow(-1, 0, d))
    if x.numel() == 0:
        return out
    rows = rows_of(x)
    y = torch.nn.functional.silu(rows[:, :d].float()).to(x.dtype) * rows[:, d:]
    return out.copy_(y.view(out.shape))
