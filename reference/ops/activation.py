"""The gated activations: ``silu_and_mul``, ``gelu_and_mul`` and ``gelu_and_mul_sparse``."""

from __future__ import annotations

from reference.step import Contract, Step

_HALVES = (
    Step(name="gate", function="first_half", operands=("x",), format=None),
    Step(name="up", function="second_half", operands=("x",), format=None),
)


def _gated(function: str, *operands: str) -> tuple[Step, ...]:
    return (
        Step(name="activated", function=function, operands=operands, format="@x", optional=True),
        Step(name="y", function="multiply", operands=("activated", "up"), format="@x"),
    )


def _elided(name: str, function: str, *operands: str) -> Step:
    return Step(name=name, function=function, operands=operands, format="@x", optional=True)


_SPARSE = (
    Step(name="sum", function="sum", operands=("gate",), chain="n - 1"),
    _elided("mean", "mean", "sum", "gate"),
    _elided("std", "population_std", "gate"),
    Step(
        name="margin",
        function="multiply",
        operands=("std", "std_multiplier"),
        format="@x",
        optional=True,
        contracted="optional",
    ),
    _elided("cutoff", "add", "mean", "margin"),
    _elided("excess", "subtract", "gate", "cutoff"),
    Step(name="kept", function="relu", operands=("excess",), format=None),
)

CONTRACTS = (
    Contract(
        name="silu_and_mul/1",
        op="silu_and_mul",
        steps=_HALVES + _gated("silu", "gate"),
        outputs={"y": "y"},
        rows=("x",),
    ),
    Contract(
        name="gelu_and_mul/1",
        op="gelu_and_mul",
        steps=_HALVES + _gated("gelu", "gate", "approximate"),
        outputs={"y": "y"},
        rows=("x",),
        # 1 + erf cancels in the negative tail.
        cancellation=True,
    ),
    Contract(
        name="gelu_and_mul_sparse/1",
        op="gelu_and_mul_sparse",
        steps=_HALVES + _SPARSE + _gated("gelu", "kept", "approximate"),
        outputs={"y": "y"},
        rows=("x",),
        cancellation=True,
    ),
)
