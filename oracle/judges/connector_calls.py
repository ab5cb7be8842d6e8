"""Judges of a worker's calls: does it run at all, in which order, and with whose metadata?"""

from __future__ import annotations

from collections.abc import Iterator

from oracle.observation import Died, Raised
from oracle.observation.connector import BIND, CLEAR, Called, RunSeen, StepSeen
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable
from reference.connector import Call, hooks_of_a_pass, misplaced
from reference.serving import ExpectedStep

from .connector_evidence import ConnectorEvidence, Fault, at_step

REFUSAL = "PolicyError"
"""What a connector is refused with that cannot run under the graphs that are asked for."""
FAMILY = "ConnectorError"
"""The base of every refusal that ``ir.connector`` documents."""


def connector_completion(evidence: ConnectorEvidence) -> Verdict:
    """A worker goes through the whole schedule, or is refused before the first step."""
    name, seen = "connector-completion", evidence.observation
    expected = evidence.expected
    wanted = REFUSAL if expected.refused else "the whole schedule"
    if isinstance(seen, Died):
        kind = "timeout" if seen.how == "timeout" else "crash"
        return disagrees(name, kind, Place(name="process", observed=seen.how, expected=wanted))
    error = seen if isinstance(seen, Raised) else None
    if isinstance(seen, RunSeen):
        error = seen.raised
    if error is not None:
        kinds = (error.type, *error.bases)
        if expected.refused and REFUSAL in kinds:
            return _refused_in_time(name, seen.steps if isinstance(seen, RunSeen) else ())
        kind = "refused-legal" if FAMILY in kinds else "raised"
        if expected.refused:
            kind = "wrong-error"
        text = f"{error.type}: {error.message}"
        return disagrees(name, kind, Place(name="worker", observed=text, expected=wanted))
    if not isinstance(seen, RunSeen):
        return not_applicable(name, "not-driven")
    if expected.refused:
        place = Place(name="worker", observed="the schedule ran", expected=wanted)
        return disagrees(name, "not-refused", place)
    if seen.mode != expected.mode:
        place = Place(name="mode", observed=seen.mode, expected=expected.mode)
        return disagrees(name, "mode", place)
    return _schedule(name, evidence, seen)


def _refused_in_time(name: str, steps: tuple[StepSeen, ...]) -> Verdict:
    """Whether a refusal came before any step was whole, that of the first warm-up included."""
    if not steps:
        return agrees(name)
    kinds = [step.kind for step in steps]
    return disagrees(name, "refused-late", at_step(len(kinds), "steps", kinds, "none"))


def _schedule(name: str, evidence: ConnectorEvidence, seen: RunSeen) -> Verdict:
    """Whether what was seen are the steps of the schedule, each once and in order."""
    count = evidence.comparable
    wanted = [step.kind for step in evidence.expected.steps[:count]]
    came = [step.kind for step in seen.steps[:count]]
    if came == wanted:
        return agrees(name)
    alike = next(i for i in range(count) if came[i : i + 1] != wanted[i : i + 1])
    return disagrees(name, "other-steps", at_step(alike, "steps", came, wanted))


def connector_hooks(evidence: ConnectorEvidence) -> Verdict:
    """Every step, real, dummy or captured, calls everything once, in order, and every hook."""
    if evidence.seen is not None and evidence.case.connector == "none":
        return not_applicable("connector-hooks", "no-connector")
    return evidence.first("connector-hooks", _hook_faults(evidence))


def _hook_faults(evidence: ConnectorEvidence) -> Iterator[Fault]:
    for number, wanted, seen in evidence.steps():
        entered = 0 if wanted.kind == "damage" else 1
        if len(seen.calls) != entered:
            yield "not-entered", at_step(number, wanted.kind, f"{len(seen.calls)} steps", entered)
            return
        if wanted.kind == "by hand":
            yield from _by_hand(number, wanted, seen)
        elif entered:
            yield from _order(evidence, number, wanted, seen)
            yield from _on_device(evidence, number, wanted, seen)
        # Who dies in its saves never comes to where it would say who finished.
        died = wanted.moved is not None and wanted.moved.died
        if not died and seen.finished != wanted.finished:
            observed, expected = sorted(seen.finished), sorted(wanted.finished)
            yield "finished", at_step(number, wanted.kind, observed, expected)


