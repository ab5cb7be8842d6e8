"""Where a program's outputs lie, and who shares memory with whom."""

from __future__ import annotations

from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.layout import same_strides
from reference.model import View, touched_elements
from reference.programs import ExpectedProgram, ExpectedTensor

from .programs_evidence import ProgramEvidence


def program_layout(evidence: ProgramEvidence) -> Verdict:
    """Every output has its strides and its place in its storage, on the inputs' device."""
    name = "program-layout"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    if len(returned.outputs) != len(expected.outputs):
        return not_applicable(name, "arity")
    for i, (found, wanted) in enumerate(zip(returned.outputs, expected.outputs, strict=True)):
        if found.shape != wanted.shape:
            return not_applicable(name, "shape")
        if found.device != "cpu":
            place = Place(name="output", index=(i,), observed=found.device, expected="cpu")
            return disagrees(name, "device", place)
        if not same_strides(wanted.shape, found.strides, wanted.strides):
            place = Place(
                name="output",
                index=(i,),
                observed=f"strides {found.strides}",
                expected=f"strides {wanted.strides} for shape {wanted.shape}",
            )
            return disagrees(name, "stride", place)
        if found.offset != wanted.offset and 0 not in wanted.shape:
            place = Place(
                name="output",
                index=(i,),
                observed=f"offset {found.offset}",
                expected=f"offset {wanted.offset}",
            )
            return disagrees(name, "offset", place)
    return agrees(name)


def program_aliases(evidence: ProgramEvidence) -> Verdict:
    """Outputs share storage with inputs and each other as the program says, and so do writes."""
    name = "program-aliases"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    if len(returned.outputs) != len(expected.outputs):
        return not_applicable(name, "arity")
    lies = [o.storage for o in returned.outputs]
    held = [i for i, o in enumerate(expected.outputs) if 0 not in o.shape]
    for i in held:
        wanted = expected.outputs[i].storage
        own = wanted >= len(expected.storages)
        place = Place(
            name="output",
            index=(i,),
            observed=_named(lies[i], lies[i] >= 0),
            expected=_named(wanted, not own),
        )
        if lies[i] >= 0 and expected.sharing_with_storage(i, lies[i]) == "never":
            return disagrees(name, "output-aliases-input", place)
        if not own and lies[i] != wanted:
            return disagrees(name, "output-lost-its-input", place)
        for j in held[: held.index(i)]:
            sharing, same = expected.sharing(j, i), lies[j] == lies[i]
            both = Place(
                name="output",
                index=(i,),
                observed=f"{'shares' if same else 'has not'} the storage of output {j}",
                expected="its own" if same else "the same storage",
            )
            if same and sharing == "never":
                return disagrees(name, "outputs-share-storage", both)
            if not same and sharing == "must":
                return disagrees(name, "outputs-parted", both)
    return _probed(name, returned.reached, expected)


def _probed(judge: str, reached: tuple[tuple[str, ...], ...], expected: ExpectedProgram) -> Verdict:
    """Writing an output changes what shows one of its elements, and nothing else."""
    for i, found in enumerate(reached):
        must, may = _reach(expected, i)
        if must <= set(found) <= must | may:
            continue
        place = Place(
            name="write to output",
            index=(i,),
            observed=f"changes {', '.join(found) or 'nothing else'}",
            expected=f"changes {', '.join(sorted(must)) or 'nothing else'}",
        )
        return disagrees(judge, "write-reaches", place)
    return agrees(judge)


def _reach(expected: ExpectedProgram, i: int) -> tuple[set[str], set[str]]:
    """What a write to an output must change, and what it may change beside."""
    one = expected.outputs[i]
    places = _places(one)
    must: set[str] = set()
    may: set[str] = set()
    for k, other in enumerate(expected.outputs):
        sharing = expected.sharing(i, k) if k != i else "never"
        if sharing == "must" and places & _places(other):
            must.add(f"output {k}")
        elif sharing == "may":
            may.add(f"output {k}")
    for k in range(len(expected.storages)):
        sharing = expected.sharing_with_storage(i, k)
        if sharing == "must" and places:
            must.add(f"storage {k}")
        elif sharing == "may":
            may.add(f"storage {k}")
    return must, may


def _places(tensor: ExpectedTensor) -> set[int]:
    return set(touched_elements(View(0, tensor.shape, tensor.strides, tensor.offset)).tolist())


def _named(storage: int, of_inputs: bool) -> str:
    return f"in storage {storage} of the inputs" if of_inputs else "in memory of its own"


def _nothing(judge: str) -> Verdict:
    return not_applicable(judge, "no-outputs")
