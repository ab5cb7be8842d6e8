"""Legal inputs of the root-mean-square norms."""

from ..declaration import FLOATS, Dim, OpDeclaration, OutputSpec, ScalarSpec, TensorSpec
from .fills import ACTIVATIONS

_X = TensorSpec(name="x", dtypes=FLOATS, shapes=(("...", "d"),), activation=True, fills=ACTIVATIONS)
_WEIGHT = TensorSpec(
    name="weight",
    dtypes=FLOATS,
    shapes=(("d",),),
    optional=True,
    fills=("dyadic", "normal", "uniform", "special-finite"),
)
_EPSILON = ScalarSpec(
    name="epsilon",
    kind="float",
    minimum=0.0,
    # 1e-05 and 1e-06 are what models use; neither is representable in fp32, 2**-17 is.
    samples=(1e-05, 1e-06, 2.0**-17, 1e-12, 0.1, 1.0, 0.0),
)
_VARIANCE_SIZE = ScalarSpec(
    name="variance_size", kind="int", default=None, optional=True, minimum=1, at_most="d"
)
_WIDTH = Dim(name="d", role="width")

RMS_NORM = OpDeclaration(
    op="rms_norm",
    parameters=(
        _X,
        _WEIGHT,
        _EPSILON,
        _VARIANCE_SIZE,
    ),
    dims=(_WIDTH,),
    outputs=(OutputSpec(name="y", dtype="@x", shape="@x", layout="like:x", may_alias="x"),),
    allow_inplace=True,
)

FUSED_ADD_RMS_NORM = OpDeclaration(
    op="fused_add_rms_norm",
    parameters=(
        _X,
        TensorSpec(
            name="x_residual",
            dtypes=("@x",),
            shapes=(("...", "d"),),
            activation=True,
            fills=ACTIVATIONS,
        ),
        _WEIGHT,
        _EPSILON,
        _VARIANCE_SIZE,
    ),
    dims=(_WIDTH,),
    outputs=(
        OutputSpec(name="y", dtype="@x", shape="@x", layout="like:x", may_alias="x"),
        OutputSpec(
            name="residual", dtype="@x", shape="@x", layout="like:x", may_alias="x_residual"
        ),
    ),
    allow_inplace=True,
)

DECLARATIONS = (RMS_NORM, FUSED_ADD_RMS_NORM)
