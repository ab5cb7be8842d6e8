"""Cases as JSON with a format number; floats as hexadecimal, bytes as base64, nothing lost."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from .case import Argument, OpCase, Plain
from .fill import PATTERNS, Fill
from .storage import Storage, View

FORMAT = 1


class CaseFormatError(ValueError):
    """A case file that cannot be read: says what was found and what would be accepted."""


def _plain_to_json(value: Plain) -> Any:
    if isinstance(value, float):
        return {"float": value.hex()}
    return {"plain": value}


def _plain_from_json(data: dict[str, Any]) -> Plain:
    if "float" in data:
        return float.fromhex(data["float"])
    value = data["plain"]
    if value is not None and not isinstance(value, bool | int | str):
        raise CaseFormatError(f"plain argument {value!r}; accepted: null, bool, int or str")
    return value


def _storage_to_json(storage: Storage) -> dict[str, Any]:
    data: dict[str, Any] = {"dtype": storage.dtype, "numel": storage.numel}
    if isinstance(storage.content, Fill):
        fill = storage.content
        data["fill"] = {"pattern": fill.pattern, "key": fill.key, "parameter": fill.parameter}
    else:
        data["bytes"] = base64.b64encode(storage.content).decode("ascii")
    return data


def _storage_from_json(data: dict[str, Any]) -> Storage:
    if "fill" in data:
        fill = Fill(**data["fill"])
        if fill.pattern not in PATTERNS:
            raise CaseFormatError(
                f"fill pattern {fill.pattern!r}; accepted: {', '.join(sorted(PATTERNS))}"
            )
        return Storage(data["dtype"], data["numel"], fill)
    return Storage(data["dtype"], data["numel"], base64.b64decode(data["bytes"], validate=True))


def case_to_json(case: OpCase) -> dict[str, Any]:
    """The case as JSON-ready data; ``case_from_json`` gives it back bit for bit."""
    arguments: list[dict[str, Any]] = []
    for argument in case.arguments:
        data: dict[str, Any] = {"name": argument.name}
        if isinstance(argument.value, View):
            view = argument.value
            data["view"] = {
                "storage": view.storage,
                "shape": list(view.shape),
                "strides": list(view.strides),
                "offset": view.offset,
            }
        else:
            data |= _plain_to_json(argument.value)
        if argument.keyword:
            data["keyword"] = True
        arguments.append(data)
    return {
        "format": FORMAT,
        "kind": "op",
        "op": case.op,
        "overload": case.overload,
        "arguments": arguments,
        "storages": [_storage_to_json(storage) for storage in case.storages],
    }


def case_from_json(data: Any) -> OpCase:
    """The typed case of ``data``. Raises ``CaseFormatError`` for anything that is not one."""
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("kind") != "op":
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise CaseFormatError(f"not a case: format {found!r}; accepted: format {FORMAT}, kind 'op'")
    try:
        return _op_case(data)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        if isinstance(error, CaseFormatError):
            raise
        raise CaseFormatError(f"not a case: {type(error).__name__}: {error}") from error


def _op_case(data: dict[str, Any]) -> OpCase:
    storages = tuple(_storage_from_json(item) for item in data["storages"])
    arguments: list[Argument] = []
    for item in data["arguments"]:
        value: View | Plain
        if "view" in item:
            found = item["view"]
            value = View(
                found["storage"], tuple(found["shape"]), tuple(found["strides"]), found["offset"]
            )
            if not 0 <= value.storage < len(storages):
                raise CaseFormatError(
                    f"argument {item['name']!r} views storage {value.storage}; "
                    f"accepted: 0 to {len(storages) - 1}"
                )
            if value.extent > storages[value.storage].numel:
                raise CaseFormatError(
                    f"argument {item['name']!r} needs {value.extent} elements of storage "
                    f"{value.storage}; accepted: at most {storages[value.storage].numel}"
                )
        else:
            value = _plain_from_json(item)
        arguments.append(Argument(item["name"], value, bool(item.get("keyword", False))))
    if data["overload"] not in ("default", "maybe_inplace"):
        raise CaseFormatError(
            f"overload {data['overload']!r}; accepted: 'default' or 'maybe_inplace'"
        )
    return OpCase(data["op"], storages, tuple(arguments), data["overload"])


def digest(case: OpCase) -> str:
    """16 hexadecimal digits that name the case: SHA-256 over its canonical JSON."""
    text = json.dumps(case_to_json(case), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
