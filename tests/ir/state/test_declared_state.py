"""A provider meets the states that it declares, and no other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ir
from ir.errors import RegistrationError
from ir.op import IrOp, register_op
from ir.state import StateError, UndeclaredStateError, ir_state
from ir.state.declared import Uses

Names = Callable[[str], str]


def plain_op(fresh: Names) -> IrOp:
    def native(x: Tensor) -> Tensor:
        return x + 1

    return register_op(name=fresh("declared"))(native)


def test_undeclared_use_is_caught_though_another_was_there_first(fresh: Names):
    amax, other = fresh("amax"), fresh("other")
    ir_state.register_type(amax, lambda: torch.ones(1))
    ir_state.register_type(other, lambda: torch.ones(1))
    op = plain_op(fresh)

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(amax) + ir_state.get(other)

    ir_state.get(other)
    message = rf"provider 'mine' uses state '{other}', which it does not declare.*\['{amax}'\]"
    with op.set_priority(["mine"]), pytest.raises(UndeclaredStateError, match=message):
        op(torch.zeros(1))
    assert torch.equal(ir_state.get(other), torch.ones(1))


def test_a_declared_use_works_and_the_code_around_a_call_may_use_anything(fresh: Names):
    amax = fresh("amax")
    ir_state.register_type(amax, lambda: torch.zeros(1), per="layer")
    op = plain_op(fresh)

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(amax).add_(1)

    with op.set_priority(["mine"]):
        with ir.scope(layer=1):
            assert [op(torch.zeros(1)).item() for _ in range(3)] == [1, 2, 3]
        with ir.scope(layer=2), ir.enable_torch_wrap(False):
            assert op(torch.zeros(1)).item() == 1
    assert ir_state.get(amax, "1").item() == 3


def test_a_provider_that_declares_nothing_uses_what_its_code_names(fresh: Names):
    ir_state.register_type("test_named_state", lambda: torch.zeros(1))
    op = plain_op(fresh)

    @op.register_impl("named")
    def named(x: Tensor) -> Tensor:
        return x + ir_state.get("test_named_state")

    @op.register_impl("computed")
    def computed(x: Tensor) -> Tensor:
        return x + ir_state.get("test_" + x.dtype.__str__()[:0] + "named_state")

    @op.register_impl("none")
    def none(x: Tensor) -> Tensor:
        return x + 2

    try:
        assert [op.impls[p].uses.names(ir_state) for p in ("native", "named", "none")] == [
            (),
            ("test_named_state",),
            (),
        ]
        with op.set_priority(["named"]):
            assert op(torch.zeros(1)).item() == 0
        with op.set_priority(["computed"]), pytest.raises(UndeclaredStateError):
            op(torch.zeros(1))
    finally:
        ir_state.unregister_type("test_named_state")


@pytest.mark.parametrize("state", [None, ()])
def test_a_provider_that_neither_declares_nor_names_a_state_is_refused_it(
    fresh: Names, state: tuple[str, ...] | None
):
    amax = fresh("amax")
    ir_state.register_type(amax, lambda: torch.zeros(1))
    op = plain_op(fresh)

    @op.register_impl("mine", state=state)
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(amax)

    with op.set_priority(["mine"]), pytest.raises(UndeclaredStateError):
        op(torch.zeros(1))
    assert not ir_state.exists(amax)


def _reads() -> Tensor:
    return ir_state.get("test_reached")


def test_code_is_followed_into_functions_and_modules():
    def direct(x: Tensor) -> Tensor:
        return x + _reads()

    def through_a_module(x: Tensor) -> Tensor:
        return x + ir.ir_state.get("test_reached")

    get = ir_state.get

    def bound(x: Tensor) -> Tensor:
        return x + get("test_reached")

    for fn in (direct, through_a_module, bound):
        assert Uses("p", fn, None).allows("test_reached")


def test_a_provider_with_state_is_not_compilable(fresh: Names):
    op = plain_op(fresh)

    def mine(x: Tensor) -> Tensor:
        return x

    with pytest.raises(RegistrationError, match="accepted: compilable=False"):
        op.register_impl("a", state=("x",), compilable=True)(mine)
    with pytest.raises(RegistrationError, match="a list of state names"):
        op.register_impl("a", state="x")(mine)


def test_native_may_have_state(fresh: Names):
    count = fresh("count")
    ir_state.register_type(count, lambda: torch.zeros(1))

    def native(x: Tensor) -> Tensor:
        return x + ir_state.get(count).add_(1)

    op = register_op(name=fresh("native_state"), state=(count,))(native)
    assert [op(torch.zeros(1)).item() for _ in range(2)] == [1, 2]
    with op.set_priority(["native"], compile=True):
        assert op(torch.zeros(1)).item() == 3


def test_planned_states_are_those_of_providers_in_force_and_are_created_ahead(fresh: Names):
    amax, ws = fresh("amax"), fresh("ws")
    made: list[str] = []
    ir_state.register_type(amax, lambda: made.append("amax") or torch.zeros(1), per="layer")
    ir_state.register_type(ws, lambda: made.append("ws") or torch.zeros(4), per=())
    op = plain_op(fresh)

    @op.register_impl("mine", state=(amax, ws))
    def mine(x: Tensor) -> Tensor:
        return x

    scopes = [{"layer": i} for i in range(3)]
    assert [p for p in ir_state.plan(scopes) if p.name in (amax, ws)] == []
    with op.set_priority(["mine"]):
        plan = [p for p in ir_state.plan(scopes) if p.name in (amax, ws)]
        assert [(p.name, p.scope, p.exists) for p in plan] == [
            (amax, "0", False),
            (ws, None, False),
            (amax, "1", False),
            (amax, "2", False),
        ]
        assert plan[0].users == (f"{op.name}: provider 'mine'",)
        assert made == []
        ir_state.preallocate(scopes, ops=[op.name])
        assert sorted(made) == ["amax"] * 3 + ["ws"]
        assert all(p.exists for p in ir_state.plan(scopes) if p.name in (amax, ws))
        with ir.scope(layer=2):
            ir_state.get(amax)
    with pytest.raises(StateError, match=r"ops names \['no_such_op'\]; accepted: .*rms_norm"):
        ir_state.plan(scopes, ops=["no_such_op"])
    assert sorted(made) == ["amax"] * 3 + ["ws"]
