"""Where the outputs lie: declared strides, offset and device, and whether the fake run knew."""

from __future__ import annotations

from oracle.observation import FakeTensorInfo, ObservedTensor, Raised
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.layout import same_strides

from .evidence import Evidence


def layout(evidence: Evidence) -> Verdict:
    """Every output has the strides its op declares, starts its storage, and is on the device."""
    name = "layout"
    returned, expected = evidence.returned, evidence.expected
    if returned is None or expected is None:
        return not_applicable(name, "no-outputs")
    if len(returned.outputs) != len(expected.outputs):
        return not_applicable(name, "arity")
    for observed, wanted in zip(returned.outputs, expected.outputs, strict=True):
        if observed.shape != wanted.shape:
            return not_applicable(name, "shape")
        if observed.device != evidence.device:
            place = Place(name=wanted.name, observed=observed.device, expected=evidence.device)
            return disagrees(name, "device", place)
        if observed.storage >= 0:
            # An activation's own storage, which aliasing judges: its layout is the donor's.
            continue
        if wanted.strides is not None and not same_strides(
            wanted.shape, observed.strides, wanted.strides
        ):
            place = Place(
                name=wanted.name,
                observed=f"strides {observed.strides}",
                expected=f"strides {wanted.strides} for shape {wanted.shape}",
            )
            return disagrees(name, "stride", place)
        if observed.offset and observed.values.size:
            place = Place(
                name=wanted.name, observed=f"offset {observed.offset}", expected="offset 0"
            )
            return disagrees(name, "offset", place)
    return agrees(name)


def fake(evidence: Evidence) -> Verdict:
    """The metadata-only run gives what the real run gave: arity, dtype, shape, strides."""
    name = "fake"
    returned = evidence.returned
    if returned is None:
        return not_applicable(name, "no-outputs")
    found = returned.fake
    if found is None:
        return undecided(name, "no-fake-run")
    if isinstance(found, Raised):
        place = Place(
            name="fake", observed=f"{found.type}: {found.message}", expected="metadata of outputs"
        )
        return disagrees(name, "fake-raises", place)
    if len(found) != len(returned.outputs):
        place = Place(
            name="fake", observed=f"{len(found)} outputs", expected=str(len(returned.outputs))
        )
        return disagrees(name, "fake-arity", place)
    names = [o.name for o in evidence.expected.outputs] if evidence.expected else []
    for number, (meta, real) in enumerate(zip(found, returned.outputs, strict=True)):
        label = names[number] if number < len(names) else f"output {number}"
        verdict = _compare(name, label, meta, real)
        if verdict is not None:
            return verdict
    return agrees(name)


def _compare(judge: str, label: str, meta: FakeTensorInfo, real: ObservedTensor) -> Verdict | None:
    if meta.dtype != real.dtype:
        place = Place(name=label, observed=f"fake {meta.dtype}", expected=f"real {real.dtype}")
        return disagrees(judge, "fake-dtype", place)
    if meta.shape != real.shape:
        place = Place(name=label, observed=f"fake {meta.shape}", expected=f"real {real.shape}")
        return disagrees(judge, "fake-shape", place)
    # An in-place provider returns the activation itself; a fake cannot know which provider runs.
    if real.storage < 0 and not same_strides(real.shape, meta.strides, real.strides):
        place = Place(
            name=label, observed=f"fake strides {meta.strides}", expected=f"real {real.strides}"
        )
        return disagrees(judge, "fake-stride", place)
    return None
