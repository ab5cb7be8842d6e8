"""Judges of captured functions: what is captured, what is refused, and who owns the memory."""

from __future__ import annotations

from oracle.observation import Died, Raised
from oracle.observation.capture import LedgerLine
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.layout import same_strides
from reference.model import View
from reference.model.capture import CaptureEvent
from reference.replays import Refused

from .captures_evidence import CaptureEvidence, no_results, place_at


def capture_completion(evidence: CaptureEvidence) -> Verdict:
    """What is legal is captured, replayed and done."""
    name = "capture-completion"
    seen, expected = evidence.observation, evidence.expected
    if isinstance(seen, Died):
        kind = "timeout" if seen.how == "timeout" else "crash"
        return disagrees(name, kind, Place(name="process", observed=seen.how, expected="replays"))
    if isinstance(seen, Raised):
        text = f"{seen.type}: {_line(seen.message)}"
        return disagrees(name, "raised", Place(name="capture", observed=text, expected="a graph"))
    if expected is None:
        return undecided(name, evidence.unknown)
    if expected.refused is not None:
        return not_applicable(name, "must-be-refused")
    if seen.refused is not None:
        text = f"{seen.refused.reason or seen.refused.family}: {_line(seen.refused.text)}"
        place = Place(name="capture", observed=text, expected="a graph")
        return disagrees(name, "refused-legal", place)
    for number, (wanted, found) in enumerate(zip(expected.events, seen.events, strict=True)):
        what = _named(evidence.case.events[number])
        if found.raised is not None:
            text = f"{found.raised.type}: {_line(found.raised.message)}"
            wish = "results" if wanted.refused is None else _wish(wanted.refused)
            place = Place(name=what, index=(number,), observed=text, expected=wish)
            return disagrees(name, "raised", place)
        if wanted.refused is None and found.refused is not None:
            text = f"{found.refused.family}: {_line(found.refused.text)}"
            place = Place(name=what, index=(number,), observed=text, expected="done")
            return disagrees(name, "refused-legal", place)
        if (wanted.refused is None) != (found.refused is None):
            break
    return agrees(name)


def capture_refusal(evidence: CaptureEvidence) -> Verdict:
    """What must be refused is, for its reason, and the owner is named."""
    name = "capture-refusal"
    expected, seen = evidence.expected, evidence.returned
    if expected is None or seen is None:
        return undecided(name, evidence.unknown) if evidence.unknown else no_results(name)
    if expected.refused is not None:
        wanted = expected.refused
        place = Place(name=f"capture ({wanted.reason})", observed="", expected=_wish(wanted))
        if seen.refused is None:
            return disagrees(name, "not-refused", _with(place, "a graph"))
        if seen.refused.reason != wanted.reason:
            found = seen.refused.reason or seen.refused.family
            return disagrees(name, "wrong-reason", _with(place, found))
        return agrees(name)
    if seen.refused is not None:
        return no_results(name)
    any_refused = False
    for number, (want, found) in enumerate(zip(expected.events, seen.events, strict=True)):
        refused = want.refused
        if found.raised is not None:
            break
        if refused is None:
            if found.refused is not None:
                break
            continue
        any_refused = True
        place = Place(name=refused.family, index=(number,), observed="", expected=_wish(refused))
        if found.refused is None:
            return disagrees(name, "not-refused", _with(place, "done"))
        if found.refused.family != refused.family:
            return disagrees(name, "wrong-reason", _with(place, _line(found.refused.text)))
        if refused.owners and found.refused.owner not in refused.owners:
            return disagrees(name, "unnamed", _with(place, _line(found.refused.text)))
    return agrees(name) if any_refused else not_applicable(name, "nothing-to-refuse")


def capture_ledger(evidence: CaptureEvidence) -> Verdict:
    """Every owner whose memory the graph uses is in its ledger, where it lies."""
    name = "capture-ledger"
    expected, returned, case = evidence.expected, evidence.returned, evidence.case
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else no_results(name)
    if expected.refused is not None or returned.refused is not None:
        return no_results(name)
    positions = set(expected.used) | (set() if case.sizes else set(range(case.static)))
    count = len(case.sizes or (0,))
    if len(returned.ledgers) != count:
        place = place_at("graph", (), f"{len(returned.ledgers)} ledgers", f"{count} ledgers")
        return disagrees(name, "unowned", place)
    for number, ledger in enumerate(returned.ledgers):
        for position in sorted(positions):
            if case.owner(position) == "unnamed":
                continue
            view = case.body.input_view(position)
            lines = [line for line in ledger if line.position == position]
            what = case.owner(position) or "static input"
            at = (number, position) if case.sizes else (position,)
            wish = f"storage {view.storage}, {_lies(view)}"
            if not lines:
                return disagrees(name, "unowned", place_at(what, at, "no entry", wish))
            for line in lines:
                if view.numel and not _is_there(line, view):
                    text = f"storage {line.storage}, {_lies(line)}"
                    return disagrees(name, "elsewhere", place_at(what, at, text, wish))
    return agrees(name) if positions else no_results(name)


def _is_there(line: LedgerLine, view: View) -> bool:
    """Whether an entry has the very elements of an owner."""
    return (line.storage, line.shape, line.offset) == (
        view.storage,
        view.shape,
        view.offset,
    ) and same_strides(view.shape, line.strides, view.strides)


def _lies(tensor: LedgerLine | View) -> str:
    return f"{list(tensor.shape)} with strides {list(tensor.strides)} at {tensor.offset}"


def _with(place: Place, observed: str) -> Place:
    return Place(name=place.name, index=place.index, observed=observed, expected=place.expected)


def _wish(refused: Refused) -> str:
    if refused.reason:
        return f"refused: {refused.reason}"
    owners = f" naming input {' or '.join(map(str, sorted(refused.owners)))}"
    return f"refused by the {refused.family}{owners if refused.owners else ''}"


def _named(event: CaptureEvent) -> str:
    return type(event).__name__.lower()


def _line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]
