"""Ops of the IR in programs: intervals, what was observed, what is given away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference.declaration import Refusal
from reference.dtypes import encode
from reference.expectation import Unknown
from reference.model import Fill, ProgramCase, ProgramStep, Storage, Value, View
from reference.programs import METADATA_ONLY, Asked, ExpectedProgram, expect_program

v = Value


def step(target: str, *operands, results: int = 1, **keywords) -> ProgramStep:
    return ProgramStep(target, operands, tuple(keywords.items()), results)


NORM = step("ir.rms_norm.default", v(0), None, 1e-5)
GIVEN = step("ir.rms_norm.maybe_inplace", v(0), None, 1e-5)


def program(*steps: ProgramStep, outputs: tuple[int, ...] = (), dtype: str = "float32", **changes):
    case = ProgramCase(
        storages=(Storage(dtype, 8, Fill("ramp", 1)), Storage(dtype, 8, Fill("dyadic", 2))),
        tensors=(View(0, (2, 3), (4, 1), 1), View(1, (2, 3), (3, 1))),
        inputs=(0, 1),
        steps=steps,
        outputs=outputs,
    )
    return replace(case, **changes)


def expected(case: ProgramCase, **options) -> ExpectedProgram:
    found = expect_program(case, **options)
    assert isinstance(found, ExpectedProgram)
    return found


def test_a_call_is_expected_in_the_interval_of_its_contract() -> None:
    (call,) = expected(program(NORM, outputs=(2,))).calls
    assert (call.step, call.op, call.overload) == (0, "rms_norm", "default")
    assert call.contract == "rms_norm/1"
    (output,) = call.outputs
    x = (np.arange(8) % 64 + 1.0) / 8
    rows = np.stack([x[1:4], x[5:8]])
    exact = rows / np.sqrt((rows * rows).mean(axis=1, keepdims=True) + 1e-5)
    assert (output.interval.lo <= exact + 1e-6).all()
    assert (output.interval.hi >= exact - 1e-6).all()


def test_the_program_goes_on_with_what_was_observed() -> None:
    case = program(NORM, step("aten.add.Tensor", v(2), 1.0), outputs=(3,))
    seen = np.arange(6, dtype=np.float32).reshape(2, 3)
    (output,) = expected(case, observed={0: (seen,)}).outputs
    assert np.frombuffer(output.content, np.float32).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_sum_of_what_was_observed_is_rounded_once() -> None:
    case = program(NORM, step("aten.add.Tensor", v(2), v(1)), outputs=(3,))
    seen = np.full((2, 3), 1 + 2.0**-23, np.float32)
    other = np.full(8, 2.0**-24, np.float32)
    case = replace(case, storages=(case.storages[0], Storage("float32", 8, other.tobytes())))
    (output,) = expected(case, observed={0: (seen,)}).outputs
    assert set(np.frombuffer(output.content, np.float32)) == {np.float32(1 + 2.0**-22)}


@pytest.mark.parametrize(
    "seen",
    [
        (),
        (np.zeros((3, 2), np.float32),),
        (np.zeros((2, 3), np.float16),),
    ],
    ids=["count", "shape", "dtype"],
)
def test_an_observation_of_another_form_stops_the_reference(seen) -> None:
    found = expect_program(program(NORM), observed={0: seen})
    assert found == Unknown("observation-does-not-fit")


def test_an_observation_that_is_not_finite_stops_the_reference() -> None:
    seen = np.full((2, 3), np.inf, np.float32)
    assert expect_program(program(NORM), observed={0: (seen,)}) == Unknown("not-finite")


def test_what_is_given_away_is_not_used_again() -> None:
    for later in (
        step("aten.view.default", v(0), (-1,)),
        step("aten.add.Tensor", v(1), v(0)),
        step("aten.zero_.default", v(0)),
        step("aten.cat.default", (v(1), v(0))),
    ):
        assert expect_program(program(GIVEN, later)) == Unknown("given-away")
    assert expect_program(program(GIVEN, outputs=(0,))) == Unknown("given-away")
    around = step("aten.as_strided.default", v(0), (8,), (1,), 0)
    use = step("aten.neg.default", v(2))
    assert expect_program(program(around, step(*_as(GIVEN)), use)) == Unknown("given-away")
    beside = step("aten.as_strided.default", v(0), (1,), (1,), 0)
    kept = program(beside, GIVEN, step("aten.neg.default", v(2)), outputs=(4,))
    assert isinstance(expect_program(kept), ExpectedProgram)


def _as(call: ProgramStep):
    return call.target, *call.operands


def test_only_elements_given_away_may_hold_anything() -> None:
    found = expected(program(GIVEN, outputs=(2,)))
    free = found.storages[0].free
    assert free is not None
    assert free.tolist() == [False, True, True, True, False, True, True, True]
    assert found.storages[1].free is None
    assert [s.given for s in found.storages] == [True, False]


def test_an_output_may_lie_where_its_activation_lay() -> None:
    found = expected(program(GIVEN, step("aten.neg.default", v(1)), outputs=(2, 3)))
    assert found.sharing_with_storage(0, 0) == "may"
    assert found.sharing_with_storage(0, 1) == "never"
    assert found.sharing(0, 1) == "never"


def test_through_two_calls_an_output_may_lie_where_the_first_activation_lay() -> None:
    second = step("ir.rms_norm.maybe_inplace", v(2), None, 1e-5)
    found = expected(program(GIVEN, second, outputs=(3,)))
    assert 0 in found.outputs[0].shares
    assert found.outputs[0].storage == 2


def test_outputs_of_one_call_share_where_their_activations_did() -> None:
    fused = step("ir.fused_add_rms_norm.maybe_inplace", v(0), v(1), None, 1e-5, results=2)
    apart = expected(program(fused, outputs=(2, 3)))
    assert apart.sharing(0, 1) == "never"
    views = (View(0, (1, 3), (3, 1)), View(0, (1, 3), (3, 1), 3))
    together = expected(program(fused, outputs=(2, 3), tensors=views))
    assert together.sharing(0, 1) == "may"
    assert together.sharing(1, 0) == "may"


def test_a_donated_input_may_hold_any_output() -> None:
    case = program(step("aten.clone.default", v(0)), outputs=(2,), donated=(0,))
    assert expected(case).sharing_with_storage(0, 0) == "may"
    assert expected(replace(case, donated=())).sharing_with_storage(0, 0) == "never"
    assert expected(replace(case, outputs=(0,))).sharing_with_storage(0, 0) == "must"


def test_of_empty_outputs_nobody_can_tell() -> None:
    empty = step("aten.slice.Tensor", v(0), 0, 0, 0)
    found = expected(program(empty, outputs=(2, 0)))
    assert (found.sharing(0, 1), found.sharing_with_storage(0, 0)) == ("may", "may")


def test_a_default_written_out_changes_nothing() -> None:
    short = step("ir.rms_norm.default", v(0), epsilon=1e-5, weight=None)
    long = step("ir.rms_norm.default", v(0), None, 1e-5, variance_size=None)
    (a,), (b,) = expected(program(short)).calls, expected(program(long)).calls
    assert (a.outputs[0].interval.lo == b.outputs[0].interval.lo).all()


def test_another_contract_is_asked_where_it_is_of_the_op() -> None:
    weighted = step("ir.rms_norm.default", v(0), v(1), 1e-5)
    case = program(weighted, tensors=(View(0, (2, 3), (3, 1)), View(1, (3,), (1,))))
    (call,) = expected(case, asked=Asked(contract="rms_norm/fp32-weight")).calls
    assert call.contract == "rms_norm/fp32-weight"
    (call,) = expected(case, asked=Asked(contract="silu_and_mul/1", rounding="optional")).calls
    assert call.contract == "rms_norm/1"


def test_without_intervals_the_metadata_is_the_same() -> None:
    quantized = step("ir.dynamic_per_token_quant_fp8.default", v(0), results=2)
    case = program(quantized, GIVEN, outputs=(2, 3, 4), dtype="bfloat16")
    with_values, without = expected(case), expected(case, asked=METADATA_ONLY)
    assert without.calls == ()
    for a, b in zip(with_values.outputs, without.outputs, strict=True):
        assert (a.dtype, a.shape, a.strides, a.shares) == (b.dtype, b.shape, b.strides, b.shares)


def test_without_intervals_the_same_is_refused() -> None:
    wrong = step("ir.rms_norm.default", v(0), None, -1.0)
    assert expect_program(program(wrong), asked=METADATA_ONLY) == expect_program(program(wrong))
    assert isinstance(expect_program(program(wrong)), Refusal)


def test_fp8_is_copied_and_widened_and_nothing_else() -> None:
    x = np.zeros(8, np.float32)
    x[:] = 2
    scale = Storage("float32", 1, encode(np.ones(1), "float32").tobytes())
    case = ProgramCase(
        storages=(Storage("float32", 8, x.tobytes()), scale),
        tensors=(View(0, (2, 4), (4, 1)), View(1, (), ())),
        inputs=(0, 1),
        steps=(step("ir.static_quant_fp8.default", v(0), v(1)), step("aten.clone.default", v(2))),
        outputs=(3,),
    )
    (output,) = expected(case).outputs
    assert (output.dtype, output.content) == ("float8_e4m3fn", b"\x40" * 8)
    added = replace(case, steps=(*case.steps, step("aten.add.Tensor", v(3), v(3))))
    assert expect_program(added) == Unknown("dtype-without-arithmetic")
    for use in (
        step("aten.sum.dim_IntList", v(3), (0,)),
        step("aten.amax.default", v(3), (0,)),
        step("aten.aminmax.default", v(3), dim=0, results=2),
        step("aten.fill_.Scalar", v(3), 1),
        step("aten.bmm.default", v(4), v(4)),
    ):
        square = step("aten.view.default", v(2), (2, 2, 2))
        used = replace(case, steps=(*case.steps, square, use))
        assert expect_program(used) == Unknown("dtype-without-arithmetic")


def test_a_layout_that_is_free_is_unknown() -> None:
    overlapping = program(NORM, tensors=(View(0, (2, 3), (1, 1)), View(1, (2, 3), (3, 1))))
    assert expect_program(overlapping) == Unknown("layout-is-free")


def test_a_call_that_is_unknown_to_its_contract_is_unknown() -> None:
    case = ProgramCase(
        storages=(
            Storage("int64", 1, np.array([3]).tobytes()),
            Storage("float32", 8, Fill("dyadic", 2)),
        ),
        tensors=(View(0, (1,), (1,)), View(1, (1, 4), (4, 1)), View(1, (2, 4), (4, 1))),
        inputs=(0, 1, 2),
        steps=(step("ir.rotary_embedding.default", v(0), v(1), None, 4, v(2), True, results=2),),
        outputs=(),
    )
    assert expect_program(case) == Unknown("positions-out-of-range")
