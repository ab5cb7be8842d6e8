"""Legal inputs of the gated activations: the last dimension holds two halves of width d."""

from ..declaration import FLOATS, Dim, OpDeclaration, OutputSpec, ScalarSpec, TensorSpec
from .fills import ACTIVATIONS

_X = TensorSpec(
    name="x",
    dtypes=FLOATS,
    shapes=(("...", "2*d"),),
    activation=True,
    fills=ACTIVATIONS,
)
_APPROXIMATE = ScalarSpec(name="approximate", kind="str", default="none", choices=("none", "tanh"))
_WIDTH = Dim(name="d", role="width")
_Y = OutputSpec(name="y", dtype="@x", shape=("...", "d"), layout="like:x")

GELU_AND_MUL_SPARSE = OpDeclaration(
    op="gelu_and_mul_sparse",
    parameters=(
        _X,
        ScalarSpec(
            name="std_multiplier",
            kind="float",
            # 1.6448536269514722 is the normal quantile that keeps 5 %, as Gemma-3n has it.
            samples=(1.6448536269514722, 1.0, 0.0, -0.5, 0.1, 2.0),
        ),
        _APPROXIMATE,
    ),
    dims=(_WIDTH,),
    outputs=(_Y,),
)

SILU_AND_MUL = OpDeclaration(op="silu_and_mul", parameters=(_X,), dims=(_WIDTH,), outputs=(_Y,))

GELU_AND_MUL = OpDeclaration(
    op="gelu_and_mul", parameters=(_X, _APPROXIMATE), dims=(_WIDTH,), outputs=(_Y,)
)

DECLARATIONS = (GELU_AND_MUL_SPARSE, SILU_AND_MUL, GELU_AND_MUL)
