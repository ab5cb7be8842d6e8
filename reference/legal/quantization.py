"""Legal inputs of the quantizations to float8_e4m3fn."""

from dataclasses import replace

from ..declaration import (
    FLOATS,
    Dim,
    OpDeclaration,
    OutputSpec,
    ScalarSpec,
    TensorSpec,
    flag_needs_rank,
)
from .fills import ACTIVATIONS, QUANTIZED

_X = TensorSpec(
    name="x",
    dtypes=FLOATS,
    shapes=(("...", "d"),),
    activation=True,
    fills=ACTIVATIONS,
)
_WIDTH = Dim(name="d", role="width")
_Y = OutputSpec(name="y", dtype="float8_e4m3fn", shape="@x")
_ONE = ((), ("1",))

STATIC_QUANT_FP8 = OpDeclaration(
    op="static_quant_fp8",
    parameters=(
        _X,
        TensorSpec(
            name="scale",
            dtypes=("float32",),
            shapes=_ONE,
            # Subnormal scales have reciprocals beyond fp32, dyadic ones make ties of quotients.
            fills=("positive", "dyadic", "ones", "wide", "subnormal", "special"),
        ),
    ),
    dims=(_WIDTH,),
    outputs=(_Y,),
    ranks=(1, 3),
)

DYNAMIC_PER_TOKEN_QUANT_FP8 = OpDeclaration(
    op="dynamic_per_token_quant_fp8",
    parameters=(
        replace(_X, fills=QUANTIZED),
        TensorSpec(
            name="scale_ub",
            dtypes=("float32",),
            shapes=_ONE,
            optional=True,
            default=None,
            fills=("positive", "ones", "wide"),
        ),
    ),
    dims=(_WIDTH,),
    outputs=(_Y, OutputSpec(name="scale", dtype="float32", shape=("...", "1"))),
    ranks=(1, 3),
)

PER_TOKEN_GROUP_QUANT_FP8 = OpDeclaration(
    op="per_token_group_quant_fp8",
    parameters=(
        TensorSpec(
            name="x",
            dtypes=FLOATS,
            shapes=(("...", "groups*group_size"),),
            activation=True,
            fills=QUANTIZED,
        ),
        ScalarSpec(name="group_size", kind="int", minimum=1),
        ScalarSpec(name="column_major_scales", kind="bool", default=False),
        ScalarSpec(name="ue8m0", kind="bool", default=False),
    ),
    dims=(
        Dim(name="groups", role="groups"),
        Dim(name="group_size", role="width"),
    ),
    outputs=(
        _Y,
        OutputSpec(
            name="scale",
            dtype="float32",
            shape=("...", "groups"),
            swapped_if="column_major_scales",
        ),
    ),
    ranks=(1, 3),
    relations=(flag_needs_rank("column_major_scales", "x", 2),),
    scalar_names={"group_size": "group_size"},
)

DECLARATIONS = (STATIC_QUANT_FP8, DYNAMIC_PER_TOKEN_QUANT_FP8, PER_TOKEN_GROUP_QUANT_FP8)
