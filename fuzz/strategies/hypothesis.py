"""The builders as Hypothesis strategies: for tests and campaigns, never for ``irverify run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from reference.declaration import FLOATS
from reference.legal import DECLARATIONS
from reference.model import OpCase, ProgramCase

from .illegal import illegal_case
from .ops import legal_case
from .programs import program_case
from .signatures import Signature, free_signature

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy], object]


class HypothesisChooser:
    """Answers drawn by Hypothesis; simplest answers are first elements, low numbers and no."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def choose(self, sequence: Sequence[T]) -> T:
        return self._draw(st.sampled_from(sequence))

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def chance(self, probability: float) -> bool:
        return self._draw(st.integers(0, 999)) >= 1000 * (1 - probability)


@st.composite
def legal_cases(draw: st.DrawFn, op: str, *, signature: Signature | None = None) -> OpCase:
    """Legal cases of ``op``, of any dtype and layout unless a signature holds them fixed."""
    declaration = DECLARATIONS[op]
    chooser = HypothesisChooser(draw)
    if signature is None:
        signature = free_signature(declaration, chooser.choose(FLOATS))
    return legal_case(declaration, signature, chooser)


@st.composite
def illegal_cases(draw: st.DrawFn, op: str, *, kind: str | None = None) -> OpCase:
    """Cases of ``op`` with one rule broken."""
    return illegal_case(DECLARATIONS[op], HypothesisChooser(draw), kind=kind)


@st.composite
def programs(draw: st.DrawFn, *, family: str | None = None) -> ProgramCase:
    """Programs of a family of ``fuzz.strategies.programs``, of any where None."""
    return program_case(HypothesisChooser(draw), family=family)
