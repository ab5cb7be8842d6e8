"""The body of an op case as JSON."""

from __future__ import annotations

from typing import Any

from .case import Argument, OpCase, Plain
from .memory_codec import (
    CaseFormatError,
    plain_from_json,
    plain_to_json,
    storage_from_json,
    storage_to_json,
    view_from_json,
    view_to_json,
)
from .storage import View


def op_to_json(case: OpCase) -> dict[str, Any]:
    """What of the case is its own: everything but ``format`` and ``kind``."""
    arguments: list[dict[str, Any]] = []
    for argument in case.arguments:
        data: dict[str, Any] = {"name": argument.name}
        if isinstance(argument.value, View):
            data["view"] = view_to_json(argument.value)
        else:
            data |= plain_to_json(argument.value)
        if argument.keyword:
            data["keyword"] = True
        arguments.append(data)
    return {
        "op": case.op,
        "overload": case.overload,
        "arguments": arguments,
        "storages": [storage_to_json(storage) for storage in case.storages],
    }


def op_from_json(data: dict[str, Any]) -> OpCase:
    """The case that ``op_to_json`` wrote. Raises ``CaseFormatError``, or what a lookup raises."""
    storages = tuple(storage_from_json(item) for item in data["storages"])
    arguments: list[Argument] = []
    for item in data["arguments"]:
        value: View | Plain
        if "view" in item:
            value = view_from_json(item["view"], storages, item["name"])
        else:
            value = plain_from_json(item)
        arguments.append(Argument(item["name"], value, bool(item.get("keyword", False))))
    if data["overload"] not in ("default", "maybe_inplace"):
        raise CaseFormatError(
            f"overload {data['overload']!r}; accepted: 'default' or 'maybe_inplace'"
        )
    return OpCase(data["op"], storages, tuple(arguments), data["overload"])
