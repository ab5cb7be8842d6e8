"""The reference's own answers to a script, dressed as an observation."""

from __future__ import annotations

from oracle.observation import Raised, Unavailable
from oracle.observation.state import Ran, StateAnswer, StateReturned
from reference.model import StateCase
from reference.state import RULES, ExpectedAnswer, expect_state


def observe(case: StateCase) -> StateReturned | Unavailable:
    """What the reference says must be seen."""
    expected = expect_state(case)
    if expected.illegal:
        return Unavailable(expected.illegal)
    return StateReturned(
        route="reference", answers=tuple(_answer(each) for each in expected.answers)
    )


def _answer(wanted: ExpectedAnswer) -> StateAnswer:
    raised = None
    if wanted.rule:
        name, *bases = RULES[wanted.rule]
        words = " ".join(repr(group[0]) for group in wanted.shown)
        raised = Raised(name, tuple(bases), f"{wanted.rule} {words}")
    return StateAnswer(
        raised=raised,
        objects=wanted.objects,
        values=wanted.values,
        text=wanted.text,
        ran=tuple(Ran(name=c.name, keys=c.keys, number=c.identity) for c in wanted.calls),
        changed=wanted.changed,
        moved=wanted.moved,
    )
