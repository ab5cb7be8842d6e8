"""Registration: what an op and a provider may be, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ir.errors import InputError, RegistrationError
from ir.op import RESERVED_PROVIDERS, IrOp, IrOpImpl, register_op

Names = Callable[[], str]


def _scale(x: Tensor, factor: float = 2.0) -> Tensor:
    """Multiply.

    More.
    """
    return x * factor


def _scale_pair(x: Tensor, x_key: Tensor | None, factor: float = 2.0) -> tuple[Tensor, Tensor]:
    key = x.new_empty(0) if x_key is None else x_key * factor
    return x * factor, key


def test_an_op_is_a_torch_op_in_the_namespace_ir(op_name: Names) -> None:
    name = op_name()
    op = register_op(name=name, allow_inplace=True)(_scale)
    assert IrOp.registry[name] is op
    assert op.torch_op is getattr(torch.ops.ir, name).default
    assert op.maybe_inplace.torch_op is getattr(torch.ops.ir, name).maybe_inplace
    assert str(op.torch_op._schema) == f"ir::{name}(Tensor x, float factor=2.) -> Tensor"
    assert str(op.maybe_inplace.torch_op._schema) == (
        f"ir::{name}.maybe_inplace(Tensor(a0!) x, float factor=2.) -> Tensor"
    )
    for torch_op in (op.torch_op, op.maybe_inplace.torch_op):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(
            torch_op.name(), "CompositeExplicitAutograd"
        )


def test_an_op_takes_the_name_and_the_words_of_its_native() -> None:
    try:

        @register_op
        def named_after_its_native(x: Tensor) -> Tensor:
            """What it means."""
            return x + 1

        assert named_after_its_native.name == "named_after_its_native"
        assert named_after_its_native.__doc__ == "What it means."
        assert repr(named_after_its_native) == "IrOp('named_after_its_native')"
        assert torch.equal(torch.ops.ir.named_after_its_native(torch.zeros(2)), torch.ones(2))
    finally:
        IrOp.registry.pop("named_after_its_native", None)


def test_activations_are_the_parameters_that_start_with_x(op_name: Names) -> None:
    op = register_op(name=op_name(), allow_inplace=True)(_scale_pair)
    assert op.activations == ["x", "x_key"]
    assert op.activation_indices == (0, 1)
    assert "Tensor(a1!)? x_key" in str(op.maybe_inplace.torch_op._schema)


def test_an_op_that_does_not_allow_inplace_has_no_such_overload(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    assert not hasattr(op, "maybe_inplace")
    with pytest.raises(RegistrationError, match="does not allow it"):
        op.register_impl("a", inplace=True)(_scale)


def test_an_op_is_registered_once(op_name: Names) -> None:
    name = op_name()
    register_op(name=name)(_scale)
    with pytest.raises(RegistrationError, match=f"op '{name}' is already registered"):
        register_op(name=name)(_scale)


@pytest.mark.parametrize("name", ["Upper", "1st", "a-b", "", "a b"])
def test_a_name_that_torch_could_not_show_is_refused(name: str, op_name: Names) -> None:
    with pytest.raises(RegistrationError, match="op name is"):
        register_op(name=name)(_scale)
    op = register_op(name=op_name())(_scale)
    with pytest.raises(RegistrationError, match="provider name is"):
        op.register_impl(name)


def test_keyword_only_parameters_are_refused(op_name: Names) -> None:
    def native(x: Tensor, *, factor: float = 2.0) -> Tensor:
        return x * factor

    with pytest.raises(RegistrationError, match="no keyword-only parameters"):
        register_op(name=op_name())(native)


@pytest.mark.parametrize("what", ["activations", "token_args"])
def test_unknown_parameters_are_refused(what: str, op_name: Names) -> None:
    with pytest.raises(RegistrationError, match=rf"{what} is \['y'\]; accepted: names among"):
        register_op(name=op_name(), **{what: ["y"]})(_scale)  # type: ignore[call-overload]


def test_inplace_needs_an_output_for_each_activation(op_name: Names) -> None:
    def native(x: Tensor, x_residual: Tensor) -> Tensor:
        return x + x_residual

    with pytest.raises(RegistrationError, match="one Tensor for each"):
        register_op(name=op_name(), allow_inplace=True)(native)


def test_a_provider_needs_the_schema_of_the_op(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)

    def other_default(x: Tensor, factor: float = 3.0) -> Tensor:
        return x * factor

    def keyword_only(x: Tensor, *, factor: float = 2.0) -> Tensor:
        return x * factor

    for wrong in (other_default, keyword_only):
        with pytest.raises(RegistrationError, match="has schema"):
            op.register_impl("a")(wrong)
    assert list(op.impls) == ["native"]


def test_supports_args_needs_the_parameters_of_the_op(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    wrong: list[Any] = [
        lambda x: True,
        lambda x, factor: True,
        lambda x, factor=3.0: True,
        lambda y, factor=2.0: True,
        lambda x, *, factor=2.0: True,
        True,
    ]
    for i, supports_args in enumerate(wrong):
        with pytest.raises(RegistrationError, match="supports_args"):
            op.register_impl(f"wrong_{i}", supports_args=supports_args)(_scale)
    good = op.register_impl("good", supports_args=lambda x, factor=2.0: x.dim() == 1)(_scale)
    assert not good.supports_all_args
    assert good.supports_args(torch.zeros(2))
    assert not good.supports_args(x=torch.zeros(2, 2))


@pytest.mark.parametrize("provider", RESERVED_PROVIDERS)
def test_reserved_names_are_refused(provider: str, op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    with pytest.raises(RegistrationError, match="reserved"):
        op.register_impl(provider)
    with pytest.raises(RegistrationError, match="cannot unregister"):
        op.unregister_impl(provider)


def test_registering_twice_raises_and_changes_nothing(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    first = op.register_impl("a")(_scale)
    generation = op.generation
    with pytest.raises(RegistrationError, match="already registered"):
        op.register_impl("a")(lambda x, factor=2.0: x)
    assert op.impls["a"] is first
    assert op.generation == generation


def test_every_change_of_providers_bumps_the_generation(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    seen = [op.generation]
    op.register_impl("a")(_scale)
    seen.append(op.generation)
    replaced = op.register_impl("a", replace=True)(_scale)
    seen.append(op.generation)
    assert op.impls["a"] is replaced
    op.unregister_impl("a")
    seen.append(op.generation)
    assert list(op.impls) == ["native"]
    assert seen == [0, 1, 2, 3]


def test_extras_of_a_provider_are_kept(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    impl = op.register_impl(
        "a", contract="other/1", depends_on=["torch"], compilable=True, supported=False
    )(_scale)
    assert isinstance(impl, IrOpImpl)
    assert impl is op.impls["a"]
    assert (impl.op, impl.provider, impl.impl_fn) == (op, "a", _scale)
    assert (impl.contract, impl.depends_on) == ("other/1", ("torch",))
    assert impl.compilable
    assert not impl.supported
    assert op.supported_providers() == ["native"]
    assert op.impls["native"].compilable
    assert not op.register_impl("b")(_scale).compilable


def test_depends_on_is_a_list(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    with pytest.raises(RegistrationError, match=r"accepted: a list, \['torch'\]"):
        op.register_impl("a", depends_on="torch")


def test_arguments_get_the_defaults_of_native(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale_pair)
    x = torch.zeros(1)
    assert op.apply_arg_defaults((x, None)) == (x, None, 2.0)
    assert op.apply_arg_defaults((x, None, 3.0)) == (x, None, 3.0)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "misses the argument 'x'"),
        ((1, 2, 3, 4), {}, "takes 3 arguments, got 4"),
        ((1,), {"x_key": 2, "y": 3}, r"\['y'\]"),
        ((1, 2), {"x": 3}, r"\['x'\]"),
    ],
)
def test_a_wrong_call_raises_as_python_does(
    args: tuple[int, ...], kwargs: dict[str, int], message: str, op_name: Names
) -> None:
    op = register_op(name=op_name())(_scale_pair)
    with pytest.raises(TypeError, match=message):
        op.positional(args, kwargs)


def test_inputs_come_from_the_registered_generator(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    assert not op.has_input_generator
    with pytest.raises(RegistrationError, match="register_input_generator"):
        op.generate_inputs(n=3)

    @op.register_input_generator
    def generate(n: int) -> tuple[Tensor, float]:
        return torch.zeros(n), 1.0

    assert op.has_input_generator
    assert op.generate_inputs(n=3)[0].shape == (3,)


def test_tolerances_are_the_defaults_until_overridden(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    assert op.get_tolerance(torch.bfloat16) == {"atol": 1e-3, "rtol": 1.6e-2}
    op.override_tolerance(torch.bfloat16, atol=1.0, rtol=0.5)
    assert op.get_tolerance(torch.bfloat16) == {"atol": 1.0, "rtol": 0.5}
    with pytest.raises(ValueError, match=r"no tolerance for torch\.int64"):
        op.get_tolerance(torch.int64)


_KERNEL_FILE = """
import torch
from torch import Tensor
from ir import ops
import ir

