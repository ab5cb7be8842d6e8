"""What the cases of `numerics` reach."""

import numpy as np
import pytest

from fuzz.strategies.contents import with_large_last_column
from oracle.properties.numerics import BEYOND, streams
from reference.declaration import Refusal
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Storage, View

ROWWISE = [
    op
    for op, declaration in DECLARATIONS.items()
    if not declaration.states and any(d.role in ("width", "groups") for d in declaration.dims)
]
DTYPES = ("float32", "float16", "bfloat16")


def beyond(op: str, dtype: str) -> list[OpCase]:
    (stream,) = [s for s in streams(op, dtype) if s.name == "beyond"]
    return [stream.case(0, i) for i in range(stream.count)]


@pytest.mark.parametrize("op", ROWWISE)
def test_a_quick_run_meets_more_rows_and_columns_than_blocks_hold(op: str):
    declaration = DECLARATIONS[op]
    shapes = []
    for dtype in DTYPES:
        for case in beyond(op, dtype):
            assert not isinstance(declaration.bind(case), Refusal)
            shapes.append(case.views()[declaration.dtype_parameter].shape)
    assert {rows for rows, _ in shapes} == {rows for rows, _ in BEYOND}
    assert max(columns for _, columns in shapes) > 8192


def test_what_is_made_larger_is_the_last_column_alone():
    storage = Storage("float32", 6, Fill("ramp", 0))
    case = OpCase("silu_and_mul", (storage,), (Argument("x", View(0, (3, 2), (2, 1))),))
    made = with_large_last_column(case, "x").storages[0].array().reshape(3, 2)
    before = storage.array().reshape(3, 2)
    assert made.tolist() == np.stack([before[:, 0], before[:, 1] * 4], axis=1).tolist()
