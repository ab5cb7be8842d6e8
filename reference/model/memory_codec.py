"""Plain values, storages and views as JSON: what every kind of case is written with.

Floats are hexadecimal, bytes base64, so nothing is lost.
"""

from __future__ import annotations

import base64
from typing import Any

from .case import Plain
from .fill import PATTERNS, Fill
from .storage import Storage, View


class CaseFormatError(ValueError):
    """A case file that cannot be read: says what was found and what would be accepted."""


def plain_to_json(value: Plain) -> Any:
    if isinstance(value, float):
        return {"float": value.hex()}
    return {"plain": value}


def plain_from_json(data: dict[str, Any]) -> Plain:
    if "float" in data:
        return float.fromhex(data["float"])
    value = data["plain"]
    if value is not None and not isinstance(value, bool | int | str):
        raise CaseFormatError(f"plain argument {value!r}; accepted: null, bool, int or str")
    return value


def storage_to_json(storage: Storage) -> dict[str, Any]:
    data: dict[str, Any] = {"dtype": storage.dtype, "numel": storage.numel}
    if isinstance(storage.content, Fill):
        fill = storage.content
        data["fill"] = {"pattern": fill.pattern, "key": fill.key, "parameter": fill.parameter}
    else:
        data["bytes"] = base64.b64encode(storage.content).decode("ascii")
    return data


def storage_from_json(data: dict[str, Any]) -> Storage:
    if "fill" in data:
        fill = Fill(**data["fill"])
        if fill.pattern not in PATTERNS:
            raise CaseFormatError(
                f"fill pattern {fill.pattern!r}; accepted: {', '.join(sorted(PATTERNS))}"
            )
        return Storage(data["dtype"], data["numel"], fill)
    return Storage(data["dtype"], data["numel"], base64.b64decode(data["bytes"], validate=True))


def view_to_json(view: View) -> dict[str, Any]:
    return {
        "storage": view.storage,
        "shape": list(view.shape),
        "strides": list(view.strides),
        "offset": view.offset,
    }


def view_from_json(data: dict[str, Any], storages: tuple[Storage, ...], name: str) -> View:
    """The view of ``data``. Raises ``CaseFormatError`` where ``storages`` cannot hold it."""
    view = View(data["storage"], tuple(data["shape"]), tuple(data["strides"]), data["offset"])
    if not 0 <= view.storage < len(storages):
        raise CaseFormatError(
            f"argument {name!r} views storage {view.storage}; accepted: 0 to {len(storages) - 1}"
        )
    if view.extent > storages[view.storage].numel:
        raise CaseFormatError(
            f"argument {name!r} needs {view.extent} elements of storage "
            f"{view.storage}; accepted: at most {storages[view.storage].numel}"
        )
    return view
