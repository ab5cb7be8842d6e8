"""Capture cases as JSON."""

from __future__ import annotations

from typing import Any

from .capture import (
    HOW,
    MISFITS,
    MOVES,
    OWNERS,
    CaptureCase,
    CaptureEvent,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Reseed,
    Seal,
    Write,
)
from .memory_codec import CaseFormatError, storage_from_json, storage_to_json
from .program_codec import program_from_json, program_to_json
from .storage import Storage

_BYTES = range(256)


def capture_to_json(case: CaptureCase) -> dict[str, Any]:
    """All of the case but its format and kind."""
    return {
        "body": program_to_json(case.body),
        "owners": list(case.owners),
        "events": [_event_to_json(event) for event in case.events],
        "sizes": list(case.sizes),
        "padding": list(case.padding),
        "batched": list(case.batched),
        "trap": case.trap,
        "at": case.at,
        "noise": case.noise,
    }


def capture_from_json(data: dict[str, Any]) -> CaptureCase:
    """The case that ``capture_to_json`` wrote. Raises ``CaseFormatError`` for unknown words."""
    body = program_from_json(data["body"])
    case = CaptureCase(
        body=body,
        owners=tuple(_one_of("owner", owner, OWNERS) for owner in data["owners"]),
        events=tuple(_event_from_json(event, len(body.inputs)) for event in data["events"]),
        sizes=tuple(_whole("size", size) for size in data["sizes"]),
        padding=tuple(None if pad is None else _whole("padding", pad) for pad in data["padding"]),
        batched=tuple(_flag("batched", flag) for flag in data["batched"]),
        trap=_text("trap", data["trap"]),
        at=_whole("at", data["at"]),
        noise=_flag("noise", data["noise"]),
    )
    if len(case.owners) > len(body.inputs):
        raise CaseFormatError(
            f"{len(case.owners)} owners; accepted: up to {len(body.inputs)}, one an input"
        )
    wanted = case.static if case.sizes else 0
    if len(case.padding) != wanted or (case.sizes and len(case.batched) != len(body.outputs)):
        raise CaseFormatError(
            f"{len(case.padding)} paddings and {len(case.batched)} batched; accepted: {wanted}, "
            f"and one an output"
        )
    return case


def _event_to_json(event: CaptureEvent) -> dict[str, Any]:
    match event:
        case Replay():
            given = [g if isinstance(g, int) else storage_to_json(g) for g in event.given]
            return {"event": "replay", "given": given, "how": event.how}
        case Write():
            content = storage_to_json(event.content)
            return {"event": "write", "position": event.position, "content": content}
        case Move():
            return {"event": "move", "position": event.position, "how": event.how}
        case Misfit():
            return {"event": "misfit", "how": event.how}
        case Poison():
            return {"event": "poison", "byte": event.byte}
        case Churn():
            return {"event": "churn", "byte": event.byte}
        case Seal():
            return {"event": "seal", "on": event.on}
        case Create():
            return {"event": "create", "position": event.position}
        case Reseed():
            return {"event": "reseed", "seed": event.seed}


def _event_from_json(data: dict[str, Any], inputs: int) -> CaptureEvent:
    name = data["event"]
    if name == "replay":
        given = tuple(_given(item) for item in data["given"])
        return Replay(given=given, how=_one_of("how", data["how"], HOW))
    if name == "write":
        content = storage_from_json(data["content"])
        return Write(position=_position(data, inputs), content=content)
    if name == "move":
        return Move(position=_position(data, inputs), how=_one_of("move", data["how"], MOVES))
    if name == "misfit":
        return Misfit(how=_one_of("misfit", data["how"], MISFITS))
    if name in ("poison", "churn"):
        byte = _whole("byte", data["byte"])
        if byte not in _BYTES:
            raise CaseFormatError(f"byte {byte}; accepted: 0 to 255")
        return Poison(byte=byte) if name == "poison" else Churn(byte=byte)
    if name == "seal":
        return Seal(on=_flag("on", data["on"]))
    if name == "create":
        return Create(position=_position(data, inputs))
    if name == "reseed":
        return Reseed(seed=_whole("seed", data["seed"]))
    raise CaseFormatError(
        f"event {name!r}; accepted: replay, write, move, misfit, poison, churn, seal, create, "
        "reseed"
    )


def _given(item: Any) -> Storage | int:
    return storage_from_json(item) if isinstance(item, dict) else _whole("given", item)


def _position(data: dict[str, Any], inputs: int) -> int:
    position = _whole("position", data["position"])
    if not 0 <= position < inputs:
        raise CaseFormatError(f"position {position}; accepted: 0 to {inputs - 1}")
    return position


def _one_of(what: str, found: Any, accepted: tuple[str, ...]) -> str:
    if found not in accepted:
        raise CaseFormatError(f"{what} {found!r}; accepted: {', '.join(map(repr, accepted))}")
    return found


def _whole(what: str, found: Any) -> int:
    if not isinstance(found, int) or isinstance(found, bool):
        raise CaseFormatError(f"{what} {found!r}; accepted: an integer")
    return found


def _flag(what: str, found: Any) -> bool:
    if not isinstance(found, bool):
        raise CaseFormatError(f"{what} {found!r}; accepted: true or false")
    return found


def _text(what: str, found: Any) -> str:
    if not isinstance(found, str):
        raise CaseFormatError(f"{what} {found!r}; accepted: a string")
    return found
