"""Who can be judged. A judged library is imported here only, and only inside functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from oracle.errors import UsageError
from oracle.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectOptions:
    """What a subject is started with: the device, and the user's files or modules to load."""

    device: str = "cpu"
    imports: tuple[str, ...] = ()


def _ir(options: SubjectOptions) -> Subject:
    from .ir import IrSubject

    return IrSubject(options)


def _reference(options: SubjectOptions) -> Subject:
    from .reference import ReferenceSubject

    return ReferenceSubject(options)


def _torch(options: SubjectOptions) -> Subject:
    from .torch import TorchSubject

    return TorchSubject(options)


_FACTORIES: Mapping[str, Callable[[SubjectOptions], Subject]] = MappingProxyType(
    {"ir": _ir, "reference": _reference, "torch": _torch}
)

DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "ir": "the functional IR of this distribution, and every provider registered on it",
        "reference": "the reference dressed as a subject: it must agree with itself everywhere",
        "torch": "torch.compile without us, on the programs that the passes of ir are judged on",
    }
)
"""Subjects by name, with what they are."""


def start(name: str, options: SubjectOptions) -> Subject:
    """The subject called ``name``. Raises ``UsageError`` for one that there is not."""
    if name not in _FACTORIES:
        raise UsageError(f"subject {name!r}; accepted: {', '.join(_FACTORIES)}")
    return _FACTORIES[name](options)
