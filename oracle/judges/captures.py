"""Judges of captured functions: what is refused, what replays return, and what they leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from oracle.observation import Died, ObservedTensor, Raised
from oracle.observation.capture import CaptureReturned, EventSeen
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.dtypes import FORMATS, decode, numpy_dtype
from reference.layout import same_strides
from reference.model import View, is_self_overlapping
from reference.model.capture import CaptureCase, CaptureEvent, Replay
from reference.programs import ExpectedTensor
from reference.replays import ExpectedCapture, ExpectedEvent, Refused

Step = tuple[int, CaptureEvent, ExpectedEvent, EventSeen]


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptureEvidence:
    """Everything that one check of a captured function knows.

    ``expected`` is None where the reference does not know, and ``unknown`` says why.
    """

    case: CaptureCase
    expected: ExpectedCapture | None
    observation: CaptureReturned | Raised | Died
    unknown: str = ""

    @property
    def returned(self) -> CaptureReturned | None:
        found = self.observation
        return found if isinstance(found, CaptureReturned) else None

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The events as far as what was to be refused was, and nothing else."""
        return tuple(self._followed())

    def _followed(self) -> Iterator[Step]:
        expected, returned = self.expected, self.returned
        if expected is None or returned is None or expected.refused or returned.refused:
            return
        for number, (event, wanted, seen) in enumerate(
            zip(self.case.events, expected.events, returned.events, strict=True)
        ):
            if seen.raised is not None or (wanted.refused is None) != (seen.refused is None):
                return
            yield number, event, wanted, seen

    @property
    def replays(self) -> Iterator[Step]:
        """Those of the events that are replays which returned."""
        for step in self.steps:
            if isinstance(step[1], Replay) and step[2].refused is None:
                yield step


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
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
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
        return _nothing(name)
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


def capture_values(evidence: CaptureEvidence) -> Verdict:
    """Each replay returns what the function returns on these inputs and this memory."""
    name = "capture-values"
    expected = evidence.expected
    if expected is None:
        return undecided(name, evidence.unknown)
    decided = False
    for number, _, wanted, seen in evidence.replays:
        outputs = seen.outputs[: len(wanted.outputs)]
        count = len(wanted.outputs) + evidence.case.noise
        if len(seen.outputs) != count:
            place = _place("result", (number,), str(len(seen.outputs)), str(count))
            return disagrees(name, "arity", place)
        for i, (found, wish) in enumerate(zip(outputs, wanted.outputs, strict=True)):
            at = (number, i)
            if found.dtype != wish.dtype:
                return disagrees(name, "dtype", _place("result", at, found.dtype, wish.dtype))
            if found.shape != wish.shape:
                place = _place("result", at, str(found.shape), str(wish.shape))
                return disagrees(name, "shape", place)
            if not expected.exact or evidence.case.sizes:
                continue
            verdict = _differing(name, "value", "result", at, found, _content(wish))
            if verdict is not None:
                return verdict
            decided = True
    if not decided and evidence.steps and not expected.exact:
        return not_applicable(name, "op-of-the-ir")
    return agrees(name) if decided else _nothing(name)


def capture_eager(evidence: CaptureEvidence) -> Verdict:
    """Each replay returns, bit for bit, what the function gives if called straight."""
    name = "capture-eager"
    decided = False
    for number, _, _, seen in evidence.replays:
        if len(seen.outputs) != len(seen.eager):
            return not_applicable(name, "arity")
        for i, (found, wish) in enumerate(zip(seen.outputs, seen.eager, strict=True)):
            if (found.dtype, found.shape) != (wish.dtype, wish.shape):
                return not_applicable(name, "shape")
            at = (number, i)
            verdict = _differing(name, "replay-differs", "result", at, found, wish.values)
            if verdict is not None:
                return verdict
            decided = True
    return agrees(name) if decided else _nothing(name)