def _order(
    evidence: ConnectorEvidence, number: int, wanted: ExpectedStep, seen: StepSeen
) -> Iterator[Fault]:
    calls = seen.calls[0]
    ends = [i for i, call in enumerate(calls) if call in (BIND, CLEAR)]
    if ends != [0, len(calls) - 1] or (calls[0], calls[-1]) != (BIND, CLEAR):
        yield "misplaced", at_step(number, wanted.kind, _text(calls), "one bind, one clear at last")
        return
    expected = evidence.expected
    passes: int | None = 0 if expected.captured else 1
    if wanted.kind == "warm-up" and expected.captured:
        # A capture may run the layers as often as it needs to.
        passes = None
    inner = [(Call(name), layer) for name, layer in calls[1:-1]]
    if wanted.moved is not None and wanted.moved.died:
        # Nobody is there any more to ask what has finished.
        inner.append((Call.FINISHED, 0))
    wrong = misplaced(
        inner,
        layers=evidence.case.size.layers,
        dummy=wanted.dummy,
        captured=expected.captured,
        passes=passes,
    )
    if wrong is not None:
        came = f"{wrong.call} of layer {wrong.layer}" if wrong.call else "the end"
        text = f"{came} as call {wrong.position} of {_text(calls)}"
        yield "misplaced", at_step(number, wanted.kind, text, "the order of the life of a step")


def _text(calls: tuple[Called, ...]) -> str:
    return " ".join(f"{name}:{layer}" if _is_hook(name) else name for name, layer in calls)


def _is_hook(name: str) -> bool:
    return name in (Call.LOAD.value, Call.SAVE.value)


def _on_device(
    evidence: ConnectorEvidence, number: int, wanted: ExpectedStep, seen: StepSeen
) -> Iterator[Fault]:
    """The work of hooks runs as often and in the same order whether replayed or not."""
    if seen.device is None or (wanted.kind == "warm-up" and evidence.expected.captured):
        return
    expected = hooks_of_a_pass(evidence.case.size.layers)
    if seen.device != expected:
        observed = _text(seen.device) or "no work of hooks"
        yield "not-replayed", at_step(number, wanted.kind, observed, _text(expected))


def _by_hand(number: int, wanted: ExpectedStep, seen: StepSeen) -> Iterator[Fault]:
    for i, (got, due) in enumerate(zip(seen.admitted, wanted.admitted, strict=True)):
        if got != due:
            kind = "accepted" if got else "refused"
            words = ("refused", "accepted")
            yield kind, at_step(number, f"call {i}", words[got], words[due])
            return
    reached = (BIND, *wanted.reached, CLEAR)
    if seen.calls[0] != reached:
        yield "forwarded", at_step(number, wanted.kind, _text(seen.calls[0]), _text(reached))
    hooks = tuple(call for call in wanted.reached if _is_hook(call[0]))
    if seen.device is not None and seen.device != hooks:
        observed = _text(seen.device) or "no work of hooks"
        yield "not-replayed", at_step(number, wanted.kind, observed, _text(hooks))
    if seen.ended != wanted.whole:
        words = ("refused", "accepted")
        kind = "ended-early" if seen.ended else "not-ended"
        yield kind, at_step(number, "end of the step", words[seen.ended], words[wanted.whole])


def connector_metadata(evidence: ConnectorEvidence) -> Verdict:
    """Metadata is bound through every call, made by the connector itself, for this very step."""
    if evidence.seen is not None and evidence.case.connector == "none":
        return not_applicable("connector-metadata", "no-connector")
    return evidence.first("connector-metadata", _metadata_faults(evidence))


def _metadata_faults(evidence: ConnectorEvidence) -> Iterator[Fault]:
    for number, wanted, seen in evidence.steps():
        if seen.unbound:
            text = f"{seen.unbound} calls with nothing bound"
            yield "unbound", at_step(number, wanted.kind, text, "none")
        for bound in seen.bound:
            if not bound.own:
                yield "not-own", at_step(number, wanted.kind, "made elsewhere", "the connector's")
            elif not bound.fresh:
                yield "not-fresh", at_step(number, wanted.kind, "of another step", "of this one")
        if seen.left_bound:
            yield "left-bound", at_step(number, wanted.kind, "bound after the step", "nothing")
        if seen.output_changed:
            yield "output-changed", at_step(number, wanted.kind, "changed", "as it was")
