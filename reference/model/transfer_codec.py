"""Transfer cases as JSON."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from .memory_codec import CaseFormatError
from .transfer import (
    FAULTS,
    GROUP_KINDS,
    CachedGroup,
    CachedModel,
    CachedPart,
    Engine,
    Transfer,
    TransferCase,
)

_LAYOUTS = ("HND", "NHD")


def transfer_to_json(case: TransferCase) -> dict[str, Any]:
    """All of the case but its format and kind."""
    other = case.consumer_model
    return {
        "model": _model_to_json(case.model),
        "producer": _plain(case.producer),
        "consumer": _plain(case.consumer),
        "requests": [_plain(request) for request in case.requests],
        "producer_id": case.producer_id,
        "consumer_id": case.consumer_id,
        "consumer_model": None if other is None else _model_to_json(other),
        "fault": case.fault,
        "push": case.push,
    }


def _model_to_json(model: CachedModel) -> dict[str, Any]:
    groups = [
        _plain(group) | {"parts": [_plain(part) for part in group.parts]} for group in model.groups
    ]
    return {"query_heads": model.query_heads, "groups": groups}


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _plain(value: Engine | Transfer | CachedGroup | CachedPart) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _names(type(value))}


def transfer_from_json(data: dict[str, Any]) -> TransferCase:
    """The case that `transfer_to_json` wrote. Raises `CaseFormatError` for unknown words."""
    fault = _one_of("fault", data["fault"], ("", *FAULTS))
    other = data["consumer_model"]
    return TransferCase(
        model=_model(data["model"]),
        producer=_engine(data["producer"]),
        consumer=_engine(data["consumer"]),
        requests=tuple(_request(each) for each in data["requests"]),
        producer_id=_text("producer_id", data["producer_id"]),
        consumer_id=_text("consumer_id", data["consumer_id"]),
        consumer_model=None if other is None else _model(other),
        fault=fault,
        push=bool(data["push"]),
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


def _model(data: dict[str, Any]) -> CachedModel:
    return CachedModel(
        query_heads=_whole("query_heads", data["query_heads"]),
        groups=tuple(_group(each) for each in data["groups"]),
    )


def _group(data: dict[str, Any]) -> CachedGroup:
    window = data["window"]
    return CachedGroup(
        _one_of("kind", data["kind"], GROUP_KINDS),
        tuple(_whole("layer", layer) for layer in data["layers"]),
        tuple(
            CachedPart(
                _text("part", part["name"]),
                _whole("units", part["units"]),
                _whole("unit_bytes", part["unit_bytes"]),
                bool(part["always_sharded"]),
            )
            for part in data["parts"]
        ),
        None if window is None else _whole("window", window),
    )


def _engine(data: dict[str, Any]) -> Engine:
    numbers = ("tp", "num_blocks", "block_tokens", "kernel_tokens", "page_padding")
    known = set(_names(Engine))
    if set(data) != known:
        raise CaseFormatError(f"engine with {sorted(data)}; accepted: {sorted(known)}")
    return Engine(
        **{name: _whole(name, data[name]) for name in numbers},
        stage_layers=tuple(_whole("stage_layers", n) for n in data["stage_layers"]),
        layout=_one_of("layout", data["layout"], _LAYOUTS),
        blocks_first=bool(data["blocks_first"]),
        shares_tensors=bool(data["shares_tensors"]),
    )


def _request(data: dict[str, Any]) -> Transfer:
    def lists(name: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(_whole(name, block) for block in each) for each in data[name])

    return Transfer(
        producer_request=_text("producer_request", data["producer_request"]),
        consumer_request=_text("consumer_request", data["consumer_request"]),
        prompt_tokens=_whole("prompt_tokens", data["prompt_tokens"]),
        cached_tokens=_whole("cached_tokens", data["cached_tokens"]),
        producer_blocks=lists("producer_blocks"),
        consumer_blocks=lists("consumer_blocks"),
    )
