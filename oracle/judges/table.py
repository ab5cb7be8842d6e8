"""Every judge by name, with its kinds, and which class of bugs it is there to see."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .captures_table import CAPTURE_JUDGES
from .completion import completion, refusal
from .connector_table import CONNECTOR_JUDGES
from .judge import Judge
from .memory import aliasing, mutation, uninitialized
from .metadata import fake, layout
from .programs_table import PROGRAM_JUDGES
from .states_table import STATE_JUDGES
from .transfers_table import TRANSFER_JUDGES
from .values import values

JUDGES: Mapping[str, Judge] = MappingProxyType(
    {
        judge.name: judge
        for judge in (
            Judge(
                name="completion",
                claim="a legal call returns",
                codes=("META", "DYN"),
                kinds={
                    "raised": "a legal case raised an error that is not a refusal",
                    "refused-legal": "a legal case was refused",
                    "crash": "the process died",
                    "timeout": "the call did not end in the time a case is given",
                },
                judge=completion,
            ),
            Judge(
                name="refusal",
                claim="an illegal call raises the documented error",
                codes=("SPEC",),
                kinds={
                    "not-refused": "illegal input was accepted",
                    "wrong-error": "illegal input raised something else than the documented error",
                    "crash": "the process died",
                    "timeout": "the call did not end in the time a case is given",
                },
                judge=refusal,
            ),
            Judge(
                name="values",
                claim="every element lies in the contract's interval",
                codes=("VAL", "SPEC", "DYN"),
                kinds={
                    "arity": "the number of outputs is wrong",
                    "dtype": "an output has the wrong dtype",
                    "shape": "an output has the wrong shape",
                    "value": "an element lies outside its interval",
                    "nan": "an element is NaN where it must not be, or is not where it must be",
                    "zero-sign": "a zero has the wrong sign",
                    "bound-too-wide": "an interval spans over 4 ulps, no cancellation: undecided",
                },
                judge=values,
            ),
            Judge(
                name="layout",
                claim="outputs have the declared strides, offset and device",
                codes=("META",),
                kinds={
                    "stride": "an output's strides are not the declared ones",
                    "offset": "an output does not start its storage",
                    "device": "an output is on another device",
                },
                judge=layout,
            ),
            Judge(
                name="fake",
                claim="the fake run gives the metadata of the real one",
                codes=("META",),
                kinds={
                    "fake-raises": "the fake run raises where the real one returns",
                    "fake-arity": "the fake run has another number of outputs",
                    "fake-dtype": "the fake run has another dtype",
                    "fake-shape": "the fake run has another shape",
                    "fake-stride": "the fake run has other strides",
                    "no-fake-run": "the subject has no fake run for this: undecided",
                },
                judge=fake,
            ),
            Judge(
                name="mutation",
                claim="no input byte changes that was not donated, no byte of a state but as meant",
                codes=("MUT",),
                kinds={
                    "input-written": "an element of an input changed, or of a state wrongly",
                    "canary-written": "memory beside an input changed",
                },
                judge=mutation,
            ),
            Judge(
                name="aliasing",
                claim="outputs own their storage",
                codes=("ALIAS",),
                kinds={
                    "output-aliases-input": "an output shares storage with an input",
                    "outputs-share-storage": "two outputs share one storage",
                    "output-reused": "a later call writes into an output that is still held",
                },
                judge=aliasing,
            ),
            Judge(
                name="uninitialized",
                claim="the result does not depend on what fresh memory holds",
                codes=("VAL", "CG"),
                kinds={
                    "uninitialized-read": "two fills of fresh memory give two results",
                    "no-second-fill": "fresh memory cannot be filled here: undecided",
                },
                judge=uninitialized,
            ),
            *PROGRAM_JUDGES,
            *TRANSFER_JUDGES,
            *CAPTURE_JUDGES,
            *STATE_JUDGES,
            *CONNECTOR_JUDGES,
        )
    }
)

CODES: Mapping[str, str] = MappingProxyType(
    {
        "VAL": "values outside the contract's interval, on any route",
        "SPEC": "special values: NaN-ness, signs of zero, infinities, subnormals, ties",
        "META": "fake, declared and real metadata that differ",
        "MUT": "inputs or their neighbours written",
        "ALIAS": "storage shared that should not be",
        "CACHE": "a cache whose key is too weak",
        "GRAPH": "broken graph invariants",
        "CG": "captured graphs replayed over stale or uninitialized memory",
        "PAD": "padding that changes real rows or writes KV",
        "KVID": "KV bytes that land in the wrong place",
        "PROTO": "protocols of transfers and connectors that lose, repeat or misplace a call",
        "DYN": "sizes 0, 1, odd and prime through one compiled artefact",
        "BIG": "offsets beyond 2**31",
    }
)
"""Classes of mechanisms of real bugs, by the code that a judge answers for."""

LATER: Mapping[str, str] = MappingProxyType(
    {
        "BIG": "no judge yet: needs virtual strides over sparse storage",
    }
)
"""Codes whose own judges arrive with another property, and with which."""


def judge_named(name: str) -> Judge:
    """The judge called ``name``; ``KeyError`` names those there are."""
    if name not in JUDGES:
        raise KeyError(f"judge {name!r}; accepted: {', '.join(JUDGES)}")
    return JUDGES[name]
