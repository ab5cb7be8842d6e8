"""Legal inputs of the quantization by the scale of earlier calls; its history is a state."""

import numpy as np

from ..declaration import FLOATS, Arrays, Dim, OpDeclaration, OutputSpec, TensorSpec
from .fills import ACTIVATIONS

_LENGTH = 16
_HISTORY = "fp8_amax_history"


def _no_history(arrays: Arrays) -> str:
    amax = arrays["amax"]
    if not 0 <= arrays["next"][0] < _LENGTH:
        return "place-out-of-range"
    return "" if (np.isfinite(amax) & (amax >= 0)).all() else "history-holds-no-maxima"


def _record(arrays: Arrays) -> None:
    x, place = arrays["x"].astype(np.float32), arrays["next"]
    largest = np.abs(x).max(initial=0.0)
    if np.isfinite(largest) and largest > 0:
        arrays["amax"][place[0]] = largest
        place[0] = (place[0] + 1) % _LENGTH


QUANT_FP8_DELAYED = OpDeclaration(
    op="quant_fp8_delayed",
    parameters=(
        TensorSpec(
            name="x", dtypes=FLOATS, shapes=(("...", "d"),), activation=True, fills=ACTIVATIONS
        ),
        TensorSpec(
            name="amax",
            dtypes=("float32",),
            shapes=((str(_LENGTH),),),
            fills=("positive", "ones", "zeros"),
            state=f"{_HISTORY}.amax",
            content="history",
        ),
        TensorSpec(
            name="next",
            dtypes=("int64",),
            shapes=(("1",),),
            state=f"{_HISTORY}.next",
            content="place",
        ),
    ),
    dims=(Dim(name="d", role="width"),),
    outputs=(
        OutputSpec(name="y", dtype="float8_e4m3fn", shape="@x"),
        OutputSpec(name="scale", dtype="float32", shape=("1",)),
        OutputSpec(name="amax", dtype="float32", shape="@amax", left_in="amax"),
        OutputSpec(name="next", dtype="int64", shape="@next", left_in="next"),
    ),
    ranks=(1, 3),
    preconditions=(_no_history,),
    effect=_record,
)

DECLARATIONS = (QUANT_FP8_DELAYED,)