def capture_layout(evidence: CaptureEvidence) -> Verdict:
    """Results have the strides that the function gives them, on the memory's device."""
    name = "capture-layout"
    decided = False
    for number, _, wanted, seen in evidence.replays:
        outputs = seen.outputs[: len(wanted.outputs)]
        for i, (found, wish) in enumerate(zip(outputs, wanted.outputs, strict=False)):
            if found.shape != wish.shape:
                return not_applicable(name, "shape")
            of_eager = seen.eager[i].device if i < len(seen.eager) else found.device
            if found.device != of_eager:
                place = _place("result", (number, i), found.device, of_eager)
                return disagrees(name, "device", place)
            decided = True
            if is_self_overlapping(View(0, wish.shape, wish.strides)):
                # A copy has each element once.
                continue
            if not same_strides(wish.shape, found.strides, wish.strides):
                place = _place("result", (number, i), str(found.strides), str(wish.strides))
                return disagrees(name, "stride", place)
    return agrees(name) if decided else _nothing(name)


def capture_memory(evidence: CaptureEvidence) -> Verdict:
    """A capture leaves memory as it was, a replay leaves what the function leaves in it."""
    name = "capture-memory"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    verdict = _left(evidence, name, "trace-left", "memory", (), expected.memory, returned.memory)
    if verdict is not None:
        return verdict
    for number, _, wanted, seen in () if evidence.case.sizes else evidence.steps:
        kind = "owner-after" if wanted.refused is None else "changed-by-refusal"
        verdict = _left(evidence, name, kind, "memory", (number,), wanted.memory, seen.memory)
        if verdict is not None:
            return verdict
    return agrees(name)


def capture_padding(evidence: CaptureEvidence) -> Verdict:
    """A padded batch gives its rows what they would get alone, and writes nothing else."""
    name = "capture-padding"
    expected = evidence.expected
    if expected is None:
        return undecided(name, evidence.unknown)
    if not evidence.case.sizes:
        return not_applicable(name, "not-padded")
    before = expected.memory
    for number, event, wanted, seen in evidence.steps:
        outputs = seen.outputs if isinstance(event, Replay) else ()
        for i, (found, wish) in enumerate(zip(outputs, wanted.outputs, strict=False)):
            if (found.dtype, found.shape) != (wish.dtype, wish.shape):
                return not_applicable(name, "shape")
            verdict = _differing(name, "real-row", "result", (number, i), found, _content(wish))
            if verdict is not None:
                return verdict
        for storage, (was, wish, found) in enumerate(
            zip(before, wanted.memory, seen.memory, strict=True)
        ):
            if wish is None or found is None:
                continue
            where = _first(found, wish)
            if where is None:
                continue
            place = _element(evidence, (number,), storage, found, wish, where)
            kept = was is not None and _same_element(found, was, wish, where)
            return disagrees(name, "outside-slots" if kept else "owner-after", place)
        before = wanted.memory
    return agrees(name) if evidence.steps else _nothing(name)


def capture_held(evidence: CaptureEvidence) -> Verdict:
    """Results are the caller's own: nothing changes them later, nobody else has their memory."""
    name = "capture-held"
    decided = False
    for number, event, _, seen in evidence.replays:
        if not isinstance(event, Replay) or event.how == "static":
            continue
        decided = True
        if seen.shared:
            place = _place("result", (number,), seen.shared[0], "memory of its own")
            return disagrees(name, "result-shared", place)
        for i, (kept, given) in enumerate(zip(seen.kept or (), seen.outputs, strict=True)):
            at = (number, i)
            verdict = _differing(name, "held-overwritten", "result", at, kept, given.values)
            if verdict is not None:
                return verdict
    return agrees(name) if decided else _nothing(name)


