"""Providers other than native, imported on demand: each needs an extra that may be missing."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a provider can run here, and the reason in words."""

    available: bool
    reason: str


@cache
def _load(provider: str) -> Availability:
    if importlib.util.find_spec(provider) is None:
        install = f"pip install 'irverify[{provider}]'"
        return Availability(False, f"missing: the package {provider} is not installed ({install})")
    try:
        module = importlib.import_module(f"ir.kernels.{provider}")
    except ImportError as error:
        # Installed, but a shared library or a name of another version is not there.
        return Availability(False, f"broken: the package {provider} does not import: {error}")
    why = module.why_unavailable()
    return Availability(why is None, why or module.where())


def load() -> dict[str, Availability]:
    """Import every provider package and register what it has; says what became of each.

    Registrations are made once, however often this is called. A provider that is installed but
    cannot run here is registered with `supported=False`.
    """
    return {"triton": _load("triton")}
