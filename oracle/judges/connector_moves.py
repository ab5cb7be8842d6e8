"""Judges of what a worker moves: bytes in its caches, entries in the store, who hears what."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from oracle.observation.connector import StepSeen
from oracle.verdict import Place, Verdict
from reference.connector import Entry, Moved
from reference.dtypes import decode
from reference.serving import ExpectedStep, bytes_of

from .connector_evidence import ConnectorEvidence, Fault, at_step

NOTHING = Moved(received=frozenset(), sent=frozenset(), failed={})
"""What is moved in a step that serves nobody."""


def connector_kv(evidence: ConnectorEvidence) -> Verdict:
    """After each step every slot holds the KV of its tokens; no other slot was ever written."""
    return evidence.first("connector-kv", _kv_faults(evidence))


def _kv_faults(evidence: ConnectorEvidence) -> Iterator[Fault]:
    dtype = evidence.case.dtype
    for number, wanted, seen in evidence.steps():
        if seen.caches is None:
            continue
        bytes_wanted = bytes_of(wanted.caches, dtype)
        differ = (seen.caches != bytes_wanted) & wanted.known[None, None, :, None]
        if differ.any():
            layer, half, slot, _ = (int(i[0]) for i in differ.nonzero())
            place = Place(
                name="kv",
                index=(number, layer, half, slot),
                observed=_shown(seen.caches[layer, half, slot], dtype),
                expected=_shown(bytes_wanted[layer, half, slot], dtype),
            )
            yield _kind(wanted, slot), place
            return


def _kind(wanted: ExpectedStep, slot: int) -> str:
    if wanted.kind != "serve" or wanted.dummy:
        return "dummy-wrote"
    return "wrong-kv" if slot in wanted.written else "written-outside"


def _shown(raw: NDArray[np.uint8], dtype: str) -> str:
    return str(decode(raw.tobytes(), dtype).tolist())


def connector_store(evidence: ConnectorEvidence) -> Verdict:
    """In the end every entry that was saved is there, whole, and is the KV of its tokens."""
    return evidence.first("connector-store", _store_faults(evidence))


def _store_faults(evidence: ConnectorEvidence) -> Iterator[Fault]:
    seen, wanted = evidence.seen, evidence.expected.store
    if seen is None:
        return
    for entry in sorted(seen.unreadable - wanted.keys()):
        yield "extra-entry", _entry(entry, "an unreadable entry", "none")
    for entry, values in sorted(wanted.items()):
        got = seen.store.get(entry)
        if got is None and entry not in seen.unreadable:
            yield "missing-entry", _entry(entry, "none", "an entry")
        elif values is not None and got is None:
            yield "torn-entry", _entry(entry, "unreadable", "a whole entry")
        elif values is not None and got is not None:
            due = bytes_of(values, evidence.case.dtype)
            if not np.array_equal(got, due):
                yield "wrong-entry", _entry(entry, "other bytes", "the KV of these tokens")
    for entry in sorted(seen.store.keys() - wanted.keys()):
        yield "extra-entry", _entry(entry, "an entry", "none")
    if seen.strays and not any(step.died for step in seen.steps):
        # Who dies in the midst of a save may leave what it wrote beside the entry's place.
        yield "stray-file", Place(name="store", observed=seen.strays[0], expected="entries alone")


def _entry(entry: Entry, observed: str, expected: str) -> Place:
    model, tokens = entry
    text = f"{observed} of {list(tokens)} of model {model}"
    return Place(name="entry", observed=text, expected=expected)


def connector_requests(evidence: ConnectorEvidence) -> Verdict:
    """Each request hears of its own failure and of no other, and gets its own next token."""
    return evidence.first("connector-requests", _request_faults(evidence))


def _request_faults(evidence: ConnectorEvidence) -> Iterator[Fault]:
    has_connector = evidence.case.connector != "none"
    for number, wanted, seen in evidence.steps():
        # A dummy run, a warm-up and a step by hand move nothing, and must say so.
        moved = wanted.moved or NOTHING
        if has_connector and dict(seen.matched) != dict(wanted.matched):
            yield "matched", at_step(number, "matched", dict(seen.matched), dict(wanted.matched))
        if seen.died != moved.died:
            yield "outlived", at_step(number, "worker", _alive(seen.died), _alive(not seen.died))
            return
        if moved.died:
            continue
        failed, told = moved.failed.keys(), seen.told
        reports = [seen.failed.keys()]
        if told is not None:
            reports.append(told.failed.keys())
        for report in reports:
            if missing := sorted(failed - report):
                yield "not-failed", at_step(number, "failed", sorted(report), missing)
            if wrong := sorted(report - failed):
                yield "failed-wrongly", at_step(number, "failed", wrong, sorted(failed))
        if told is not None:
            for name, got, due in (
                ("received", told.received, moved.received),
                ("sent", told.sent, moved.sent),
            ):
                if got != due:
                    yield f"{name}-wrongly", at_step(number, name, sorted(got), sorted(due))
        yield from _results(number, wanted, moved, seen)


def _alive(died: bool) -> str:
    return "died" if died else "alive"


def _results(number: int, wanted: ExpectedStep, moved: Moved, seen: StepSeen) -> Iterator[Fault]:
    """Logits of all rows of a request and the token of its last one, where they are known."""
    logits, tokens = seen.logits, seen.tokens
    due = [name for name in wanted.logits if name not in moved.failed]
    if sorted(tokens) != sorted(due):
        yield "token", at_step(number, "tokens of", sorted(tokens), sorted(due))
        return
    came, rows_due = 0 if logits is None else len(logits), sum(wanted.rows.values())
    if came != rows_due:
        yield "logits", at_step(number, "rows of logits", came, rows_due)
        return
    row = 0
    for name, rows in wanted.logits.items():
        count = wanted.rows[name]
        got = None if logits is None else logits[row : row + count]
        row += count
        if rows is None or name not in tokens:
            continue
        if got is None or not np.array_equal(got, rows):
            yield "logits", at_step(number, "logits", _first_row(got), _first_row(rows))
        elif rows[-1][tokens[name]] != rows[-1].max():
            best = int(rows[-1].argmax())
            yield "token", at_step(number, "token", tokens[name], best)


def _first_row(rows: NDArray[np.float64] | None) -> str:
    return "none" if rows is None or not len(rows) else str(rows[-1].tolist())
