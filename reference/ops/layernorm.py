"""The norms: ``rms_norm`` and ``fused_add_rms_norm``."""

from __future__ import annotations

from reference.step import Contract, Step


def _normalized(source: str) -> tuple[Step, ...]:
    return (
        Step(name="square", function="square", operands=(source,), contracted="always"),
        Step(
            name="sum",
            function="sum_leading",
            operands=("square", "variance_size"),
            chain="n - 1",
        ),
        Step(name="mean", function="mean", operands=("sum", "square", "variance_size")),
        Step(name="shifted", function="add", operands=("mean", "epsilon")),
        Step(name="inverse", function="rsqrt", operands=("shifted",)),
        Step(name="normalized", function="multiply", operands=(source, "inverse")),
    )


_WEIGHTED = (
    Step(
        name="cast",
        function="same",
        operands=("normalized",),
        format="@weight",
        optional=True,
        needs="weight",
    ),
    Step(
        name="scaled",
        function="multiply",
        operands=("cast", "weight"),
        format="@weight",
        optional=True,
        unless_like="x",
        needs="weight",
    ),
    Step(name="y", function="same", operands=("scaled",), format="@x"),
)

_WEIGHTED_IN_FLOAT32 = (
    Step(name="scaled", function="multiply", operands=("normalized", "weight"), needs="weight"),
    Step(name="y", function="same", operands=("scaled",), format="@x"),
)

_ADDED = (
    Step(name="added", function="add", operands=("x", "x_residual")),
    Step(name="residual", function="same", operands=("added",), format="@x"),
)

_FLOAT32_WEIGHT = "the weight is multiplied in float32 and the product rounded once, at the end"

CONTRACTS = (
    Contract(
        name="rms_norm/1",
        op="rms_norm",
        steps=_normalized("x") + _WEIGHTED,
        outputs={"y": "y"},
        rows=("x",),
    ),
    Contract(
        name="rms_norm/fp32-weight",
        op="rms_norm",
        steps=_normalized("x") + _WEIGHTED_IN_FLOAT32,
        outputs={"y": "y"},
        rows=("x",),
        differs=_FLOAT32_WEIGHT,
    ),
    Contract(
        name="fused_add_rms_norm/1",
        op="fused_add_rms_norm",
        steps=_ADDED + _normalized("added") + _WEIGHTED,
        outputs={"y": "y", "residual": "residual"},
        rows=("x", "x_residual"),
    ),
    Contract(
        name="fused_add_rms_norm/fp32-weight",
        op="fused_add_rms_norm",
        steps=_ADDED + _normalized("added") + _WEIGHTED_IN_FLOAT32,
        outputs={"y": "y", "residual": "residual"},
        rows=("x", "x_residual"),
        differs=_FLOAT32_WEIGHT,
    ),
)