def capture_ledger(evidence: CaptureEvidence) -> Verdict:
    """Every owner whose memory the graph uses is in its ledger, where it lies."""
    name = "capture-ledger"
    expected, returned, case = evidence.expected, evidence.returned, evidence.case
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    if expected.refused is not None or returned.refused is not None:
        return _nothing(name)
    positions = set(expected.used) | (set() if case.sizes else set(range(case.static)))
    for position in sorted(positions):
        if case.owner(position) == "unnamed":
            continue
        view = case.body.input_view(position)
        lines = [line for line in returned.ledger if line.position == position]
        what = case.owner(position) or "static input"
        wish = f"storage {view.storage}, {list(view.shape)} at {view.offset}"
        if not lines:
            place = _place(what, (position,), "no entry", wish)
            return disagrees(name, "unowned", place)
        for line in lines:
            there = line.storage == view.storage and line.offset == view.offset
            if view.numel and not (there and line.shape == view.shape):
                text = f"storage {line.storage}, {list(line.shape)} at {line.offset}"
                return disagrees(name, "elsewhere", _place(what, (position,), text, wish))
    return agrees(name) if positions else _nothing(name)


def is_telling(evidence: CaptureEvidence) -> bool:
    """Agreeing says something where a refusal is due, or results hold unlike elements."""
    expected = evidence.expected
    if expected is None:
        return False
    if expected.refused is not None or any(e.refused is not None for e in expected.events):
        return True
    arrays = [_content(o) for event in expected.events for o in event.outputs]
    return any(len(np.unique(_bits(a))) > 1 for a in arrays)


def _left(
    evidence: CaptureEvidence,
    judge: str,
    kind: str,
    what: str,
    at: tuple[int, ...],
    wanted: tuple[bytes | None, ...],
    seen: tuple[np.ndarray | None, ...],
) -> Verdict | None:
    for storage, (wish, found) in enumerate(zip(wanted, seen, strict=True)):
        if wish is None or found is None:
            continue
        where = _first(found, wish)
        if where is not None:
            return disagrees(judge, kind, _element(evidence, at, storage, found, wish, where))
    return None


def _first(found: np.ndarray, wish: bytes) -> int | None:
    """The first element that has other bits; None where none has."""
    wrong = np.flatnonzero(_bits(found) != _bits(np.frombuffer(wish, found.dtype)))
    return int(wrong[0]) if wrong.size else None


def _same_element(found: np.ndarray, was: bytes, wish: bytes, where: int) -> bool:
    """Whether the element was to stay as it was."""
    size = found.itemsize
    part = slice(where * size, (where + 1) * size)
    return was[part] == wish[part]


def _element(
    evidence: CaptureEvidence,
    at: tuple[int, ...],
    storage: int,
    found: np.ndarray,
    wish: bytes,
    where: int,
) -> Place:
    dtype = evidence.case.body.storages[storage].dtype
    return Place(
        name="memory",
        index=(*at, storage, where),
        observed=_shown(found, where, dtype),
        expected=_shown(np.frombuffer(wish, found.dtype), where, dtype),
    )


def _content(wish: ExpectedTensor) -> np.ndarray:
    return np.frombuffer(wish.content, numpy_dtype(wish.dtype)).reshape(wish.shape)


def _differing(
    judge: str,
    kind: str,
    what: str,
    at: tuple[int, ...],
    found: ObservedTensor,
    wanted: np.ndarray,
) -> Verdict | None:
    wrong = np.flatnonzero(_bits(found.values) != _bits(wanted))
    if not wrong.size:
        return None
    first = int(wrong[0])
    place = Place(
        name=what,
        index=(*at, *(int(i) for i in np.unravel_index(first, found.shape))),
        observed=_shown(found.values, first, found.dtype),
        expected=_shown(wanted, first, found.dtype),
    )
    return disagrees(judge, kind, place, int(wrong.size))


def _bits(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{flat.itemsize}"))


def _shown(values: np.ndarray, at: int, dtype: str) -> str:
    flat = np.ascontiguousarray(values).reshape(-1)
    if dtype in FORMATS and FORMATS[dtype].kind == "float":
        return repr(float(decode(flat, dtype)[at]))
    return repr(flat[at].item())


def _place(name: str, at: tuple[int, ...], observed: str, expected: str) -> Place:
    return Place(name=name, index=at, observed=observed, expected=expected)


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


def _nothing(judge: str) -> Verdict:
    return not_applicable(judge, "no-results")
