"""Faults that captured graphs really had, planted one by one into ``ir.capture``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

import ir
import ir.compilation
from ir.capture import CaptureRefused, ReplayError, StaleAddress
from ir.state import ir_state

Patch = pytest.MonkeyPatch
# `ir.capture.capture` is a function, and modules may be shadowed by what they hold.
GRAPH, HOST, LEDGER, RECORDER, TAPE, WATCH, BUCKETS, SESSION = (
    importlib.import_module(f"ir.capture.{name}")
    for name in ("graph", "host", "ledger", "recorder", "tape", "watch", "buckets", "session")
)
FAULTS: dict[str, Callable[[Patch], None]] = {}


def fault(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
    FAULTS[apply.__name__] = apply
    return apply


@fault
def ledger_is_not_checked(patch: Patch) -> None:
    patch.setattr(LEDGER.AddressLedger, "check", lambda self: None)


@fault
def ledger_names_nobody(patch: Patch) -> None:
    def compare(self: Any) -> None:
        raise StaleAddress("somebody", "there", "elsewhere")

    patch.setattr(LEDGER.AddressLedger, "compare", compare)


@fault
def ledger_asserts(patch: Patch) -> None:
    def compare(self: Any) -> None:
        raise AssertionError("moved")

    patch.setattr(LEDGER.AddressLedger, "compare", compare)


@fault
def ledger_minds_objects(patch: Patch) -> None:
    """Another tensor on the same memory is taken for other memory."""
    real = LEDGER.AddressLedger.compare

    def compare(self: Any) -> None:
        real(self)
        raise StaleAddress(self.entries[0].owner, "one object", "another")

    patch.setattr(LEDGER.AddressLedger, "compare", compare)


@fault
def grown_states_are_taken_for_the_same(patch: Patch) -> None:
    """A workspace that grew lies elsewhere, and what it held is still what the graph uses."""
    real = LEDGER.AddressLedger.compare

    def grew(entry: Any) -> bool:
        now = entry.place.resolve() if entry.place else None
        return now is not None and now is not entry.tensor and now.numel() > entry.tensor.numel()

    def compare(self: Any) -> None:
        real(cast(Any, SimpleNamespace(entries=[e for e in self.entries if not grew(e)])))

    patch.setattr(LEDGER.AddressLedger, "compare", compare)


@fault
def states_are_not_in_the_ledger(patch: Patch) -> None:
    real = HOST.ledger_entries

    def entries(*given: Any) -> Any:
        return [e for e in real(*given) if e.kind != "state"]

    patch.setattr(HOST, "ledger_entries", entries)


@fault
def only_parameters_are_in_the_ledger(patch: Patch) -> None:
    real = HOST.ledger_entries

    def entries(*given: Any) -> Any:
        return [e for e in real(*given) if e.kind in ("parameter", "input", "output")]

    patch.setattr(HOST, "ledger_entries", entries)


@fault
def entries_lie_elsewhere(patch: Patch) -> None:
    real = HOST.ledger_entries

    def entries(*given: Any) -> Any:
        return [
            replace(e, extent=replace(e.extent, address=e.extent.address + e.tensor.element_size()))
            for e in real(*given)
        ]

    patch.setattr(HOST, "ledger_entries", entries)


@fault
def entries_are_packed(patch: Patch) -> None:
    real = HOST.ledger_entries

    def entries(*given: Any) -> Any:
        return [
            replace(e, extent=replace(e.extent, stride=torch.empty(e.extent.shape).stride()))
            for e in real(*given)
        ]

    patch.setattr(HOST, "ledger_entries", entries)


@fault
def smaller_graphs_have_an_empty_ledger(patch: Patch) -> None:
    real = BUCKETS.capture
    sizes: list[int] = []

    def capture(fn: Any, *static: Tensor, **how: Any) -> Any:
        graph = real(fn, *static, **how)
        sizes.append(static[0].shape[0])
        if sizes[-1] < max(sizes):
            graph.ledger = LEDGER.AddressLedger(())
        return graph

    def capture_buckets(*given: Any, **how: Any) -> Any:
        sizes.clear()
        return real_buckets(*given, **how)

    entry = importlib.import_module("ir.capture")
    real_buckets = entry.capture_buckets
    patch.setattr(BUCKETS, "capture", capture)
    patch.setattr(entry, "capture_buckets", capture_buckets)


@fault
def seal_is_forgotten(patch: Patch) -> None:
    patch.setattr(GRAPH.CapturedGraph, "seal", lambda self: None)
    patch.setattr(GRAPH.CapturedGraph, "release", lambda self: None)


@fault
def inputs_are_checked_and_not_copied(patch: Patch) -> None:
    real = GRAPH.CapturedGraph._fill

    def fill(self: Any, inputs: Any) -> None:
        kept = [t.clone() for t in self.inputs]
        real(self, inputs)
        for own, was in zip(self.inputs, kept, strict=True):
            own.copy_(was)

    patch.setattr(GRAPH.CapturedGraph, "_fill", fill)


@fault
def inputs_are_copied_in_turn(patch: Patch) -> None:
    """One static input given for another is read after it was written."""
    patch.setattr(GRAPH, "storage_of", lambda t: object())


@fault
def inputs_are_cast(patch: Patch) -> None:
    real = GRAPH.CapturedGraph._fill

    def fill(self: Any, inputs: Any) -> None:
        cast_to = [given.to(own.dtype) for given, own in zip(inputs, self.inputs, strict=False)]
        real(self, [*cast_to, *inputs[len(cast_to) :]])

    patch.setattr(GRAPH.CapturedGraph, "_fill", fill)


@fault
def inputs_are_filled_before_the_ledger_is_asked(patch: Patch) -> None:
    real = GRAPH.CapturedGraph.replay

    def replay(self: Any, *inputs: Tensor, **how: Any) -> object:
        if inputs:
            self._fill(inputs)
        return real(self, *inputs, **how)

    patch.setattr(GRAPH.CapturedGraph, "replay", replay)


@fault
def misfits_are_asserted(patch: Patch) -> None:
    real = GRAPH.CapturedGraph._fill

    def fill(self: Any, inputs: Any) -> None:
        try:
            real(self, inputs)
        except ReplayError as error:
            raise AssertionError("size") from error

    patch.setattr(GRAPH.CapturedGraph, "_fill", fill)


@fault
def writes_happen_once(patch: Patch) -> None:
    """What writes its arguments is repeated in the rehearsal, and then no more."""
    real = TAPE.bind

    def bind(*given: Any) -> Any:
        manner, repeat = real(*given)
        if manner != "in-place":
            return manner, repeat
        left = [1]

        def once() -> None:
            if left:
                left.pop()
                repeat()

        return manner, once

    patch.setattr(TAPE, "bind", bind)


@fault
def generator_starts_anew_at_each_replay(patch: Patch) -> None:
    real_capture = HOST.capture_host
    real_replay = GRAPH.CapturedGraph.replay
    states: list[Any] = []

    def capture_host(subject: Any) -> Any:
        states[:] = [(g, g.get_state()) for g in subject.generators]
        return real_capture(subject)

    def replay(self: Any, *inputs: Tensor, **how: Any) -> object:
        for generator, state in states:
            generator.set_state(state)
        return real_replay(self, *inputs, **how)

    patch.setattr(HOST, "capture_host", capture_host)
    patch.setattr(GRAPH.CapturedGraph, "replay", replay)


def _copying(change: Callable[[object], object]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(GRAPH, "copied", change)


def _each(change: Callable[[Tensor], Tensor]) -> Callable[[object], object]:
    return lambda value: tree_map_only(Tensor, change, TAPE.copied(value))


FAULTS["results_are_the_graphs_own"] = _copying(lambda value: value)
FAULTS["results_are_widened"] = _copying(_each(lambda t: t.double()))
FAULTS["results_have_a_row_more"] = _copying(_each(lambda t: t[None]))
FAULTS["results_are_on_meta"] = _copying(_each(lambda t: t.to("meta")))
FAULTS["results_are_packed"] = _copying(
    _each(lambda t: t.clone(memory_format=torch.contiguous_format))
)
FAULTS["one_result_more"] = _copying(
    lambda value: (*cast(tuple, TAPE.copied(value)), torch.zeros(1))
)


@fault
def results_go_with_the_next_replay(patch: Patch) -> None:
    held: list[Tensor] = []

    def copied(value: object) -> object:
        for t in held:
            t.fill_(1).mul_(0)
        mine = TAPE.copied(value)
        held[:] = [t for t in cast(tuple, mine) if isinstance(t, Tensor)]
        return mine

    patch.setattr(GRAPH, "copied", copied)


@fault
def replays_fill_what_they_own(patch: Patch) -> None:
    """What the owners hold is spoilt once the results are copied."""
    real = GRAPH.CapturedGraph.replay

    def replay(self: Any, *inputs: Tensor, **how: Any) -> object:
        results = real(self, *inputs, **how)
        with torch.no_grad():
            for entry in self.ledger.entries:
                if entry.kind not in ("input", "output"):
                    entry.tensor.fill_(3)
        return results

    patch.setattr(GRAPH.CapturedGraph, "replay", replay)


@fault
def capture_leaves_what_it_wrote(patch: Patch) -> None:
    patch.setattr(HOST, "restore", lambda recorder: None)


@fault
def refused_captures_leave_zeros(patch: Patch) -> None:
    """A capture that is refused, rightly, has spoilt its static inputs."""
    entry = importlib.import_module("ir.capture")
    real = entry.capture

    def capture(fn: Any, *static: Tensor, **how: Any) -> Any:
        try:
            return real(fn, *static, **how)
        except CaptureRefused:
            with torch.no_grad():
                for t in static:
                    t.zero_()
            raise

    patch.setattr(entry, "capture", capture)


@fault
def syncs_are_not_seen(patch: Patch) -> None:
    patch.setattr(RECORDER, "check_op", lambda *_: None)
    patch.setattr(WATCH, "_BY_NAME", {})


@fault
def syncs_have_another_reason(patch: Patch) -> None:
    real = RECORDER.check_op

    def check_op(*given: Any) -> None:
        try:
            real(*given)
        except CaptureRefused as refused:
            raise CaptureRefused("inputs", refused.what, refused.accepted) from refused

    patch.setattr(RECORDER, "check_op", check_op)


@fault
def owners_are_not_compared(patch: Patch) -> None:
    patch.setattr(HOST, "check_owners", lambda *_: None)


@fault
def recordings_are_not_compared(patch: Patch) -> None:
    for name in ("compare", "compare_unwatched", "rehearse"):
        patch.setattr(HOST, name, lambda *_: None)


@fault
def replays_inside_a_capture_are_not_refused(patch: Patch) -> None:
    patch.setattr(SESSION, "refuse_inside", lambda what: None)


@fault
def writers_are_refused(patch: Patch) -> None:
    real = RECORDER.check_op

    def check_op(op: Any, args: Any) -> None:
        real(op, args)
        if TAPE.writes(op):
            raise CaptureRefused("storage-change", str(op), "functions that write nothing")

    patch.setattr(RECORDER, "check_op", check_op)


def _without_padding(self: Any, i: int, given: Tensor, own: Tensor, pad: Any) -> None:
    own.copy_(given) if pad is None else own[: given.shape[0]].copy_(given)


@fault
def rows_of_a_larger_batch_stay(patch: Patch) -> None:
    patch.setattr(BUCKETS.BucketedGraphs, "_place", _without_padding)


@fault
def padding_is_zero(patch: Patch) -> None:
    real = BUCKETS.BucketedGraphs._place

    def place(self: Any, i: int, given: Tensor, own: Tensor, pad: Any) -> None:
        real(self, i, given, own, pad if pad is None else 0)

    patch.setattr(BUCKETS.BucketedGraphs, "_place", place)


@fault
def batches_are_cut_from_the_end(patch: Patch) -> None:
    real = BUCKETS.BucketedGraphs._place

    def place(self: Any, i: int, given: Tensor, own: Tensor, pad: Any) -> None:
        real(self, i, given, own, pad)
        if pad is not None and given.is_floating_point():
            own.copy_(own.roll(1, 0))

    patch.setattr(BUCKETS.BucketedGraphs, "_place", place)


@fault
def slots_are_one_too_few(patch: Patch) -> None:
    real = BUCKETS.BucketedGraphs._place

    def place(self: Any, i: int, given: Tensor, own: Tensor, pad: Any) -> None:
        real(self, i, given, own, pad)
        if pad == -1:
            own[given.shape[0] - 1 :].fill_(-1)

    patch.setattr(BUCKETS.BucketedGraphs, "_place", place)


@fault
def slots_may_be_of_any_dtype(patch: Patch) -> None:
    real = BUCKETS.BucketedGraphs._place

    def place(self: Any, i: int, given: Tensor, own: Tensor, pad: Any) -> None:
        real(self, i, given.to(own.dtype), own, pad)

    patch.setattr(BUCKETS.BucketedGraphs, "_place", place)


@fault
def rows_without_a_slot_go_to_the_null_block(patch: Patch) -> None:
    def kept(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
        cache = ir_state.get("kv_cache")
        target = slot_mapping.clamp(min=0)
        for held, rows in ((cache[0], key), (cache[1], value)):
            held.view(-1, *held.shape[2:]).index_copy_(0, target, rows)
        return (slot_mapping >= 0).sum()

    impl = ir.ops.reshape_and_cache.impls["native"]
    patch.setattr(impl, "impl_fn", kept)
    patch.setattr(impl, "func_impl_fn", kept)


@fault
def compiled_functions_add_one(patch: Patch) -> None:
    """What is compiled returns other values, and nothing that is captured is."""
    real = ir.compilation.backend

    def backend(graph: Any, inputs: Any, **how: Any) -> Any:
        run = real(graph, inputs, **how)
        return lambda *given: tree_map_only(Tensor, lambda t: t + 1, run(*given))

    patch.setattr(ir.compilation, "backend", backend)
