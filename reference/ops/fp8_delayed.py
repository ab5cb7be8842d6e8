"""Quantization by the scale of earlier calls: ``quant_fp8_delayed``."""

from __future__ import annotations

from reference.ops.quantization import ROUNDED
from reference.step import Contract, Step

CONTRACTS = (
    Contract(
        name="quant_fp8_delayed/1",
        op="quant_fp8_delayed",
        steps=(
            Step(name="largest", function="largest_of_all", operands=("amax",), format=None),
            Step(name="share", function="over_448", operands=("largest",)),
            Step(name="scale", function="or_one", operands=("share", "largest"), format=None),
            Step(name="ratio", function="divide", operands=("x", "scale")),
            *ROUNDED,
            Step(name="present", function="largest_of_all", operands=("x",), format=None),
            Step(
                name="history",
                function="amax_recorded",
                operands=("amax", "next", "present"),
                format=None,
            ),
            Step(
                name="following",
                function="next_recorded",
                operands=("amax", "next", "present"),
                format=None,
            ),
        ),
        outputs={"y": "y", "scale": "scale", "amax": "history", "next": "following"},
        rows=(),
    ),
)
