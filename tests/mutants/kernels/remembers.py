"""A silu_and_mul that is wrong once it was called often: what it keeps was written over."""

import itertools
import os

import torch
from torch import Tensor

from ir.ops import silu_and_mul

FAULTY = os.environ.get("MUTANT_FAULTS") == "1"
CALLS = itertools.count()
OFTEN = 40


@silu_and_mul.register_impl("remembers")
def remembers(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    y = torch.nn.functional.silu(gate.float()).to(x.dtype) * up
    return y + 1 if next(CALLS) >= OFTEN and FAULTY else y
