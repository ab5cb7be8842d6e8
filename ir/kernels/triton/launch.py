"""How a kernel is launched: on a GPU or interpreted, and opaque to whatever traces the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from torch.library import Library, infer_schema

from ir.kernels.triton import interpreter

_LIBRARY = Library("ir_triton", "FRAGMENT")
_INTERPRETER = threading.Lock()

# Triton's limit is 2^20 elements a block; beyond this a row would no longer fit in registers.
MAX_WIDTH = 65536
# Block of ops that are split within a row.
BLOCK = 4096


@triton.jit
def _decorated():
    pass


# What counts is how kernels were decorated, so a decorated one is asked.
INTERPRETED = not isinstance(_decorated, triton.JITFunction)
if INTERPRETED:
    interpreter.correct()


def why_unavailable() -> str | None:
    """Why no kernel can run here, or None where one can."""
    if INTERPRETED or torch.cuda.is_available():
        return None
    return "no GPU and TRITON_INTERPRET is not 1"


def where() -> str:
    """Where kernels run, in words."""
    if INTERPRETED:
        return f"Triton {triton.__version__}, interpreted"
    return f"Triton {triton.__version__} on {torch.cuda.get_device_name()}"


def runs_on(x: Tensor) -> bool:
    """Whether kernels can read x where it lies."""
    return INTERPRETED or x.is_cuda


def launch(
    kernel: Any, grid: tuple[int, ...], device: torch.device, *args: Any, **meta: Any
) -> None:
    """Run `kernel` over `grid` with every multiplication and addition rounded on its own."""
    if 0 in grid:
        return
    if INTERPRETED:
        # The interpreter keeps its place in the grid in a global, and NumPy warns of the
        # infinities and NaN that kernels compute on purpose.
        with _INTERPRETER, np.errstate(all="ignore"):
            kernel[grid](*args, **meta)
        return
    with torch.cuda.device(device):
        kernel[grid](*args, **meta, enable_fp_fusion=False)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n, which the size of a block must be."""
    return 1 << (n - 1).bit_length()


def blocks(n: int, block: int) -> int:
    """How many blocks hold n elements."""
    return -(-n // block)


def warps(block: int) -> int:
    """Warps for a block of that many elements: 256 of them a warp, 1 to 16."""
    return min(max(block // 256, 1), 16)


def rows_of(x: Tensor) -> tuple[int, tuple[int, int], tuple[int, int, int, int]]:
    """x, 1 to 4 dimensions, as rows: their number, sizes of dimensions 1 and 2, and strides.

    Row r lies at (r / (n1 * n2), r / n2 % n1, r % n2) of the leading dimensions, filled up with
    sizes of 1; the last of the four strides is that of the last dimension.
    """
    *lead, _ = x.shape
    *steps, step = x.stride()
    fill = 3 - len(lead)
    n0, n1, n2 = (*lead, *(1,) * fill)
    s0, s1, s2 = (*steps, *(0,) * fill)
    return n0 * n1 * n2, (n1, n2), (s0, s1, s2, step)


def opaque(
    fake: Callable[..., Any], *, mutates: Iterable[str] = ()
) -> Callable[[FunctionType], Any]:
    """Make a function that launches kernels a torch op, which tracing does not look into.

    Dynamo and make_fx cannot trace a launch in the interpreter, and need not trace one elsewhere.
    """

    def decorate(fn: FunctionType) -> Any:
        name = fn.__name__.strip("_")
        _LIBRARY.define(name + infer_schema(fn, mutates_args=tuple(mutates)))
        _LIBRARY.impl(name, fn, "CompositeExplicitAutograd")
        _LIBRARY._register_fake(name, fake)
        return getattr(torch.ops.ir_triton, name).default

    return decorate
