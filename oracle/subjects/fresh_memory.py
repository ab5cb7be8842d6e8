"""What fresh memory holds: set on purpose, so that a read of it shows.

On the CPU glibc's ``mallopt(M_PERTURB)`` fills what ``malloc`` hands out with a chosen byte,
torch's allocations included (mallopt(3)). Small blocks that glibc's per-thread cache recycles
escape it, so workers run with that cache off. On CUDA the caching allocator's free blocks are
overwritten.
"""

from __future__ import annotations

import ctypes
import functools
import os

M_PERTURB = -6
"""From glibc's malloc.h."""

FILLS = (0x5A, 0xC3)
"""Two bytes that read as different finite numbers in every float format."""

WORKER_ENVIRONMENT = {
    "MALLOC_PERTURB_": str(FILLS[0]),
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    "OMP_NUM_THREADS": "1",
}
"""How a worker must be started for ``fill_fresh_memory`` to reach every allocation."""


@functools.cache
def _mallopt():
    try:
        return ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return None


def can_fill(device: str) -> bool:
    """Whether fresh memory of ``device`` can be filled in this process."""
    if device.startswith("cuda"):
        return True
    return _mallopt() is not None and "tcache_count=0" in os.environ.get("GLIBC_TUNABLES", "")


def fill_fresh_memory(device: str, byte: int) -> None:
    """From now on, memory that is handed out fresh on ``device`` holds ``byte`` everywhere."""
    if device.startswith("cuda"):
        import torch

        free = [torch.full((1 << n,), byte, dtype=torch.uint8, device=device) for n in range(9, 26)]
        del free
        return
    mallopt = _mallopt()
    if mallopt is not None:
        # M_PERTURB fills with the complement of its parameter.
        mallopt(M_PERTURB, byte ^ 0xFF)
