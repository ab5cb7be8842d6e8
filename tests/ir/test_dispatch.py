"""Which provider serves a call, and that every call form reaches it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ir.errors import InputError, PriorityError
from ir.op import IrOp, enable_torch_wrap, register_op

Names = Callable[[], str]
MODES = ["wrapped", "unwrapped", "compiled wrapped", "compiled unwrapped"]


@pytest.fixture
def op(op_name: Names) -> IrOp:
    """Adds `bias` to its activations; its providers differ by what else they add."""

    @register_op(name=op_name(), allow_inplace=True)
    def native(
        x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        return x * scale + bias, x.new_empty(0) if x_key is None else x_key * scale + bias

    @native.register_validation
    def check(x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0) -> None:
        if scale < 0:
            raise InputError(native.name, "scale", scale, "a number >= 0")

    @native.register_impl("hundred", supports_args=lambda x, x_key, bias, scale=1.0: bias < 10)
    def hundred(
        x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        key = x.new_empty(0) if x_key is None else x_key * scale + bias + 100
        return x * scale + bias + 100, key

    @native.register_impl("inplace", inplace=True)
    def inplace(
        x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        x.mul_(scale).add_(bias)
        if x_key is None:
            return x, x.new_empty(0)
        x_key.mul_(scale).add_(bias)
        return x, x_key

    @native.register_impl("absent", supported=False)
    def absent(
        x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        raise AssertionError("not for this machine")

    return native


def _call(op: IrOp, mode: str, overload: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target = op if overload == "default" else op.maybe_inplace

    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return target(*args, **kwargs)

    torch._dynamo.reset()
    with enable_torch_wrap(mode.endswith(" wrapped") or mode == "wrapped"):
        if mode.startswith("compiled"):
            return torch.compile(run, fullgraph=True, backend="aot_eager")(args, kwargs)
        return run(args, kwargs)


_FORMS: list[Callable[[Tensor, Tensor | None], tuple[tuple[Any, ...], dict[str, Any]]]] = [
    lambda x, key: ((x, key, 1.0, 1.0), {}),
    lambda x, key: ((x, key, 1.0), {}),
    lambda x, key: ((x, key), {"bias": 1.0}),
    lambda x, key: ((x,), {"bias": 1.0, "x_key": key}),
    lambda x, key: ((), {"scale": 1.0, "bias": 1.0, "x_key": key, "x": x}),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
@pytest.mark.parametrize("provider", ["native", "hundred", "inplace"])
@pytest.mark.parametrize("has_key", [True, False])
def test_every_call_form_means_the_same_with_every_provider(
    mode: str, overload: str, provider: str, has_key: bool, op: IrOp
) -> None:
    want = 101.0 if provider == "hundred" else 1.0
    for form in _FORMS:
        x, key = torch.zeros(2, 3), torch.zeros(2, 5) if has_key else None
        args, kwargs = form(x, key)
        with op.set_priority([provider]):
            got, got_key = _call(op, mode, overload, args, kwargs)
        assert torch.equal(got, torch.full((2, 3), want))
        assert torch.equal(got_key, torch.full((2, 5), want) if has_key else torch.empty(0))
        if overload == "default":
            assert torch.equal(x, torch.zeros(2, 3))
            assert key is None or torch.equal(key, torch.zeros(2, 5))


@pytest.mark.parametrize("wrap", [True, False])
def test_maybe_inplace_gives_a_provider_the_activations_themselves(op: IrOp, wrap: bool) -> None:
    x = torch.zeros(3)
    with op.set_priority(["inplace"]), enable_torch_wrap(wrap):
        got, _ = op.maybe_inplace(x=x, x_key=None, bias=1.0)
    assert got.data_ptr() == x.data_ptr()
    assert torch.equal(x, torch.ones(3))


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("provider", ["native", "hundred", "inplace"])
def test_validation_comes_before_any_provider_in_every_mode(
    wrap: bool, overload: str, fake: bool, provider: str, op: IrOp
) -> None:
    x = torch.zeros(3)
    target = op if overload == "default" else op.maybe_inplace
    if fake:
        with FakeTensorMode() as mode:
            x = mode.from_tensor(x)
    with op.set_priority([provider]), enable_torch_wrap(wrap):
        for args, kwargs in (((x, None, 1.0, -1.0), {}), ((x,), _bad())):
            with pytest.raises(InputError) as refused:
                target(*args, **kwargs)
            assert refused.value.argument == "scale"
    if not fake:
        assert torch.equal(x, torch.zeros(3))


def _bad() -> dict[str, Any]:
    return {"scale": -1.0, "bias": 1.0, "x_key": None}


def test_no_priority_means_native(op: IrOp) -> None:
    assert op.get_priority() == []
    assert op.dispatch(torch.zeros(1), None, 1.0).provider == "native"


def test_the_first_provider_that_takes_the_arguments_serves(op: IrOp) -> None:
    x = torch.zeros(1)
    with op.set_priority(["absent", "hundred", "inplace", "native"]):
        assert op.get_priority() == ["hundred", "inplace"]
        assert op.dispatch(x, None, 1.0).provider == "hundred"
        assert op.dispatch(x=x, bias=10.0, x_key=None).provider == "inplace"
    assert op.get_priority() == []


def test_native_serves_what_no_named_provider_takes(
    op: IrOp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="ir"):
        for _ in range(2):
            with op.set_priority(["hundred"]):
                assert op.get_priority() == ["hundred", "native"]
                assert op.dispatch(torch.zeros(1), None, 10.0).provider == "native"
    assert [r.message for r in caplog.records] == [
        f"{op.name}: no provider of ['hundred'] takes every argument; native serves the rest"
    ]


def test_a_default_holds_where_nothing_is_set(op: IrOp) -> None:
    op.set_default(["inplace"])
    assert op.get_priority() == ["inplace"]
    with op.set_priority(["native"]):
        assert op.get_priority() == ["native"]
        with op.set_priority(["hundred", "inplace"]):
            assert op.get_priority() == ["hundred", "inplace"]
        assert op.get_priority() == ["native"]
    assert op.get_priority() == ["inplace"]


def test_a_priority_ends_with_its_block_when_that_raises(op: IrOp) -> None:
    with pytest.raises(KeyError), op.set_priority(["hundred"]):
        raise KeyError
    assert op.get_priority() == []


@pytest.mark.parametrize(
    ("priority", "compile", "message"),
    [
        (["other"], False, "'other'; accepted: native, hundred, inplace, absent"),
        ("native", False, "accepted: a list of provider names"),
        ([1], False, "accepted: a list of provider names"),
        (["native"], "fast", 'accepted: False, True or "exact"'),
        (["native"], 1, 'accepted: False, True or "exact"'),
    ],
)
def test_a_wrong_priority_is_refused_where_it_is_set(
    priority: Any, compile: Any, message: str, op: IrOp
) -> None:
    with pytest.raises(PriorityError, match=message):
        op.set_priority(priority, compile=compile)
    with pytest.raises(PriorityError, match=message):
        op.set_default(priority, compile=compile)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_replaced_provider_serves_at_once(compiled: bool, op: IrOp) -> None:
    def run(x: Tensor) -> Tensor:
        return op(x, None, 1.0)[0]

    if compiled:
        run = torch.compile(run, fullgraph=True, backend="eager")
    x = torch.zeros(1)
    with op.set_priority(["hundred"]), enable_torch_wrap(False):
        assert run(x).item() == 101.0

        @op.register_impl("hundred", replace=True)
        def thousand(
            x: Tensor, x_key: Tensor | None, bias: float, scale: float = 1.0
        ) -> tuple[Tensor, Tensor]:
            return x + 1000, x.new_empty(0)

        assert run(x).item() == 1000.0
        op.unregister_impl("hundred")
        if not compiled:
            with pytest.raises(PriorityError, match="names 'hundred'; accepted: native"):
                run(x)
            return
        with pytest.raises(Exception, match="names 'hundred'; accepted: native"):
            run(x)


def test_the_fake_is_native_until_one_is_registered(op_name: Names) -> None:
    @register_op(name=op_name())
    def native(x: Tensor) -> Tensor:
        return x.new_empty(7)

    with FakeTensorMode() as mode:
        x = mode.from_tensor(torch.zeros(3))
        assert native(x).shape == (7,)

        @native.register_fake
        def fake(x: Tensor) -> Tensor:
            return x.new_empty(5)

        assert native(x).shape == (5,)
    assert native(torch.zeros(3)).shape == (7,)


@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
def test_opcheck_passes(op: IrOp, overload: str) -> None:
    target = op.torch_op if overload == "default" else op.maybe_inplace.torch_op
    for priority in (["native"], ["inplace"]):
        if overload == "maybe_inplace" and priority == ["inplace"]:
            # It returns its activations, which opcheck's schema test refuses for any op.
            continue
        with op.set_priority(priority):
            torch.library.opcheck(target, (torch.randn(3, 4), torch.randn(3, 2), 1.0))


def test_one_call_validates_and_selects_once(op_name: Names) -> None:
    counted: list[str] = []

    @register_op(name=op_name(), allow_inplace=True)
    def native(x: Tensor) -> Tensor:
        return x + 1

    @native.register_validation
    def check(x: Tensor) -> None:
        counted.append("validation")

    def supports(x: Tensor) -> bool:
        counted.append("supports_args")
        return True

    native.register_impl("a", supports_args=supports)(lambda_free_add)
    for wrap in (True, False):
        for call in (native, native.maybe_inplace):
            counted.clear()
            with native.set_priority(["a"]), enable_torch_wrap(wrap):
                call(torch.zeros(1))
            assert counted == ["validation", "supports_args"]


def lambda_free_add(x: Tensor) -> Tensor:
    return x + 1
