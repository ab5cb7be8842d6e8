"""One event a line: for programs that follow a run."""

from __future__ import annotations

import json
from typing import IO, Any

from oracle.events import Checked, Counts, Event, Finished, Found, Started


class NdjsonReport:
    """Writes events to ``stream`` as they come; the last line is ``finished``."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def handle(self, event: Event) -> None:
        data = event_to_json(event)
        if data is not None:
            self._stream.write(json.dumps(data, separators=(",", ":")) + "\n")
            self._stream.flush()


def event_to_json(event: Event) -> dict[str, Any] | None:
    """The event as one JSON object; None for what only a progress bar wants."""
    match event:
        case Started():
            return {
                "event": "started",
                "seed": event.seed,
                "budget": event.budget,
                "workers": event.workers,
                "planned_cases": event.planned_cases,
                "versions": dict(event.versions),
                "unavailable": [
                    {"op": p.op, "provider": p.name, "reason": p.unavailable}
                    for p in event.unavailable
                ],
            }
        case Checked(result):
            verdict = result.verdict
            place = verdict.place
            return {
                "event": "verdict",
                "subject": result.subject,
                "property": result.prop,
                "op": result.op,
                "provider": result.provider,
                "route": result.route,
                "dtype": result.dtype,
                "judge": verdict.judge,
                "case": result.case,
                "outcome": verdict.outcome.value,
                "kind": verdict.kind,
                "fingerprint": result.fingerprint if verdict.outcome == "DISAGREES" else "",
                "telling": result.telling,
                "place": str(place) if place else "",
            }
        case Found():
            return {
                "event": "finding",
                "fingerprint": event.finding.fingerprint,
                "kind": event.finding.kind,
                "path": event.path,
                "known": event.known,
            }
        case Finished():
            return {
                "event": "finished",
                "cases": event.cases,
                "counts": counts_to_json(event.counts),
                "rows": [
                    {
                        "subject": row.subject,
                        "property": row.prop,
                        "counts": counts_to_json(row.counts),
                        "undecided": dict(row.undecided),
                        "not_applicable": dict(row.not_applicable),
                        "seconds": round(row.seconds, 3),
                    }
                    for row in event.rows
                ],
                "nothing_decided": list(event.nothing_decided),
                "thin": list(event.thin),
                "unreproduced": list(event.unreproduced),
                "unshrunk": list(event.unshrunk),
                "notes": list(event.notes),
                "unmet": list(event.unmet),
                "skipped": list(event.skipped),
                "seconds": round(event.seconds, 3),
                "exit_code": event.exit_code,
            }
    return None


def counts_to_json(counts: Counts) -> dict[str, int]:
    """The six counts by name."""
    return {
        "cases": counts.cases,
        "checks": counts.checks,
        "agrees": counts.agrees,
        "disagrees": counts.disagrees,
        "undecided": counts.undecided,
        "not_applicable": counts.not_applicable,
    }
