"""One factor of the key at a time: what a trace can depend on tells keys apart, no more does."""

from typing import Any

import pytest
import torch
import torch._inductor.config
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from ir.compilation.key import Unkeyable, ambient, make_key
from ir.op import register_op
from ir.ops.layernorm import rms_norm

NATIVE = rms_norm.impls["native"]
MODE = FakeTensorMode()


def fake(shape: Any = (4, 8), strides: Any = None, **options: Any) -> torch.Tensor:
    with MODE:
        if strides is None:
            return torch.empty(shape, **options)
        return torch.empty_strided(shape, strides, **options)


def key(*args: Any, overload: str = "default", decomposed: int = 0) -> Any:
    return make_key(NATIVE, overload, args, ambient=ambient(), decomposed=decomposed)


def test_equal_metadata_gives_equal_keys():
    assert key(fake(), fake((8,)), 1e-5, None) == key(fake(), fake((8,)), 1e-5, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"shape": (5, 8)}, id="shape"),
        pytest.param({}, {"dtype": torch.bfloat16}, id="dtype"),
        pytest.param({}, {"strides": (1, 4)}, id="strides"),
        pytest.param({}, {"device": "meta"}, id="device"),
    ],
)
def test_metadata_of_a_tensor_counts(one: dict[str, Any], other: dict[str, Any]):
    assert key(fake(**one), None, 1e-5) != key(fake(**other), None, 1e-5)


def test_the_offset_counts():
    with MODE:
        base = torch.empty(5, 8)
    assert key(base[:4]) != key(base[1:])


def test_which_arguments_are_one_tensor_counts():
    x = fake()
    assert key(x, x) != key(x, fake())


def test_which_arguments_share_a_storage_counts():
    x = fake()
    with MODE:
        view = x.view(4, 8)
    assert key(x, view) != key(x, fake())
    assert key(x, view) != key(x, x)


PLAIN = [
    None, True, 1, 1.0, False, 0, 0.0, -0.0, float("inf"), "1", [1], (1,), [1.0], [True], [None],
    [], torch.float32, torch.device("cpu"), 1j,
]  # fmt: skip


def test_plain_arguments_count_by_type_and_value():
    keys = [key(fake(), None, v) for v in PLAIN]
    assert len(set(keys)) == len(PLAIN)


@pytest.mark.parametrize("value", [float("nan"), 1e-5, [1, 2.0, None]])
def test_a_plain_argument_equals_itself(value: Any):
    assert key(value) == key(value)


def test_the_decompositions_count():
    assert key(1) != key(1, decomposed=1)


@pytest.mark.parametrize("writes", [True, False])
def test_the_overload_counts_where_the_provider_writes(op_name, writes: bool):
    def native(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    op = register_op(name=op_name(), allow_inplace=True)(native)
    impl = op.register_impl("mine", inplace=writes)(native)
    keys = {
        make_key(impl, overload, (fake(),), ambient=ambient())
        for overload in ("default", "maybe_inplace")
    }
    assert len(keys) == 1 + writes


def test_the_default_dtype_counts():
    before = key(fake())
    torch.set_default_dtype(torch.float64)
    try:
        assert key(fake(dtype=torch.float32)) != before
    finally:
        torch.set_default_dtype(torch.float32)


def test_autocast_counts_with_its_dtype():
    keys = {key(fake())}
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            keys.add(key(fake()))
    assert len(keys) == 3


def test_grad_and_inference_mode_count():
    keys = {key(fake())}
    with torch.no_grad():
        keys.add(key(fake()))
    with torch.inference_mode():
        keys.add(key(fake()))
    assert len(keys) == 3


def test_deterministic_mode_counts():
    before = key(fake())
    torch.use_deterministic_algorithms(True)
    try:
        assert key(fake()) != before
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_no_key_can_hold_is_refused_with_a_reason():
    with pytest.raises(Unkeyable, match="argument-of-type-object"):
        key(object())
    with pytest.raises(Unkeyable, match="tensor-of-type-Tensor"):
        key(torch.empty(1))


def symbolic(env: ShapeEnv, *shape: int) -> FakeTensor:
    mode = FakeTensorMode(shape_env=env)
    context = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC] * len(shape))
    return mode.from_tensor(torch.empty(shape), symbolic_context=context)


def test_symbols_count_by_place_not_by_name():
    env, later = ShapeEnv(), ShapeEnv()
    symbolic(later, 11, 13)
    one, other = symbolic(env, 4, 8), symbolic(later, 5, 9)
    assert key(one) == key(other)


def test_a_known_fact_about_a_symbol_counts():
    env = ShapeEnv()
    x = symbolic(env, 4, 8)
    before = key(x)
    assert x.shape[0] % 4 == 0
    assert key(x) != before


def test_equal_and_unequal_symbols_give_different_keys():
    x = symbolic(ShapeEnv(), 4, 8)
    square = x.new_empty((x.shape[0], x.shape[0]))
    assert key(x) != key(square)


def test_keeping_every_rounding_counts():
    before = key(fake())
    with torch._inductor.config.patch(emulate_precision_casts=True):
        assert key(fake()) != before
