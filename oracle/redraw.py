"""Small cases drawn anew, for a finding that shrinking one thing at a time left large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fuzz.chooser import SeededChooser
from fuzz.strategies.ops import small_case
from oracle.kinds import kind_of
from reference.legal import DECLARATIONS
from reference.model import OpCase, View

SMALL = 4
"""Elements of the largest tensor from which on a finding is as small as people want it."""
DRAWS = 1500
"""Of contents this small about two in a hundred show that a value was rounded once too often."""


def smaller_draws(case: Any) -> Iterator[OpCase]:
    """Cases of the same op and dtype with ``SMALL`` elements in a tensor at most.

    None where ``case`` is one, or no single call. Every other draw keeps its plain arguments.
    """
    if not isinstance(case, OpCase) or _largest(case) <= SMALL:
        return
    declaration, dtype = DECLARATIONS[case.op], kind_of(case).dtype(case)
    if declaration.states:
        return
    plain = {a.name: a.value for a in case.arguments if not isinstance(a.value, View)}
    scalars = {s.name: plain[s.name] for s in declaration.scalars if s.name in plain}
    for index in range(DRAWS):
        chooser = SeededChooser(0, "smaller", case.op, index)
        made = small_case(declaration, dtype, chooser, scalars if index % 2 else {})
        if _largest(made) <= SMALL and made.overload == case.overload:
            yield made


def _largest(case: OpCase) -> int:
    return max((view.numel for view in case.views().values()), default=0)
