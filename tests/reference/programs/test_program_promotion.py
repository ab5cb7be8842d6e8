"""The promotion table is torch's, not NumPy's."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from reference.programs.answers import NotKnown
from reference.programs.promotion import can_store, dtype_of_number, promoted, result_dtype

DTYPES = (
    "bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64",
)  # fmt: skip
NUMBERS = (True, 1, 1.0)


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("a", DTYPES)
def test_two_tensors_give_the_dtype_that_torch_gives(a) -> None:
    for b, i, j in product(DTYPES, (0, 1), (0, 1)):
        x = torch.ones((2,) * i, dtype=getattr(torch, a))
        y = torch.ones((2,) * j, dtype=getattr(torch, b))
        with_dimensions, without = (
            [d for d, r in ((a, i), (b, j)) if r == rank] for rank in (1, 0)
        )
        assert (b, i, j, result_dtype(with_dimensions, without, [])) == (
            b,
            i,
            j,
            name(torch.result_type(x, y)),
        )


@pytest.mark.parametrize("a", DTYPES)
def test_a_tensor_and_a_number_give_the_dtype_that_torch_gives(a) -> None:
    for number, rank in product(NUMBERS, (0, 1)):
        x = torch.ones((2,) * rank, dtype=getattr(torch, a))
        found = result_dtype([a] * rank, [a] * (1 - rank), [dtype_of_number(number)])
        assert (number, rank, found) == (number, rank, name(torch.result_type(x, number)))


@pytest.mark.parametrize("a", DTYPES)
def test_a_result_is_stored_where_torch_can_cast_it(a) -> None:
    for b in DTYPES:
        wanted = torch.can_cast(getattr(torch, a), getattr(torch, b))
        assert (b, can_store(a, b)) == (b, wanted)


def test_float16_and_int64_is_float16() -> None:
    assert result_dtype(["float16", "int64"], [], []) == "float16"


@pytest.mark.parametrize("pair", [("float8_e4m3fn", "float32"), ("float32", "float8_e4m3fn")])
def test_fp8_has_no_arithmetic(pair) -> None:
    with pytest.raises(NotKnown, match="dtype-without-arithmetic"):
        promoted(*pair)
    assert not can_store(*pair)


def test_nothing_has_no_dtype() -> None:
    with pytest.raises(NotKnown, match="no-operand"):
        result_dtype([], [], [])
