"""The host capture: CUDA's rules on a machine without a GPU.

The function is recorded twice and the two recordings compared, since what differs between them
(a clock, Python's random numbers, a counter) would be baked in. Then the tape is rehearsed with
its arena poisoned: what was computed outside dispatch, and so is on no tape, keeps the poison.
At last the function runs with nobody recording: its values must be those that were recorded.
Like a CUDA capture this leaves nothing behind: whatever the function wrote is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ir.capture import session
from ir.capture.contents import digest
from ir.capture.errors import CaptureRefused
from ir.capture.ledger import Entry, extent
from ir.capture.owners import Place, host_arrays, places
from ir.capture.recorder import POISON, Recorder
from ir.capture.tape import copied, storage_bytes, storage_of, tensors_in
from ir.capture.watch import watched

# Dynamo compiles nothing under a dispatch mode, and raises this where all was to be compiled.
_NOT_COMPILED = "fullgraph=True found no compiled frames"
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One run of the function: its tape and results, and the values that it left."""

    recorder: Recorder
    outputs: object
    values: object
    left: dict[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is captured: a function, its static inputs, and whatever else owns memory."""

    name: str
    fn: Callable[..., object]
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    generators: tuple[torch.Generator, ...]
    owners: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """What owners, inputs and reachable arrays held before a recording."""

    tensors: tuple[tuple[str, Tensor, bytes], ...]
    arrays: Mapping[str, bytes]

    def check(self, fn: Callable[..., object]) -> None:
        """Refuse writes that no recorded call made. Raises CaptureRefused."""
        changed = [name for name, t, was in self.tensors if digest(t) != was]
        arrays = host_arrays(fn)
        changed += [n for n, was in self.arrays.items() if arrays[n].tobytes() != was]
        if changed:
            raise CaptureRefused("outside-dispatch", changed[0], "writes through tensors")


def fingerprints(subject: Subject, found: Sequence[Place]) -> Fingerprints:
    named = [(f"input {n}", t) for n, t in zip(subject.names, subject.inputs, strict=True)]
    named += [(p.name, p.tensor) for p in found]
    once = {storage_of(t): (name, t) for name, t in reversed(named)}
    return Fingerprints(
        tensors=tuple((name, t, digest(t)) for name, t in once.values()),
        arrays={name: array.tobytes() for name, array in host_arrays(subject.fn).items()},
    )


def record(subject: Subject, *, opaque: bool = False) -> Recording:
    """Run the function once under watch, and put back what it wrote. Raises CaptureRefused."""
    states = [g.get_state() for g in subject.generators]
    recorder = Recorder(subject.generators, opaque=opaque)
    left: dict[int, bytes] = {}
    try:
        tape = recorder.tape
        with (
            session.counting(lambda: len(tape.signatures)),
            torch.no_grad(),
            watched(),
            recorder,
        ):
            outputs = subject.fn(*subject.inputs)
        recorder.note_results(outputs)
        values = copied(outputs)
        left = {key: digest(t) for key, (t, _) in recorder.saved.items()}
    except RuntimeError as error:
        if _NOT_COMPILED not in str(error):
            raise
        raise CaptureRefused(
            "opaque-kernel",
            "a function compiled with fullgraph=True, which no dispatch mode sees into",
            "the function that it was compiled from, or fullgraph=False",
        ) from error
    finally:
        restore(recorder)
        for generator, state in zip(subject.generators, states, strict=True):
            generator.set_state(state)
    for leaf in tree_flatten(outputs)[0]:
        if not isinstance(leaf, (Tensor, *_CONSTANTS)):
            raise CaptureRefused(
                "outputs", f"a result is a {type(leaf).__name__}", "tensors and constants"
            )
    return Recording(recorder=recorder, outputs=outputs, values=values, left=left)


def restore(recorder: Recorder) -> None:
    """Put back the bytes from before the recording's writes."""
    for t, before in recorder.saved.values():
        whole = storage_bytes(t)
        if whole.numel() == before.numel():
            whole.copy_(before)


def check_owners(before: Sequence[Place], after: Sequence[Place], recorder: Recorder) -> None:
    """Refuse state that the function created or replaced. Raises CaptureRefused."""
    was = {p.name: p for p in before}
    now = {p.name: p for p in after}
    for name, place in now.items():
        made = storage_of(place.tensor) in recorder.made
        if name not in was and (made or place.kind == "state"):
            raise CaptureRefused(
                "state-created", f"{name} ({extent(place.tensor)})", "made before the capture"
            )
        if name in was and place.tensor is not was[name].tensor:
            raise CaptureRefused(
                "state-replaced",
                f"{name}, {extent(was[name].tensor)}, is {extent(place.tensor)} afterwards",
                "values copied into the same memory",
            )
    for name in was:
        if name not in now:
            raise CaptureRefused("state-replaced", f"{name} is gone afterwards", "kept in place")


def _first_difference(first: Sequence[str], second: Sequence[str]) -> str:
    for i in range(max(len(first), len(second))):
        one = first[i] if i < len(first) else "nothing"
        other = second[i] if i < len(second) else "nothing"
        if one != other:
            return f"call {i} is {one} once and {other} then"
    return ""


def compare(one: Recording, other: Recording) -> None:
    """Refuse a function of which two recordings differ. Raises CaptureRefused."""
    accepted = "a function that makes the same calls with the same constants each time"
    difference = _first_difference(one.recorder.tape.signatures, other.recorder.tape.signatures)
    if difference:
        raise CaptureRefused("unrepeatable", difference, accepted)
    leaves = [
        [repr(v) for v in tree_flatten(r.outputs)[0] if not isinstance(v, Tensor)]
        + [str(tree_flatten(r.outputs)[1])]
        for r in (one, other)
    ]
    if leaves[0] != leaves[1]:
        raise CaptureRefused("unrepeatable", f"results {leaves[0]} and {leaves[1]}", accepted)


def compare_unwatched(subject: Subject, recording: Recording) -> None:
    """Refuse a function that does something else where nobody records it. Raises CaptureRefused.

    Code that torch.compile has compiled, and some of torch's composite ops, take another way
    under a dispatch mode, whose results may differ in their last bits.
    """
    recorder = recording.recorder
    states = [g.get_state() for g in subject.generators]
    accepted = "a function whose calls are the same while it is recorded"
    try:
        with torch.no_grad():
            outputs = subject.fn(*subject.inputs)
        pairs = zip(tensors_in(outputs), tensors_in(recording.values), strict=True)
        for i, (got, expected) in enumerate(pairs):
            if not _same_written_bytes(got, expected):
                raise CaptureRefused(
                    "not-replayable",
                    f"output {i} has other values if nothing is recorded",
                    accepted,
                )
        for key, (t, _) in recorder.saved.items():
            if digest(t) != recording.left[key]:
                what = "memory gets other values if nothing is recorded"
                raise CaptureRefused("not-replayable", what, accepted)
    finally:
        restore(recorder)
        for generator, state in zip(subject.generators, states, strict=True):
            generator.set_state(state)


def _same_written_bytes(a: Tensor, recorded: Tensor) -> bool:
    if a.shape != recorded.shape or a.dtype is not recorded.dtype:
        return False
    one, other = _bytes(a), _bytes(recorded)
    # Where nothing was written the recording still has its poison, and this run anything.
    return not bool(((one != other) & (other != POISON)).any())


def rehearse(subject: Subject, recording: Recording, entries: Iterable[Entry]) -> None:
    """Replay the poisoned tape once; refuse it where its results differ. Raises CaptureRefused."""
    recorder = recording.recorder
    owners = {storage_of(e.tensor): e.owner for e in entries}
    states = [g.get_state() for g in subject.generators]
    accepted = "work done by torch's ops, or a kernel registered with register_replayable"
    try:
        with torch.inference_mode():
            recorder.tape.poison(POISON)
            for entry in recorder.tape.entries:
                entry.repeat()
        for key, (t, _) in recorder.saved.items():
            if digest(t) != recording.left[key]:
                what = f"{owners.get(key, 'a tensor')} holds other values than after the function"
                raise CaptureRefused("not-replayable", what, accepted)
        pairs = zip(tensors_in(recording.outputs), tensors_in(recording.values), strict=True)
        for i, (got, expected) in enumerate(pairs):
            if not _same_bytes(got, expected):
                raise CaptureRefused(
                    "not-replayable", f"output {i} differs from what the function gave", accepted
                )
    except CaptureRefused:
        raise
    except Exception as error:
        # Poison that nothing overwrote, read as an index for example.
        raise CaptureRefused("not-replayable", f"the replay raises {error}", accepted) from error
    finally:
        restore(recorder)
        for generator, state in zip(subject.generators, states, strict=True):
            generator.set_state(state)


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    return torch.equal(_bytes(a), _bytes(b))


def _bytes(t: Tensor) -> Tensor:
    """The elements in index order as bytes."""
    dense = t.detach().contiguous()
    # One element counts as contiguous whatever its stride, but cannot be shown as bytes then.
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)


