"""Judges of what replays of a captured function return, and of what they leave in memory."""

from __future__ import annotations

import numpy as np

from oracle.observation import ObservedTensor
from oracle.verdict import Outcome, Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.dtypes import FORMATS, decode
from reference.layout import same_strides
from reference.model import View, is_self_overlapping
from reference.model.capture import Replay

from .captures_evidence import CaptureEvidence, bits_of, content_of, no_results, place_at
from .programs_stock import AS_STOCK


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
            place = place_at("result", (number,), str(len(seen.outputs)), str(count))
            return disagrees(name, "arity", place)
        for i, (found, wish) in enumerate(zip(outputs, wanted.outputs, strict=True)):
            at = (number, i)
            if found.dtype != wish.dtype:
                return disagrees(name, "dtype", place_at("result", at, found.dtype, wish.dtype))
            if found.shape != wish.shape:
                place = place_at("result", at, str(found.shape), str(wish.shape))
                return disagrees(name, "shape", place)
            if not expected.exact or evidence.case.sizes:
                continue
            verdict = _differing(name, "value", "result", at, found, content_of(wish))
            if verdict is not None:
                return verdict
            decided = True
    if not decided and evidence.steps and not expected.exact:
        return not_applicable(name, "op-of-the-ir")
    return agrees(name) if decided else no_results(name)


def capture_eager(evidence: CaptureEvidence) -> Verdict:
    """Each replay returns and leaves, bit for bit, what the function does if called straight."""
    name = "capture-eager"
    verdict = _beside_eager(evidence, name)
    returned = evidence.returned
    if verdict.outcome is Outcome.DISAGREES and returned is not None and returned.as_stock:
        return undecided(name, AS_STOCK)
    return verdict


def _beside_eager(evidence: CaptureEvidence, name: str) -> Verdict:
    decided = False
    for number, event, wanted, seen in evidence.steps:
        outputs = seen.outputs if isinstance(event, Replay) else ()
        if len(outputs) != len(seen.eager):
            return not_applicable(name, "arity")
        for i, (found, wish) in enumerate(zip(outputs, seen.eager, strict=True)):
            at = (number, i)
            if (found.dtype, found.shape) != (wish.dtype, wish.shape):
                if i < len(wanted.outputs):
                    return not_applicable(name, "shape")
                # Of random numbers the reference tells nothing.
                place = place_at("result", at, _looks(found), _looks(wish))
                return disagrees(name, "replay-differs", place)
            verdict = _differing(name, "replay-differs", "result", at, found, wish.values)
            if verdict is not None:
                return verdict
            decided = True
        straight = _bytes(evidence, seen.eager_memory)
        verdict = _left(evidence, name, "memory-differs", (number,), straight, seen.memory)
        if verdict is not None:
            return verdict
        decided = decided or any(content is not None for content in straight)
    return agrees(name) if decided else no_results(name)


def _looks(tensor: ObservedTensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}"


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
                place = place_at("result", (number, i), found.device, of_eager)
                return disagrees(name, "device", place)
            decided = True
            if is_self_overlapping(View(0, wish.shape, wish.strides)):
                # A copy has each element once.
                continue
            if not same_strides(wish.shape, found.strides, wish.strides):
                place = place_at("result", (number, i), str(found.strides), str(wish.strides))
                return disagrees(name, "stride", place)
    return agrees(name) if decided else no_results(name)


def capture_memory(evidence: CaptureEvidence) -> Verdict:
    """A capture leaves memory as it was, a replay leaves what the function leaves in it."""
    name = "capture-memory"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else no_results(name)
    verdict = _left(evidence, name, "trace-left", (), expected.memory, returned.memory)
    if verdict is not None:
        return verdict
    before = returned.memory
    for number, _, wanted, seen in evidence.steps:
        if wanted.refused is not None:
            # Whatever memory held: also where no contract settles it.
            held = _bytes(evidence, before)
            verdict = _left(evidence, name, "changed-by-refusal", (number,), held, seen.memory)
        elif not evidence.case.sizes:
            verdict = _left(evidence, name, "owner-after", (number,), wanted.memory, seen.memory)
        if verdict is not None:
            return verdict
        before = seen.memory
    if not expected.exact and any(True for _ in evidence.replays):
        return not_applicable(name, "op-of-the-ir")
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
        outputs = seen.outputs if isinstance(event, Replay) else ()
        for i, (found, wish) in enumerate(zip(outputs, wanted.outputs, strict=False)):
            if (found.dtype, found.shape) != (wish.dtype, wish.shape):
                return not_applicable(name, "shape")
            verdict = _differing(name, "real-row", "result", (number, i), found, content_of(wish))
            if verdict is not None:
                return verdict
        before = wanted.memory
    return agrees(name) if evidence.steps else no_results(name)


def capture_held(evidence: CaptureEvidence) -> Verdict:
    """Results are the caller's own: nothing changes them later, nobody else has their memory."""
    name = "capture-held"
    decided = False
    for number, event, _, seen in evidence.replays:
        if not isinstance(event, Replay) or event.how == "static":
            continue
        decided = True
        if seen.shared:
            place = place_at("result", (number,), seen.shared[0], "memory of its own")
            return disagrees(name, "result-shared", place)
        for i, (kept, given) in enumerate(zip(seen.kept or (), seen.outputs, strict=True)):
            at = (number, i)
            verdict = _differing(name, "held-overwritten", "result", at, kept, given.values)
            if verdict is not None:
                return verdict
    return agrees(name) if decided else no_results(name)


def _bytes(
    evidence: CaptureEvidence, memory: tuple[np.ndarray | None, ...]
) -> tuple[bytes | None, ...]:
    """What storages hold; None for those that a graph pads."""
    return tuple(
        None if content is None or i in evidence.padded else content.tobytes()
        for i, content in enumerate(memory)
    )


def _left(
    evidence: CaptureEvidence,
    judge: str,
    kind: str,
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
    wrong = np.flatnonzero(bits_of(found) != bits_of(np.frombuffer(wish, found.dtype)))
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


def _differing(
    judge: str,
    kind: str,
    what: str,
    at: tuple[int, ...],
    found: ObservedTensor,
    wanted: np.ndarray,
) -> Verdict | None:
    wrong = np.flatnonzero(bits_of(found.values) != bits_of(wanted))
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


def _shown(values: np.ndarray, at: int, dtype: str) -> str:
    flat = np.ascontiguousarray(values).reshape(-1)
    if dtype in FORMATS and FORMATS[dtype].kind == "float":
        return repr(float(decode(flat, dtype)[at]))
    return repr(flat[at].item())