supported = torch.zeros(1).device.type == "cpu"
no_variance = lambda x, weight, epsilon, variance_size=None: variance_size is None

@ops.rms_norm.register_impl("kernels_lib", supports_args=no_variance, supported=supported)
def rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return ops.rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)

@ir.ops.fused_add_rms_norm.register_impl(
    "kernels_lib", supports_args=lambda x, x_residual, weight, epsilon, variance_size=None: True,
    supported=supported, inplace=True,
)
def fused_add_rms_norm(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    y, residual = ir.ops.fused_add_rms_norm.impls["native"].impl_fn(
        x, x_residual, weight, epsilon, variance_size
    )
    x.copy_(y)
    x_residual.copy_(residual)
    return x, x_residual
"""


def test_a_kernel_file_written_for_vllm_ir_registers() -> None:
    from ir import ops

    try:
        exec(compile(_KERNEL_FILE, "<kernels>", "exec"), {"__name__": "kernels"})
        x, weight = torch.randn(4, 8), torch.randn(8)
        want = ops.rms_norm(x, weight, 1e-5)
        with ops.rms_norm.set_priority(["kernels_lib", "native"]):
            assert ops.rms_norm.dispatch(x, weight, 1e-5).provider == "kernels_lib"
            assert ops.rms_norm.dispatch(x, weight, 1e-5, 4).provider == "native"
            assert torch.equal(ops.rms_norm(x, weight, 1e-5), want)
        a, b = torch.randn(4, 8), torch.randn(4, 8)
        kept = a.clone()
        with ops.fused_add_rms_norm.set_priority(["kernels_lib"]):
            ops.fused_add_rms_norm(a, b, weight, 1e-5)
            assert torch.equal(a, kept)
            y, _ = ops.fused_add_rms_norm.maybe_inplace(a, b, weight, 1e-5)
            assert y.data_ptr() == a.data_ptr()
    finally:
        for op in (ops.rms_norm, ops.fused_add_rms_norm):
            if "kernels_lib" in op.impls:
                op.unregister_impl("kernels_lib")


def test_validation_needs_the_parameters_of_the_op(op_name: Names) -> None:
    op = register_op(name=op_name())(_scale)
    with pytest.raises(RegistrationError, match="validation"):
        op.register_validation(lambda x: None)

    @op.register_validation
    def check(x: Tensor, factor: float = 2.0) -> None:
        if factor < 0:
            raise InputError(op.name, "factor", factor, "a number >= 0")

    with pytest.raises(InputError, match=r"factor is -1\.0; accepted: a number >= 0"):
        op(torch.zeros(1), -1.0)
