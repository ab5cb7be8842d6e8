"""Cases shrink to what a fault needs and no further: predicates stand for faulty kernels."""

from collections.abc import Callable

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies import free_signature, illegal_case, illegal_kinds, legal_case
from oracle.shrink import Shrunk, shrink
from reference.declaration import Binding, Refusal
from reference.dtypes import decode
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Storage, View

Predicate = Callable[[OpCase], bool]
ONES = Fill("ones", 0)


def _values(case: OpCase, name: str) -> np.ndarray:
    view = case.views()[name]
    storage = case.storages[view.storage]
    return decode(view.of(storage.array()), storage.dtype)


def _failing(op: str, fails: Predicate, *, dtype: str = "bfloat16", count: int = 3) -> list[OpCase]:
    """The first drawn cases of some size for which ``fails`` holds."""
    declaration = DECLARATIONS[op]
    signature = free_signature(declaration, dtype)
    cases = (legal_case(declaration, signature, SeededChooser(11, op, i)) for i in range(3000))
    found = [case for case in cases if case.largest_input >= 24 and fails(case)][:count]
    assert len(found) == count
    return found


def _shrunk(op: str, fails: Predicate) -> list[Shrunk]:
    results = [shrink(case, fails, limit=3000) for case in _failing(op, fails)]
    for result in results:
        assert fails(result.case)
        assert isinstance(DECLARATIONS[op].bind(result.case), Binding)
        assert 0 < result.steps <= result.tries < 3000
    return results


def _last_column_of_odd_widths(case: OpCase) -> bool:
    x = _values(case, "x")
    return bool(x.size) and x.shape[-1] % 2 == 1 and bool((x[..., -1] != 0).any())


def _large_value(case: OpCase) -> bool:
    return bool((np.abs(_values(case, "x")) > 2.5).any())


