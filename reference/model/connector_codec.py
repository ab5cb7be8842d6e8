"""Connector cases as JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .connector import (
    CALLS,
    CONNECTORS,
    DAMAGES,
    DTYPES,
    MODELS,
    MODES,
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    Event,
    PagedSize,
    Restart,
    Serve,
    Served,
)
from .memory_codec import CaseFormatError

_SIZES = tuple(field.name for field in fields(PagedSize))


def connector_to_json(case: ConnectorCase) -> dict[str, Any]:
    """All of the case but its format and kind."""
    return {
        "size": {name: getattr(case.size, name) for name in _SIZES},
        "connector": case.connector,
        "mode": case.mode,
        "dtype": case.dtype,
        "capacity": case.capacity,
        "buckets": list(case.buckets),
        "events": [_event_to_json(event) for event in case.events],
    }


def _event_to_json(event: Event) -> dict[str, Any]:
    match event:
        case Serve():
            return {
                "event": "serve",
                "requests": [_served_to_json(request) for request in event.requests],
                "finished": list(event.finished),
                "dies": event.dies,
            }
        case Dummy():
            return {"event": "dummy", "rows": event.rows}
        case Damage():
            return {"event": "damage", "tokens": list(event.tokens), "how": event.how}
        case Restart():
            return {"event": "restart", "model": event.model}
        case ByHand():
            return {
                "event": "by hand",
                "dummy": event.dummy,
                "calls": [list(call) for call in event.calls],
            }


def _served_to_json(request: Served) -> dict[str, Any]:
    return {
        "name": request.name,
        "prompt": list(request.prompt),
        "generated": list(request.generated),
        "start": request.start,
        "stop": request.stop,
        "blocks": list(request.blocks),
        "load": request.load,
        "save": request.save,
    }


def connector_from_json(data: dict[str, Any]) -> ConnectorCase:
    """The case that `connector_to_json` wrote. Raises `CaseFormatError` for unknown words."""
    size = data["size"]
    if set(size) != set(_SIZES):
        raise CaseFormatError(f"size with {sorted(size)}; accepted: {sorted(_SIZES)}")
    return ConnectorCase(
        size=PagedSize(**{name: _whole(name, size[name]) for name in _SIZES}),
        connector=_one_of("connector", data["connector"], CONNECTORS),
        mode=_one_of("mode", data["mode"], MODES),
        dtype=_one_of("dtype", data["dtype"], DTYPES),
        capacity=_whole("capacity", data["capacity"]),
        buckets=_wholes("buckets", data["buckets"]),
        events=tuple(_event(each) for each in data["events"]),
    )


def _event(data: dict[str, Any]) -> Event:
    match data["event"]:
        case "serve":
            return Serve(
                requests=tuple(_served(each) for each in data["requests"]),
                finished=tuple(_text("finished", name) for name in data["finished"]),
                dies=_whole("dies", data["dies"]),
            )
        case "dummy":
            return Dummy(_whole("rows", data["rows"]))
        case "damage":
            return Damage(_wholes("tokens", data["tokens"]), _one_of("how", data["how"], DAMAGES))
        case "restart":
            # Cases that were written when there was but one model do not name it.
            return Restart(_one_of("model", data.get("model", MODELS[0]), MODELS))
        case "by hand":
            return ByHand(
                bool(data["dummy"]),
                tuple(
                    (_one_of("call", call, CALLS), _whole("layer", layer))
                    for call, layer in data["calls"]
                ),
            )
        case other:
            raise CaseFormatError(
                f"event {other!r}; accepted: 'serve', 'dummy', 'damage', 'restart', 'by hand'"
            )


def _served(data: dict[str, Any]) -> Served:
    return Served(
        name=_text("name", data["name"]),
        prompt=_wholes("prompt", data["prompt"]),
        generated=_wholes("generated", data["generated"]),
        start=_whole("start", data["start"]),
        stop=_whole("stop", data["stop"]),
        blocks=_wholes("blocks", data["blocks"]),
        load=_whole("load", data["load"]),
        save=_whole("save", data["save"]),
    )


def _one_of(name: str, value: Any, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise CaseFormatError(f"{name} {value!r}; accepted: {', '.join(map(repr, accepted))}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise CaseFormatError(f"{name} {value!r}; accepted: a string")
    return value


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CaseFormatError(f"{name} {value!r}; accepted: an integer")
    return value


def _wholes(name: str, values: Any) -> tuple[int, ...]:
    return tuple(_whole(name, value) for value in values)
