"""The judges of state: each looks at the first action that did anything else than it must.

What comes after that action may follow from it, and says nothing more. Between them they look at
all that makes an action differ, so that a script without a disagreement has no such action.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from oracle.observation import Died, Raised
from oracle.observation.state import StateAnswer, StateReturned
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable
from reference.model import StateAction, StateCase
from reference.state import RULES, ExpectedAnswer, ExpectedState

UNASKED = (
    "thread", "task", "copy", "set", "reset", "enter", "leave", "get-scope", "register",
    "unregister", "override", "restore", "plan", "describe", "exists", "replace", "discard",
    "seal", "unseal", "verify", "forget",
)  # fmt: skip
"""Actions that ask for no state, and so create none."""
FACTS = {"get-scope": "scope", "exists": "exists", "plan": "plan", "describe": "description"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """The first action that differs: its number, itself, what it gave and must give."""

    number: int
    action: StateAction
    seen: StateAnswer
    wanted: ExpectedAnswer
    known: int
    """How many objects there were before it."""

    @property
    def settled(self) -> bool:
        """Whether it was refused where it must be, or accepted where it must be."""
        return (self.seen.raised is None) == (not self.wanted.rule)

    def place(self, observed: object, expected: object) -> Place:
        shown = f"{self.action.verb}: {observed}"
        return Place(name="action", index=(self.number,), observed=shown, expected=f"{expected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEvidence:
    """A script, what it must give, and what it gave."""

    case: StateCase
    expected: ExpectedState
    observation: Any
    differing: Differing | None

    @property
    def returned(self) -> StateReturned | None:
        return self.observation if isinstance(self.observation, StateReturned) else None


def state_evidence(case: StateCase, expected: ExpectedState, observation: Any) -> StateEvidence:
    """The evidence, with the first action that differs in anything."""
    found = None
    if isinstance(observation, StateReturned) and not expected.illegal:
        known = 0
        answers = zip(case.actions, observation.answers, expected.answers, strict=True)
        for number, (action, seen, wanted) in enumerate(answers):
            if _differs(action, seen, wanted):
                found = Differing(
                    number=number, action=action, seen=seen, wanted=wanted, known=known
                )
                break
            known = max((known, *(i + 1 for i in wanted.changed)))
    return StateEvidence(case=case, expected=expected, observation=observation, differing=found)


def is_telling(evidence: StateEvidence) -> bool:
    """Agreeing says something where a state was made or an action refused."""
    return any(answer.changed or answer.rule for answer in evidence.expected.answers)


def _differs(action: StateAction, seen: StateAnswer, wanted: ExpectedAnswer) -> bool:
    return (
        wrong_refusal(seen.raised, wanted) is not None
        or (seen.objects, seen.values) != (wanted.objects, wanted.values)
        or (action.verb in FACTS and seen.text != wanted.text)
        or _ran(seen) != _calls(wanted)
        or dict(seen.changed) != dict(wanted.changed)
        or not set(seen.moved) <= set(wanted.moved)
        or any(graph.kept for graph in seen.graphs)
    )


def _ran(seen: StateAnswer) -> list[tuple[str, dict[str, str], int | None]]:
    return [(each.name, dict(each.keys), each.number) for each in seen.ran]


def _calls(wanted: ExpectedAnswer) -> list[tuple[str, dict[str, str], int | None]]:
    return [(each.name, dict(each.keys), each.identity) for each in wanted.calls]


def wrong_refusal(raised: Raised | None, wanted: ExpectedAnswer) -> str | None:
    """The kind of what is wrong with an error, or with there being none."""
    if not wanted.rule:
        if raised is None:
            return None
        refusal = "StateError" in (raised.type, *raised.bases)
        return "refused-legal" if refusal else "raised"
    if raised is None:
        return "not-refused"
    names = RULES[wanted.rule]
    if raised.type != names[0] or not set(names[1:]) <= set(raised.bases):
        return "wrong-error"
    named = all(any(repr(word) in raised.message for word in words) for words in wanted.shown)
    return None if named else "unnamed"


def state_refusal(evidence: StateEvidence) -> Verdict:
    """What must be refused is, by its error and naming what it is about; nothing else is."""
    name = "state-refusal"
    if isinstance(evidence.observation, Died):
        how = evidence.observation.how
        kind = "timeout" if how == "timeout" else "crash"
        return disagrees(name, kind, Place(name="process", observed=how, expected="answers"))
    if isinstance(evidence.observation, Raised):
        raised = evidence.observation
        place = Place(name="script", observed=f"{raised.type}: {raised.message}", expected="")
        return disagrees(name, "raised", place)
    at = evidence.differing
    kind = None if at is None else wrong_refusal(at.seen.raised, at.wanted)
    if at is None or kind is None:
        return agrees(name)
    raised = at.seen.raised
    seen = "accepted" if raised is None else f"{raised.type}: {raised.message.splitlines()[:1]}"
    rule = at.wanted.rule
    words = "".join(f", showing {' or '.join(map(repr, group))}" for group in at.wanted.shown)
    wanted = f"{RULES[rule][0]} ({rule}){words}" if rule else "accepted"
    return disagrees(name, kind, at.place(seen, wanted))


def state_creation(evidence: StateEvidence) -> Verdict:
    """A creation function runs once for each state, when it is first asked for, in its scope."""
    name = "state-creation"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    seen, wanted = _ran(at.seen), _calls(at.wanted)
    if seen == wanted:
        return agrees(name)
    place = at.place(_told(at.seen.ran) or "none created", _told(at.wanted.calls) or "none created")
    more = Counter(each[0] for each in seen) - Counter(each[0] for each in wanted)
    if more:
        kind = "created-unasked" if at.action.verb in UNASKED else "created-again"
        return disagrees(name, kind, place)
    made = [sum(each[2] is not None for each in side) for side in (seen, wanted)]
    if len(seen) < len(wanted) or made[0] < made[1]:
        return disagrees(name, "not-created", place)
    if [each[:2] for each in seen] != [each[:2] for each in wanted]:
        return disagrees(name, "created-elsewhere", place)
    numbers = [[each[2] for each in side] for side in (seen, wanted)]
    place = at.place(f"made objects {numbers[0]}", f"objects {numbers[1]}")
    return disagrees(name, "created-elsewhere", place)


def _told(calls: Any) -> str:
    shown = [
        f"{c.name} where {', '.join(f'{k}={v}' for k, v in c.keys.items()) or 'nothing is set'}"
        for c in calls
    ]
    return "; ".join(shown)


def state_identity(evidence: StateEvidence) -> Verdict:
    """A state is one object for as long as nothing drops it, and the object of no other state."""
    name = "state-identity"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    seen, wanted = at.seen.objects, at.wanted.objects
    if len(seen) != len(wanted):
        if not at.settled:
            return not_applicable(name, "nothing-handed-out")
        place = at.place(f"{len(seen)} objects", f"{len(wanted)} objects")
        return disagrees(name, "another-object", place)
    for one, other in zip(seen, wanted, strict=True):
        if one != other:
            place = at.place(f"object {one}", f"object {other}")
            return disagrees(name, "shared" if one < at.known else "another-object", place)
    return agrees(name)


def state_values(evidence: StateEvidence) -> Verdict:
    """Ops and models return, and leave in their states, what as many eager calls would."""
    name = "state-values"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    # What is refused returns nothing, and may leave something behind all the same.
    if at.settled and at.seen.values != at.wanted.values:
        return disagrees(name, "output", at.place(at.seen.values, at.wanted.values))
    for number, content in at.wanted.changed.items():
        found = at.seen.changed.get(number)
        if found != content:
            text = "unchanged" if found is None else f"holds {found}"
            place = at.place(f"object {number} {text}", f"holds {content}")
            return disagrees(name, "content", place)
    return agrees(name)


def state_isolation(evidence: StateEvidence) -> Verdict:
    """An action writes the states that it means, and no other."""
    name = "state-isolation"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    # An object that appears is told by whoever handed it out or made it.
    told = {*at.seen.objects, *(each.number for each in at.seen.ran)}
    for number, content in at.seen.changed.items():
        if number in at.wanted.changed:
            continue
        if number < at.known or number not in told:
            place = at.place(f"object {number} holds {content}", "as before")
            return disagrees(name, "wrote-another", place)
    return agrees(name)


def state_facts(evidence: StateEvidence) -> Verdict:
    """What is told of scopes, of what exists and of what is planned is true."""
    name = "state-facts"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    fact = FACTS.get(at.action.verb)
    if fact is None or not at.settled or at.seen.text == at.wanted.text:
        return agrees(name)
    return disagrees(name, fact, at.place(at.seen.text, at.wanted.text))


def state_addresses(evidence: StateEvidence) -> Verdict:
    """A state keeps its memory, in compiled steps too."""
    name = "state-addresses"
    at = evidence.differing
    if at is None:
        return _nothing(evidence, name)
    for number in at.seen.moved:
        if number not in at.wanted.moved:
            place = at.place(f"object {number} lies elsewhere", "where it was")
            return disagrees(name, "moved", place)
    return agrees(name)


def state_clones(evidence: StateEvidence) -> Verdict:
    """No clone of a state is left in a compiled graph."""
    name = "state-clones"
    returned = evidence.returned
    if returned is None or not any(answer.graphs for answer in returned.answers):
        return not_applicable(name, "no-graph")
    at = evidence.differing
    for graph in at.seen.graphs if at is not None else ():
        if graph.kept and at is not None:
            place = at.place(f"{len(graph.kept)} left: {', '.join(graph.kept)}", "none left")
            return disagrees(name, "clone-left", place)
    return agrees(name)


def _nothing(evidence: StateEvidence, name: str) -> Verdict:
    return agrees(name) if evidence.returned is not None else not_applicable(name, "no-answers")