def _large_gate(case: OpCase) -> bool:
    x = _values(case, "x")
    return bool((np.abs(x[..., : x.shape[-1] // 2]) > 2.5).any())


def _transposed(case: OpCase) -> bool:
    view = case.views()["x"]
    sizes, strides = view.shape[-2:], view.strides[-2:]
    return view.numel > 0 and len(sizes) == 2 and min(sizes) > 1 and strides[1] > strides[0] > 0


def _row_stride_ignored(case: OpCase) -> bool:
    view = case.views()["x"]
    return len(view.shape) == 2 and min(view.shape) > 1 and view.strides[0] > view.shape[1]


def _rows_differ(case: OpCase) -> bool:
    x = _values(case, "x")
    return x.ndim == 2 and len(x) > 1 and bool((x[0] != x[1]).any())


def _nan(case: OpCase) -> bool:
    return bool(np.isnan(_values(case, "x")).any())


def _only(shrunk: Shrunk, name: str = "x") -> tuple[tuple[int, ...], tuple[int, ...], list]:
    view = shrunk.case.views()[name]
    return view.shape, view.strides, _values(shrunk.case, name).tolist()


@pytest.mark.parametrize(
    ("op", "fails", "expected"),
    [
        ("rms_norm", _last_column_of_odd_widths, ((1,), (1,), [1.0])),
        ("rms_norm", _large_value, ((1,), (1,), [4.0])),
        ("rms_norm", _transposed, ((2, 2), (1, 2), [[0.0, 0.0], [0.0, 0.0]])),
        ("rms_norm", _rows_differ, ((2, 1), (1, 1), [[0.0], [1.0]])),
        ("silu_and_mul", _large_gate, ((2,), (1,), [4.0, 0.0])),
        ("static_quant_fp8", _last_column_of_odd_widths, ((1,), (1,), [1.0])),
        ("per_token_group_quant_fp8", _transposed, ((2, 2), (1, 2), [[0.0, 0.0], [0.0, 0.0]])),
    ],
)
def test_a_fault_shrinks_to_one_pinned_case(op: str, fails: Predicate, expected: tuple):
    found = [_only(result) for result in _shrunk(op, fails)]
    assert found == [expected] * 3


def test_what_is_plain_elsewhere_is_plain():
    for result in _shrunk("rms_norm", _large_value):
        assert result.case.overload == "default"
        assert result.case.plain() == {"weight": None, "epsilon": 0.0}
        assert [a.name for a in result.case.arguments] == ["x", "weight", "epsilon"]
        assert not any(a.keyword for a in result.case.arguments)
        assert [s.dtype for s in result.case.storages] == ["float32"]


def test_a_nan_stays_where_the_fault_needs_it():
    for result in _shrunk("rms_norm", _nan):
        assert result.case.views()["x"].shape == (1,)
        assert _nan(result.case)


def test_gaps_stay_where_the_fault_needs_them():
    for result in _shrunk("rms_norm", _row_stride_ignored):
        assert result.case.views()["x"].shape == (2, 2)
        assert result.case.largest_input == 4


def test_a_dtype_stays_where_the_fault_needs_it():
    def fails(case: OpCase) -> bool:
        return case.dtype_of("x") == "bfloat16" and case.dtype_of("weight") == "float16"

    for result in _shrunk("rms_norm", fails):
        assert result.case.dtype_of("weight") == "float16"
        assert result.case.largest_input <= 1


def test_sharing_stays_where_the_fault_needs_it():
    def fails(case: OpCase) -> bool:
        views = case.views()
        return views["x"].storage == views["x_residual"].storage and views["x"].numel > 0

    for result in _shrunk("fused_add_rms_norm", fails):
        assert len(result.case.storages) == 1
        assert result.case.views()["x"].shape == (1,)
        assert result.case.views()["x"] == result.case.views()["x_residual"]


def test_an_overload_a_keyword_and_a_scalar_stay_where_the_fault_needs_them():
    def fails(case: OpCase) -> bool:
        epsilon = case.argument("epsilon")
        assert epsilon is not None
        return case.overload == "maybe_inplace" and epsilon.keyword and epsilon.value == 1e-06

    for result in _shrunk("rms_norm", fails):
        assert result.case.overload == "maybe_inplace"
        assert result.case.form.keywords == ("epsilon",)
        assert result.case.plain()["epsilon"] == 1e-06


def test_variance_size_shrinks_with_the_width():
    def fails(case: OpCase) -> bool:
        size = case.plain().get("variance_size")
        return isinstance(size, int) and size < case.views()["x"].shape[-1]

    for result in _shrunk("rms_norm", fails):
        assert result.case.plain()["variance_size"] == 1
        assert result.case.views()["x"].shape[-1] == 2


def test_rotary_shrinks_heads_rows_and_cache_together():
    def fails(case: OpCase) -> bool:
        return (
            case.plain()["is_neox"] is True
            and "x_key" in case.views()
            and bool((_values(case, "positions") > 2).any())
        )

    for result in _shrunk("rotary_embedding", fails):
        views = result.case.views()
        assert views["x_key"].shape == views["x_query"].shape == (1, 2)
        assert result.case.plain() == {"head_size": 2, "is_neox": True}
        assert _values(result.case, "positions").tolist() == [3.0]
        assert views["cos_sin_cache"].shape == (4, 2)


def test_partial_rotary_keeps_the_part_that_is_not_rotated():
    def fails(case: OpCase) -> bool:
        part = case.plain().get("rotary_dim")
        size = case.plain()["head_size"]
        return isinstance(part, int) and isinstance(size, int) and part < size

    for result in _shrunk("rotary_embedding", fails):
        assert result.case.plain()["head_size"] == 4
        assert result.case.plain()["rotary_dim"] == 2


def test_illegal_cases_keep_their_refusal():
    for op, declaration in DECLARATIONS.items():
        for i, kind in enumerate(illegal_kinds(declaration)):
            case = illegal_case(declaration, SeededChooser(i, op), kind=kind)
            result = shrink(case, lambda _: True, limit=400)
            refusal = declaration.bind(result.case)
            assert isinstance(refusal, Refusal)
            assert refusal == declaration.bind(case)
            assert result.case.largest_input <= 16


def test_a_case_of_a_real_shape_shrinks_in_few_tries():
    case = OpCase(
        "rms_norm",
        (Storage("bfloat16", 64 * 4096, Fill("normal", 3)), Storage("bfloat16", 4096, ONES)),
        (
            Argument("x", View(0, (64, 4096), (4096, 1))),
            Argument("weight", View(1, (4096,), (1,))),
            Argument("epsilon", 1e-5),
        ),
    )
    result = shrink(case, lambda c: bool((_values(c, "x") > 3.2).any()), limit=300)
    assert _only(result) == ((1,), (1,), [4.0])


def test_the_limit_bounds_the_tries_and_no_case_is_tried_twice():
    case = _failing("rms_norm", _large_value, count=1)[0]
    asked: list[OpCase] = []

    def record(candidate: OpCase) -> bool:
        asked.append(candidate)
        return False

    assert shrink(case, record, limit=7) == Shrunk(case, 7, 0)
    assert len(asked) == 7
    asked.clear()
    full = shrink(case, record, limit=10_000)
    assert full.tries == len(asked) == len(set(asked)) < 10_000
    assert shrink(case, lambda _: True, limit=0) == Shrunk(case, 0, 0)


def test_a_narrower_cache_row_still_holds_cosines_then_sines():
    case = OpCase(
        "rotary_embedding",
        (
            Storage("int64", 1, Fill("zeros", 0)),
            Storage("float32", 8, Fill("ramp", 0)),
            Storage("float32", 8, Fill("ramp", 0)),
        ),
        (
            Argument("positions", View(0, (1,), (1,))),
            Argument("x_query", View(1, (1, 8), (8, 1))),
            Argument("x_key", None),
            Argument("head_size", 8),
            Argument("cos_sin_cache", View(2, (1, 8), (8, 1))),
            Argument("is_neox", True),
        ),
    )

    def fails(candidate: OpCase) -> bool:
        row = _values(candidate, "cos_sin_cache")[0]
        return row[0] == 1 / 8 and row[len(row) // 2] == 5 / 8

    result = shrink(case, fails, limit=500)
    assert _values(result.case, "cos_sin_cache").tolist() == [[1 / 8, 5 / 8]]
    assert result.case.plain()["head_size"] == 2
