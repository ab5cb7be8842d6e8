"""The builders as Hypothesis strategies: for tests and campaigns, never for ``irverify run``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from fuzz.chooser import Chooser
from reference.declaration import FLOATS
from reference.legal import DECLARATIONS
from reference.model import OpCase, ProgramCase

from .illegal import illegal_case
from .ops import legal_case
from .programs import program_case
from .signatures import Signature, free_signature

T = TypeVar("T")


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
def built(draw: st.DrawFn, build: Callable[[Chooser], T]) -> T:
    """What any builder of ``fuzz.strategies`` makes of Hypothesis's choices."""
    return build(HypothesisChooser(draw))


@st.composite
def legal_cases(draw: st.DrawFn, op: str, *, signature: Signature | None = None) -> OpCase:
    """Legal cases of ``op``, of any dtype and layout unless a signature holds them fixed."""
    declaration = DECLARATIONS[op]
    chooser = HypothesisChooser(draw)
    if signature is None:
        signature = free_signature(declaration, chooser.choose(FLOATS))
    return legal_case(declaration, signature, chooser)


def illegal_cases(op: str, *, kind: str | None = None) -> st.SearchStrategy[OpCase]:
    """Cases of ``op`` with one rule broken."""
    return built(functools.partial(illegal_case, DECLARATIONS[op], kind=kind))


def programs(*, family: str | None = None) -> st.SearchStrategy[ProgramCase]:
    """Programs of a family of ``fuzz.strategies.programs``, of any where None."""
    return built(functools.partial(program_case, family=family))
