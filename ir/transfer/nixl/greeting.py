"""What engines tell each other when they meet: geometry, addresses and NIXL metadata, as bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import TransferError
from ..geometry import ADDRESS_LIMIT, EngineGeometry, Layout, Placement, Worker
from ..groups import CacheGroup, Kind, ModelCache, Part
from .errors import HandshakeError

FORMAT = 1
_DIGEST_BYTES = 32
_NUMBERS = ("tp", "num_blocks", "block_tokens", "kernel_tokens", "page_padding")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One rank: its agent's name, NIXL metadata, and the addresses of its tensors."""

    agent: str
    metadata: bytes
    bases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Greeting:
    """An engine in one of its lives: a restart keeps the engine's id and changes `life`."""

    geometry: EngineGeometry
    life: str
    endpoints: Mapping[Worker, Endpoint]


def fingerprint(geometry: EngineGeometry) -> str:
    """SHA-256 of a geometry in canonical JSON: both sides must read the same one."""
    text = json.dumps(asdict(geometry), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def encode(greeting: Greeting) -> bytes:
    """A greeting behind the SHA-256 of its bytes."""
    body = json.dumps(
        {
            "format": FORMAT,
            "fingerprint": fingerprint(greeting.geometry),
            "geometry": asdict(greeting.geometry),
            "life": greeting.life,
            "endpoints": [
                {
                    "stage": worker.stage,
                    "rank": worker.rank,
                    "agent": endpoint.agent,
                    "metadata": base64.b64encode(endpoint.metadata).decode(),
                    "bases": endpoint.bases,
                }
                for worker, endpoint in greeting.endpoints.items()
            ],
        }
    ).encode()
    return hashlib.sha256(body).digest() + body


def decode(data: bytes, *, engine: str) -> Greeting:
    """Read a greeting that `engine` received. Raises `HandshakeError` whatever the bytes are."""
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise HandshakeError(
            engine, "a peer", f"{len(body)} bytes with another digest", "bytes as they were sent"
        )
    try:
        fields = json.loads(body)
        if fields["format"] != FORMAT:
            raise HandshakeError(engine, "a peer", f"format {fields['format']}", str(FORMAT))
        geometry = geometry_of(fields["geometry"])
        endpoints = dict(_endpoint(of) for of in fields["endpoints"])
        life, mark = _text(fields["life"]), fields["fingerprint"]
    except HandshakeError:
        raise
    except TransferError as error:
        raise HandshakeError(engine, "a peer", str(error), "a greeting") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HandshakeError(engine, "a peer", repr(error), "a greeting") from error
    name = repr(geometry.engine_id)
    if mark != fingerprint(geometry):
        raise HandshakeError(engine, name, f"fingerprint {mark}", fingerprint(geometry))
    if set(endpoints) != set(geometry.workers):
        raise HandshakeError(
            engine, name, f"endpoints of {len(endpoints)} ranks", f"one per rank of {geometry.tp}"
        )
    return Greeting(geometry, life, endpoints)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _number(value: object, *, below: int = ADDRESS_LIMIT) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(f"{value!r} is not a number from 0 to {below - 1}")
    return value


def _endpoint(fields: dict) -> tuple[Worker, Endpoint]:
    worker = Worker(_number(fields["stage"]), _number(fields["rank"]))
    metadata = base64.b64decode(fields["metadata"], validate=True)
    bases = tuple(_number(base) for base in fields["bases"])
    return worker, Endpoint(_text(fields["agent"]), metadata, bases)


def geometry_of(fields: dict) -> EngineGeometry:
    """The geometry whose `asdict` went through JSON. Raises `KeyError`, `TypeError`, `ValueError`
    or `AttributeError` for what is none.
    """
    model = fields["model"]
    groups = tuple(
        CacheGroup(
            group["name"],
            Kind(group["kind"]),
            tuple(_number(layer) for layer in group["layers"]),
            tuple(
                Part(
                    _text(part["name"]),
                    _number(part["units"]),
                    _number(part["unit_bytes"]),
                    bool(part["always_sharded"]),
                )
                for part in group["parts"]
            ),
            None if group["window"] is None else _number(group["window"]),
        )
        for group in model["groups"]
    )
    rest = {
        **fields,
        "model": ModelCache(model["name"], model["query_heads"], groups),
        "layout": Layout(fields["layout"]),
        "placement": Placement(fields["placement"]),
        "stage_layers": tuple(_number(count) for count in fields["stage_layers"]),
    }
    for name in _NUMBERS:
        _number(fields[name])
    _text(fields["engine_id"])
    return EngineGeometry(**rest)
