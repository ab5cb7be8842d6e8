"""Quantization to float8_e4m3fn: with a given scale, per token, and per group of neighbours."""

from __future__ import annotations

from reference.step import Contract, Step

ROUNDED = (
    Step(name="clamped", function="clamped", operands=("ratio",), format=None),
    Step(name="y", function="same", operands=("clamped",), format="float8_e4m3fn"),
)

CONTRACTS = (
    Contract(
        name="static_quant_fp8/1",
        op="static_quant_fp8",
        steps=(Step(name="ratio", function="divide", operands=("x", "scale")), *ROUNDED),
        outputs={"y": "y"},
        rows=("x",),
    ),
    Contract(
        name="static_quant_fp8/reciprocal",
        op="static_quant_fp8",
        steps=(
            Step(name="inverse", function="reciprocal", operands=("scale",)),
            Step(name="ratio", function="multiply", operands=("x", "inverse")),
            *ROUNDED,
        ),
        outputs={"y": "y"},
        rows=("x",),
        differs="x is multiplied by the float32 reciprocal of the scale instead of divided by it",
    ),
    Contract(
        name="dynamic_per_token_quant_fp8/1",
        op="dynamic_per_token_quant_fp8",
        steps=(
            Step(name="largest", function="largest_magnitude", operands=("x",), format=None),
            Step(
                name="capped",
                function="minimum",
                operands=("largest", "scale_ub"),
                format=None,
                needs="scale_ub",
            ),
            Step(name="share", function="over_448", operands=("capped",)),
            Step(name="scale", function="at_least_token_floor", operands=("share",), format=None),
            Step(name="ratio", function="divide", operands=("x", "scale")),
            *ROUNDED,
        ),
        outputs={"y": "y", "scale": "scale"},
        rows=("x",),
    ),
    Contract(
        name="per_token_group_quant_fp8/1",
        op="per_token_group_quant_fp8",
        steps=(
            Step(name="grouped", function="groups", operands=("x",), format=None),
            Step(name="largest", function="largest_magnitude", operands=("grouped",), format=None),
            Step(
                name="floored", function="at_least_group_floor", operands=("largest",), format=None
            ),
            Step(name="share", function="over_448", operands=("floored",)),
            Step(
                name="group_scale",
                function="power_of_two",
                operands=("share", "ue8m0"),
                format=None,
            ),
            Step(name="grouped_ratio", function="divide", operands=("grouped", "group_scale")),
            Step(name="ratio", function="joined_groups", operands=("grouped_ratio",), format=None),
            *ROUNDED,
            Step(name="scale", function="joined_groups", operands=("group_scale",), format=None),
        ),
        outputs={"y": "y", "scale": "scale"},
        rows=("x",),
    ),
)
