"""Objects whose methods run for real while Dynamo traces, under a guard on what they depend on."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
_log = logging.getLogger("ir")


def register_guarded(
    cls: type[_T], *, methods: Sequence[str], guard: Callable[[_T], list[Any]]
) -> None:
    """Let Dynamo call these methods of opaque objects at trace time, with constants.

    `guard` tells what their results depend on; it is compared at every entry to compiled code.
    """
    try:
        opaque = importlib.import_module("torch._library.opaque_object")
        real = opaque.MemberType.USE_REAL
        opaque.register_opaque_type(
            cls, typ="reference", guard_fn=guard, members=dict.fromkeys(methods, real)
        )
    except (ImportError, AttributeError, TypeError) as error:
        # Without this facility Dynamo refuses to trace such calls; nothing is ever stale.
        _log.warning("Dynamo cannot trace %s on this torch: %s", cls.__name__, error)
