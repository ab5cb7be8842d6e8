"""What a call does to memory: writes to inputs, storages shared, bytes nobody wrote."""

from __future__ import annotations

import numpy as np

from oracle.observation import ObservedTensor
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.dtypes import decode
from reference.expectation import memory_after
from reference.model import touched_elements

from .evidence import Evidence


def mutation(evidence: Evidence) -> Verdict:
    """No byte of any input storage changes, but donated activations' own elements.

    A state of the op is, bit for bit, what the call is meant to leave there.
    """
    name = "mutation"
    returned = evidence.returned
    if returned is None:
        return not_applicable(name, "no-outputs")
    case = evidence.case
    views = case.views()
    donated = evidence.declaration.activations if case.overload == "maybe_inplace" else ()
    for number, before in enumerate(_wanted(evidence)):
        after = returned.inputs_after[number]
        changed = _bits(before) != _bits(after)
        for argument in donated:
            if argument in views and views[argument].storage == number:
                changed[touched_elements(views[argument])] = False
        if not changed.any():
            continue
        first = int(np.flatnonzero(changed)[0])
        owner, index = _owner(evidence, number, first)
        place = Place(
            name=owner or f"storage {number}",
            index=index,
            observed=str(after[first]),
            expected=str(before[first]),
        )
        kind = "input-written" if owner else "canary-written"
        return disagrees(name, kind, place, int(changed.sum()))
    return agrees(name)


def _wanted(evidence: Evidence) -> list[np.ndarray]:
    # Of an illegal case, or one without a meaning, nothing may change at all.
    if evidence.expected is None:
        return evidence.case.arrays()
    return memory_after(evidence.declaration, evidence.case)


def _owner(evidence: Evidence, storage: int, element: int) -> tuple[str, tuple[int, ...]]:
    """The argument (and index) that the storage's element belongs to; no name for a canary."""
    for argument, view in evidence.case.views().items():
        if view.storage != storage:
            continue
        hits = np.flatnonzero(touched_elements(view) == element)
        if len(hits):
            return argument, tuple(int(i) for i in np.unravel_index(int(hits[0]), view.shape))
    return "", (element,)


def _bits(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{flat.itemsize}"))


def aliasing(evidence: Evidence) -> Verdict:
    """No output shares storage with an input, another output or an earlier call's, undeclared."""
    name = "aliasing"
    returned, expected = evidence.returned, evidence.expected
    if returned is None or expected is None:
        return not_applicable(name, "no-outputs")
    if len(returned.outputs) != len(expected.outputs):
        return not_applicable(name, "arity")
    views = evidence.case.views()
    seen: dict[int, str] = {}
    for observed, wanted in zip(returned.outputs, expected.outputs, strict=True):
        allowed = views.get(wanted.may_alias) if wanted.may_alias else None
        if observed.storage >= 0:
            if allowed is None or allowed.storage != observed.storage:
                owner = next(
                    (n for n, v in views.items() if v.storage == observed.storage), "an input"
                )
                place = Place(
                    name=wanted.name, observed=f"shares storage with {owner}", expected="its own"
                )
                return disagrees(name, "output-aliases-input", place)
        elif observed.storage in seen:
            place = Place(
                name=wanted.name,
                observed=f"shares storage with {seen[observed.storage]}",
                expected="its own",
            )
            return disagrees(name, "outputs-share-storage", place)
        seen[observed.storage] = wanted.name
    for position in returned.reused:
        place = Place(
            name=expected.outputs[position].name,
            observed="storage of an earlier call's output",
            expected="storage of its own in every call",
        )
        return disagrees(name, "output-reused", place)
    return agrees(name)


def uninitialized(evidence: Evidence) -> Verdict:
    """Two runs over differently filled fresh memory give the same bytes."""
    name = "uninitialized"
    returned = evidence.returned
    if returned is None:
        return not_applicable(name, "no-outputs")
    if returned.again is None:
        return undecided(name, "no-second-fill")
    if len(returned.again) != len(returned.outputs):
        # The second call raised, or returned another number of outputs: the fill decided.
        place = Place(
            name="outputs",
            observed=f"{len(returned.again)} over the second fill",
            expected=str(len(returned.outputs)),
        )
        return disagrees(name, "uninitialized-read", place)
    names = [o.name for o in evidence.expected.outputs] if evidence.expected else []
    for number, (one, two) in enumerate(zip(returned.outputs, returned.again, strict=True)):
        label = names[number] if number < len(names) else f"output {number}"
        verdict = _same(name, label, one, two)
        if verdict is not None:
            return verdict
    return agrees(name)


def _same(judge: str, label: str, one: ObservedTensor, two: ObservedTensor) -> Verdict | None:
    if one.shape != two.shape or one.dtype != two.dtype:
        place = Place(
            name=label, observed=f"{two.dtype}{two.shape}", expected=f"{one.dtype}{one.shape}"
        )
        return disagrees(judge, "uninitialized-read", place)
    different = _bits(one.values) != _bits(two.values)
    if not different.any():
        return None
    first = int(np.flatnonzero(different)[0])
    values = [decode(o.values, o.dtype).reshape(-1)[first] for o in (one, two)]
    place = Place(
        name=label,
        index=tuple(int(i) for i in np.unravel_index(first, one.shape)),
        observed=f"{float(values[0])!r} and {float(values[1])!r} over two fills of fresh memory",
        expected="one value",
    )
    return disagrees(judge, "uninitialized-read", place, int(different.sum()))
