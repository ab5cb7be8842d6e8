"""Does a legal call return, and is an illegal one refused with the documented error?"""

from __future__ import annotations

from oracle.observation import Died, Raised, Returned
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable
from reference.declaration import Refusal

from .evidence import Evidence

DOCUMENTED = "InputError"
"""The class that refusals are documented to raise, by name: the judge knows no subject."""


def _is_documented(raised: Raised) -> bool:
    return DOCUMENTED in (raised.type, *raised.bases)


def completion(evidence: Evidence) -> Verdict:
    """A legal case returns: it neither raises, nor is refused, nor takes its process down."""
    name = "completion"
    if evidence.expected is None:
        return not_applicable(name, "must-be-refused")
    observation = evidence.observation
    if isinstance(observation, Died):
        kind = "timeout" if observation.how == "timeout" else "crash"
        place = Place(name="process", observed=observation.how, expected="outputs")
        return disagrees(name, kind, place)
    if isinstance(observation, Raised):
        kind = "refused-legal" if _is_documented(observation) else "raised"
        text = f"{observation.type}: {observation.message}"
        return disagrees(name, kind, Place(name="call", observed=text, expected="outputs"))
    return agrees(name)


def refusal(evidence: Evidence) -> Verdict:
    """An illegal case raises the documented error, whatever the provider."""
    name = "refusal"
    expectation, observation = evidence.expectation, evidence.observation
    if not isinstance(expectation, Refusal):
        return not_applicable(name, "nothing-to-refuse")
    wanted = f"{DOCUMENTED}, since {expectation.argument} {expectation.rule}"
    if isinstance(observation, Returned):
        place = Place(name=expectation.argument, observed="outputs", expected=wanted)
        return disagrees(name, "not-refused", place)
    if isinstance(observation, Raised):
        if _is_documented(observation):
            return agrees(name)
        text = f"{observation.type}: {observation.message}"
        place = Place(name=expectation.argument, observed=text, expected=wanted)
        return disagrees(name, "wrong-error", place)
    how = getattr(observation, "how", "")
    place = Place(name=expectation.argument, observed=f"died ({how})", expected=wanted)
    return disagrees(name, "crash" if how != "timeout" else "timeout", place)
