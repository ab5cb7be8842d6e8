"""Legal inputs of the rotary position embedding."""

from ..declaration import (
    FLOATS,
    Dim,
    OpDeclaration,
    OutputSpec,
    ScalarSpec,
    TensorSpec,
    equal_ranks,
)

_VALUES = ("dyadic", "normal", "uniform", "wide", "special", "special-finite", "signed-zero")

ROTARY_EMBEDDING = OpDeclaration(
    op="rotary_embedding",
    parameters=(
        TensorSpec(
            name="positions", dtypes=("int64",), shapes=(("n",),), index_below="max_position"
        ),
        TensorSpec(
            name="x_query",
            dtypes=FLOATS,
            shapes=(("n", "hq*head_size"), ("n", "hq", "head_size")),
            activation=True,
            fills=_VALUES,
        ),
        TensorSpec(
            name="x_key",
            dtypes=("@x_query",),
            shapes=(("n", "hk*head_size"), ("n", "hk", "head_size")),
            optional=True,
            activation=True,
            fills=_VALUES,
        ),
        ScalarSpec(name="head_size", kind="int", minimum=2, even=True),
        TensorSpec(
            name="cos_sin_cache",
            dtypes=("@x_query", "float32"),
            shapes=(("max_position", "rotary_dim"),),
            fills=("unit", "dyadic"),
        ),
        ScalarSpec(name="is_neox", kind="bool"),
        ScalarSpec(
            name="rotary_dim",
            kind="int",
            default=None,
            optional=True,
            minimum=2,
            even=True,
            at_most="head_size",
        ),
    ),
    dims=(
        Dim(name="n", role="tokens", minimum=0),
        Dim(name="hq", role="heads"),
        Dim(name="hk", role="heads"),
        Dim(name="head_size", role="head_size", minimum=2, even=True),
        Dim(name="max_position", role="positions"),
    ),
    outputs=(
        OutputSpec(name="query", dtype="@x_query", shape="@x_query", may_alias="x_query"),
        OutputSpec(
            name="key",
            dtype="@x_query",
            shape="@x_key",
            empty_without="x_key",
            may_alias="x_key",
        ),
    ),
    allow_inplace=True,
    ranks=(2, 3),
    relations=(equal_ranks("x_query", "x_key"),),
    scalar_names={"head_size": "head_size", "rotary_dim": "rotary_dim"},
    scalar_defaults={"rotary_dim": "head_size"},
)

DECLARATIONS = (ROTARY_EMBEDDING,)
