"""Contents of program storages: few digits, no zeros, so that nothing rounds and all is seen."""

from __future__ import annotations

import numpy as np

from reference.dtypes import FORMATS, encode
from reference.model import Storage

from ...chooser import Chooser

_VALUES = np.array([-3.0, -2.0, -1.5, -1.0, 0.5, 1.0, 2.0, 3.0])
"""Multiples of 1/2: sums and products of several stay within the 8 digits of bfloat16."""
_WHOLE = np.array([-3, -2, -1, 1, 2, 3, 4, 5])
_PER_WORD = 16


def draw_storage(dtype: str, numel: int, chooser: Chooser) -> Storage:
    """A storage of small numbers, each one of eight; of bools for bool."""
    digits = np.empty(-(-numel // _PER_WORD) * _PER_WORD, np.int64)
    for start in range(0, numel, _PER_WORD):
        word = chooser.integer(0, 8**_PER_WORD - 1)
        digits[start : start + _PER_WORD] = [(word >> 3 * i) & 7 for i in range(_PER_WORD)]
    chosen = digits[:numel]
    if dtype == "bool":
        return Storage(dtype, numel, (chosen < 4).tobytes())
    if FORMATS[dtype].kind == "float":
        return Storage(dtype, numel, encode(_VALUES[chosen], dtype).tobytes())
    return Storage(dtype, numel, _WHOLE[chosen].astype(FORMATS[dtype].dtype).tobytes())


def draw_indices(limit: int, count: int, chooser: Chooser) -> Storage:
    """``count`` int64 indices below ``limit``."""
    return Storage(
        "int64",
        count,
        np.array([chooser.integer(0, limit - 1) for _ in range(count)], np.int64).tobytes(),
    )
