"""What a subject reports of one call: data only, no torch, no judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTensor:
    """One output. ``values`` has the output's shape in the storage dtype's NumPy form.

    ``storage`` names the memory: 0, 1, ... are the case's storages in order (the output shares
    theirs), -1, -2, ... are fresh ones, equal for outputs that share. Strides and offset count
    elements; ``offset`` is the storage offset.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    device: str
    storage: int
    values: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeTensorInfo:
    """One output of the fake (metadata-only) run of the same call."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    device: str


@dataclass(frozen=True, slots=True)
class Raised:
    """The call raised: the class, the names of its bases, the message."""

    type: str
    bases: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Died:
    """The process that ran the call ended: a signal's name, an exit code, or ``timeout``."""

    how: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The route or provider does not take this case, by its own declaration; a kebab-case slug."""

    because: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The route cannot be driven here (no compiler, a missing correction); a kebab-case slug."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The call returned. ``inputs_after`` are the case's storages after it, whole.

    ``again`` holds the outputs of a second run under another fill of fresh memory, where that
    probe was asked for and possible; ``reused`` the positions of those that lie in the storage of
    an output of the first run, which was still held; ``fake`` the metadata of a fake run, or what
    it raised.
    """

    outputs: tuple[ObservedTensor, ...]
    inputs_after: tuple[np.ndarray, ...]
    again: tuple[ObservedTensor, ...] | None = None
    reused: tuple[int, ...] = ()
    fake: tuple[FakeTensorInfo, ...] | Raised | None = None


Observation = Returned | Raised | Died | Declined | Unavailable
