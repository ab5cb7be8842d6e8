"""Cases of every kind as JSON with a format number, and the digest that names a case."""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .capture import CaptureCase
from .capture_codec import capture_from_json, capture_to_json
from .case import OpCase
from .connector import ConnectorCase
from .connector_codec import connector_from_json, connector_to_json
from .memory_codec import CaseFormatError
from .op_codec import op_from_json, op_to_json
from .program import ProgramCase
from .program_codec import program_from_json, program_to_json
from .state import StateCase
from .state_codec import state_from_json, state_to_json
from .transfer import TransferCase
from .transfer_codec import transfer_from_json, transfer_to_json

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How the cases of one kind are written: their class, and the two ways between them."""

    kind: str
    type: type
    to_json: Callable[[Any], dict[str, Any]]
    from_json: Callable[[dict[str, Any]], Any]


CODECS: tuple[Codec, ...] = (
    Codec(kind="op", type=OpCase, to_json=op_to_json, from_json=op_from_json),
    Codec(
        kind="program",
        type=ProgramCase,
        to_json=program_to_json,
        from_json=program_from_json,
    ),
    Codec(
        kind="transfer",
        type=TransferCase,
        to_json=transfer_to_json,
        from_json=transfer_from_json,
    ),
    Codec(
        kind="capture",
        type=CaptureCase,
        to_json=capture_to_json,
        from_json=capture_from_json,
    ),
    Codec(
        kind="connector",
        type=ConnectorCase,
        to_json=connector_to_json,
        from_json=connector_from_json,
    ),
    Codec(kind="state", type=StateCase, to_json=state_to_json, from_json=state_from_json),
)
"""One row a kind of case."""


def case_kind(case: Any) -> str:
    """The name of the kind that ``case`` is of. Raises ``TypeError`` for what is no case."""
    return _codec(case).kind


def _codec(case: Any) -> Codec:
    for codec in CODECS:
        if isinstance(case, codec.type):
            return codec
    names = ", ".join(codec.type.__name__ for codec in CODECS)
    raise TypeError(f"case of type {type(case).__name__}; accepted: {names}")


def case_to_json(case: Any) -> dict[str, Any]:
    """The case as JSON-ready data; ``case_from_json`` gives it back bit for bit."""
    codec = _codec(case)
    return {"format": FORMAT, "kind": codec.kind, **codec.to_json(case)}


def case_from_json(data: Any) -> Any:
    """The typed case of ``data``. Raises ``CaseFormatError`` for anything that is not one."""
    kinds = {codec.kind: codec for codec in CODECS}
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("kind") not in kinds:
        found = (
            f"format {data.get('format')!r}, kind {data.get('kind')!r}"
            if isinstance(data, dict)
            else type(data).__name__
        )
        raise CaseFormatError(
            f"not a case: {found}; accepted: format {FORMAT}, kind {', '.join(map(repr, kinds))}"
        )
    try:
        return kinds[data["kind"]].from_json(data)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        if isinstance(error, CaseFormatError):
            raise
        raise CaseFormatError(f"not a case: {type(error).__name__}: {error}") from error


def digest(case: Any) -> str:
    """16 hexadecimal digits that name the case: SHA-256 over its canonical JSON."""
    text = json.dumps(case_to_json(case), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
