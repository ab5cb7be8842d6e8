"""Captured functions by construction: bodies of every family, and what happens between replays."""

from __future__ import annotations

from dataclasses import replace

from reference.expectation import Unknown
from reference.model import ProgramCase, ProgramStep, Storage, Value, View
from reference.model.capture import CaptureCase, Replay
from reference.replays import TRAPS, expect_capture

from ...chooser import Chooser
from ..programs import FAMILIES, lowering_case, program_case
from ..programs.data import draw_storage
from .events import draw_events
from .owners import draw_owners, most_static
from .rows import padded_body

__all__ = ["called_case", "drawn_case", "padded_case", "plain_case", "refused_case", "shared_case"]

_TRIES = 6
_ALIASED = ("aliased", "mixed")


def drawn_case(chooser: Chooser, *, family: str | None = None) -> CaptureCase:
    """A program captured, its first inputs static; the reference knows all its replays."""
    return _known(chooser, lambda: program_case(chooser, family=family))


def called_case(chooser: Chooser) -> CaptureCase:
    """The same of a program that calls ops of the IR."""
    return _known(chooser, lambda: lowering_case(chooser))


def _known(chooser: Chooser, draw: object) -> CaptureCase:
    for _ in range(_TRIES):
        body = replace(draw(), donated=())  # type: ignore[operator]
        static = most_static(body)
        if static and chooser.chance(0.65):
            # Most of what a graph is judged by needs an owner.
            static = chooser.integer(0, static - 1)
        case = _captured(chooser, body, static)
        for _ in range(2):
            if not isinstance(expect_capture(case), Unknown):
                return case
            case = replace(case, events=draw_events(case, chooser))
    return plain_case(chooser)


def _captured(chooser: Chooser, body: ProgramCase, static: int) -> CaptureCase:
    case = CaptureCase(
        body=body,
        owners=draw_owners(body, static, chooser),
        events=(),
        noise=chooser.chance(0.15),
    )
    return replace(case, events=draw_events(case, chooser))


def plain_case(chooser: Chooser) -> CaptureCase:
    """One input that is added to what one owner holds: always known."""
    storages = tuple(draw_storage("float32", 4, chooser) for _ in range(2))
    body = ProgramCase(
        storages=storages,
        tensors=(View(0, (4,), (1,)), View(1, (4,), (1,))),
        inputs=(0, 1),
        steps=(ProgramStep("aten.add_.Tensor", (Value(1), Value(0))),),
        outputs=(2,),
    )
    return _captured(chooser, body, 1)


def padded_case(chooser: Chooser) -> CaptureCase:
    """A function of rows, captured for some batch sizes; smaller batches are padded."""
    for _ in range(_TRIES):
        case = padded_body(chooser)
        case = replace(case, events=draw_events(case, chooser))
        if not isinstance(expect_capture(case), Unknown):
            return case
    raise RuntimeError("no known batch in several tries")


def refused_case(chooser: Chooser, trap: str | None = None) -> CaptureCase:
    """A function that does what none may do that is captured; ``trap`` is drawn where None."""
    found = trap or chooser.choose(tuple(TRAPS))
    family = chooser.choose(tuple(FAMILIES))
    case = drawn_case(chooser, family=family)
    events = tuple(e for e in case.events if isinstance(e, Replay))[:1]
    at = chooser.integer(0, len(case.body.steps))
    return replace(case, events=events, trap=found, at=at, noise=False)


def shared_case(chooser: Chooser) -> CaptureCase:
    """Static inputs that share memory, which no graph can fill one by one."""
    for _ in range(4 * _TRIES):
        body = replace(program_case(chooser, family=chooser.choose(_ALIASED)), donated=())
        if most_static(body) == len(body.inputs):
            continue
        case = CaptureCase(body=body, owners=(), events=())
        given = tuple(_as_it_is(body, i) for i in range(case.static))
        case = replace(case, events=(Replay(given=given),))
        found = expect_capture(case)
        if not isinstance(found, Unknown) and found.refused is not None:
            return case
    return refused_case(chooser)


def _as_it_is(body: ProgramCase, position: int) -> Storage:
    view = body.input_view(position)
    storage = body.storages[view.storage]
    values = view.of(storage.array())
    return Storage(storage.dtype, view.numel, values.tobytes())
