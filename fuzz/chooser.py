"""Choices a case is made of, from a counter-based generator or from anything else that chooses.

The builders in ``fuzz.strategies`` ask a ``Chooser`` and know nothing of where answers come from:
``SeededChooser`` makes a case a pure function of its labels, so any number of workers in any order
makes the same cases; the Hypothesis adapter makes the same builders a strategy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0x9E37_79B9_7F4A_7C15


class Chooser(Protocol):
    """Three questions. A sequence may hold an element several times: that is its weight."""

    def choose(self, sequence: Sequence[T]) -> T:
        """An element of a non-empty sequence."""
        ...

    def integer(self, low: int, high: int) -> int:
        """An integer in ``[low, high]``."""
        ...

    def chance(self, probability: float) -> bool:
        """True with about this probability."""
        ...


class SeededChooser:
    """SplitMix64 (see ``reference.model.fill``) started at a hash of the seed and labels.

    Equal seeds and labels give equal answers to equal questions, on every platform and version.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int, *labels: object) -> None:
        text = "\x1f".join((str(seed), *(str(label) for label in labels)))
        self._state = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def _word(self) -> int:
        self._state = (self._state + _GOLDEN) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        return z ^ (z >> 31)

    def choose(self, sequence: Sequence[T]) -> T:
        if not sequence:
            raise ValueError("nothing to choose from: the sequence is empty; accepted: one element")
        return sequence[self._word() % len(sequence)]

    def integer(self, low: int, high: int) -> int:
        if low > high:
            raise ValueError(f"no integer in [{low}, {high}]; accepted: low <= high")
        return low + self._word() % (high - low + 1)

    def chance(self, probability: float) -> bool:
        return (self._word() >> 11) * 2.0**-53 < probability