def ledger_entries(subject: Subject, found: Sequence[Place], recording: Recording) -> list[Entry]:
    """Owner, kind and memory of each tensor that the recording uses or returns."""
    recorder = recording.recorder
    entries = [
        Entry(owner=f"input {name}", kind="input", extent=extent(t), tensor=t)
        for name, t in zip(subject.names, subject.inputs, strict=True)
    ]
    owned = {storage_of(t) for t in subject.inputs}
    exact = [p for p in found if id(p.tensor) in recorder.objects]
    settled = {storage_of(p.tensor) for p in exact}
    # A storage that no place holds by the very tensor used is owned by all that lie in it.
    loose = [
        p
        for p in found
        if storage_of(p.tensor) in recorder.used and storage_of(p.tensor) not in settled
    ]
    for place in (*exact, *loose):
        owned.add(storage_of(place.tensor))
        entries.append(
            Entry(
                owner=place.name,
                kind=place.kind,
                extent=extent(place.tensor),
                tensor=place.tensor,
                place=place,
            )
        )
    for key, (t, call) in recorder.used.items():
        if key not in owned:
            owner = f"a tensor without a name, used by {call}"
            entries.append(Entry(owner=owner, kind="unnamed", extent=extent(t), tensor=t))
    for i, t in enumerate(tensors_in(recording.outputs)):
        entries.append(Entry(owner=f"output {i}", kind="output", extent=extent(t), tensor=t))
    return entries


def capture_host(subject: Subject) -> tuple[Recording, list[Entry]]:
    """Record twice, compare, rehearse, run unwatched: the recording and its ledger.

    Raises CaptureRefused.
    """
    found = places(subject.fn, subject.owners)
    before = fingerprints(subject, found)
    recording = record(subject)
    check_owners(found, places(subject.fn, subject.owners), recording.recorder)
    before.check(subject.fn)
    compare(recording, record(subject))
    entries = ledger_entries(subject, found, recording)
    rehearse(subject, recording, entries)
    compare_unwatched(subject, recording)
    return recording, entries


def unwritten(subject: Subject, recording: Recording) -> list[tuple[str, Tensor]]:
    """Inputs and owners that no recorded call writes, by name."""
    named = [(f"input {n}", t) for n, t in zip(subject.names, subject.inputs, strict=True)]
    named += [(p.name, p.tensor) for p in places(subject.fn, subject.owners)]
    return [(name, t) for name, t in named if storage_of(t) not in recording.recorder.saved]
