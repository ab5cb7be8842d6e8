"""State is created once for each scope, lazily, and is what its type says."""

import gc
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ir.op import register_op
from ir.state import IrContext, IrState, StateError, UnknownStateError, ir_state, scope

Names = Callable[[str], str]


def zeros(n: int = 4) -> torch.Tensor:
    return torch.zeros(n)


def test_nothing_is_created_before_the_first_get_and_once_by_it(registry: IrState):
    made: list[str | None] = []

    def create() -> torch.Tensor:
        made.append(IrContext.get_scope("layer"))
        return zeros()

    registry.register_type("amax", create, per="layer")
    assert made == []
    with scope(layer=1):
        first = registry.get("amax")
        assert registry.get("amax") is first
    with scope(layer=2):
        assert registry.get("amax") is not first
    with scope(layer=1):
        assert registry.get("amax") is first
    assert made == ["1", "2"]


def test_a_scope_given_is_the_scope_of_the_key(registry: IrState):
    registry.register_type("amax", zeros, per=("layer",))
    with scope(layer="a", rank="0"):
        here = registry.get("amax")
    assert registry.get("amax", "a") is here
    assert registry.get("amax", ("a",)) is here
    assert registry.get("amax") is not here
    assert registry.get("amax", scope=None) is registry.get("amax")


def test_several_keys_and_no_key(registry: IrState):
    registry.register_type("pair", zeros, per=("layer", "rank"))
    registry.register_type("one", zeros, per=())
    with scope(layer="a", rank="0"):
        pair, one = registry.get("pair"), registry.get("one")
    with scope(layer="a"):
        assert registry.get("pair") is not pair
        assert registry.get("one") is one
    assert registry.get("pair", ("a", "0")) is pair
    assert registry.get("pair", (None, None)) is registry.get("pair")


def test_as_in_the_rfc_an_undeclared_type_is_shared_and_named_scopes_have_their_own(
    registry: IrState,
):
    registry.register_type("workspace", zeros)
    with scope(layer="a"):
        shared = registry.get("workspace")
        own = registry.get("workspace", scope=IrContext.get_scope("layer"))
    assert registry.get("workspace") is shared
    assert registry.get("workspace", scope="a") is own
    assert own is not shared


def test_an_unknown_name_is_a_key_error_that_names_the_known(registry: IrState):
    registry.register_type("amax", zeros)
    registry.register_type("workspace", zeros)
    with pytest.raises(KeyError) as caught:
        registry.get("scale")
    assert isinstance(caught.value, UnknownStateError)
    shown = "state 'scale' is not registered; accepted: 'amax', 'workspace'"
    assert str(caught.value) == shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nn.Parameter(torch.zeros(1)), "which is model state"),
        ([torch.zeros(1), torch.nn.Parameter(torch.zeros(1))], r"\[1\] is Parameter"),
        (torch.nn.Linear(1, 1), "is Linear, which is model state"),
        ({"a": torch.zeros(1, requires_grad=True)}, "requires grad"),
        (torch.zeros(2).to_sparse(), "accepted: strided"),
    ],
)
def test_model_state_is_refused(registry: IrState, value: Any, message: str):
    with pytest.raises(StateError, match=message):
        registry.register_type("weight", value)
    registry.register_type("weight", lambda: value)
    with pytest.raises(StateError, match=message):
        registry.get("weight")
    assert registry.describe().entries == ()
    with pytest.raises(StateError, match=message):
        registry.replace("weight", value)


@pytest.mark.parametrize(
    ("name", "create", "message"),
    [("a@b", zeros, "without '@'"), ("", zeros, "without '@'"), ("a", 3, "a function")],
)
def test_a_wrong_registration_is_refused(registry: IrState, name: str, create: Any, message: str):
    with pytest.raises(StateError, match=message):
        registry.register_type(name, create)


def test_a_second_registration_wants_replace_and_drops_the_values(registry: IrState):
    registry.register_type("amax", zeros)
    before = registry.get("amax")
    with pytest.raises(StateError, match="already registered"):
        registry.register_type("amax", zeros)
    registry.register_type("amax", lambda: torch.ones(2), replace=True)
    assert torch.equal(registry.get("amax"), torch.ones(2))
    assert registry.get("amax") is not before


@pytest.mark.parametrize("wrong", [3, ("a", 1), ["a"]])
def test_a_scope_that_is_none_is_refused(registry: IrState, wrong: Any):
    registry.register_type("amax", zeros)
    with pytest.raises(StateError, match="scope is"):
        registry.get("amax", wrong)


@pytest.mark.parametrize(
    ("per", "given", "accepted"),
    [
        ((), "a", "no scope, since it is one for all"),
        ((), (None,), "no scope, since it is one for all"),
        (("layer",), (), "no scope, a string, or a tuple with a string or None for each key"),
        (("layer",), ("a", None), "no scope, a string, or a tuple with a string or None for"),
        (("layer", "rank"), "a", "no scope, a tuple with a string or None for each key"),
        (("layer", "rank"), ("a", "0", None), "no scope, a tuple with a string or None for each"),
    ],
)
def test_a_scope_of_more_or_fewer_values_than_keys_is_refused_and_makes_nothing(
    registry: IrState, per: tuple[str, ...], given: Any, accepted: str
):
    registry.register_type("amax", zeros, per=per)
    count = len(given) if isinstance(given, tuple) else 1
    shown = f"scope {given!r} gives {count} of the {len(per)} keys {list(per)} that"
    for ask in (registry.get, registry.exists, lambda n, s: registry.replace(n, zeros(), s)):
        with pytest.raises(StateError, match=re.escape(shown)) as caught:
            ask("amax", given)
        assert accepted in str(caught.value)
    assert registry.describe().entries == ()


def test_a_type_that_names_no_keys_takes_any_number_of_values_for_one_scope(registry: IrState):
    registry.register_type("amax", zeros)
    assert registry.get("amax", ("a", "0")) is registry.get("amax", ("a", "0"))
    assert registry.get("amax", ("a", "0")) is not registry.get("amax", "a")
    assert registry.get("amax", ()) is registry.get("amax")


def test_override_gives_its_own_and_restores_the_same_objects(registry: IrState):
    registry.register_type("amax", zeros, per="layer")
    before = registry.get("amax", "a")
    with registry.override("amax", lambda: torch.ones(1)):
        inside = registry.get("amax", "a")
        assert torch.equal(inside, torch.ones(1))
        with registry.override("amax", lambda: torch.full((1,), 2.0)):
            assert registry.get("amax", "a").item() == 2
        assert registry.get("amax", "a") is inside
        registry.get("amax", "b")
    assert registry.get("amax", "a") is before
    assert registry.get("amax", "b").shape == (4,)


def test_overrides_may_end_in_any_order(registry: IrState):
    registry.register_type("n", lambda: 0)
    first, second = registry.override("n", lambda: 1), registry.override("n", lambda: 2)
    first.__enter__()
    second.__enter__()
    assert registry.get("n") == 2
    first.__exit__(None, None, None)
    assert registry.get("n") == 2
    second.__exit__(None, None, None)
    assert registry.get("n") == 0


def test_discard_drops_and_the_next_get_creates(registry: IrState):
    registry.register_type("a", zeros)
    registry.register_type("b", zeros)
    a, b = registry.get("a"), registry.get("b")
    registry.discard("a")
    assert registry.get("a") is not a
    assert registry.get("b") is b
    registry.discard()
    assert registry.get("b") is not b
    assert [e.name for e in registry.describe().entries] == ["b"]


def test_what_is_discarded_is_freed(registry: IrState):
    class Handle:
        alive = 0

        def __init__(self) -> None:
            Handle.alive += 1

        def __del__(self) -> None:
            Handle.alive -= 1

    registry.register_type("handle", Handle)
    registry.get("handle")
    registry.discard("handle")
    gc.collect()
    assert Handle.alive == 0


def test_grow_keeps_the_values_and_adds_zeros(registry: IrState):
    registry.register_type("ws", lambda: torch.ones(3))
    small = registry.get("ws")
    assert registry.grow("ws", 3) is small
    large = registry.grow("ws", 5)
    assert torch.equal(large, torch.tensor([1.0, 1, 1, 0, 0]))
    assert registry.get("ws") is large


def test_only_a_tensor_of_one_dimension_grows(registry: IrState):
    registry.register_type("ws", lambda: torch.ones(3, 3))
    with pytest.raises(StateError, match="1 dimension"):
        registry.grow("ws", 10)


def test_states_that_share_memory_are_refused(registry: IrState):
    buffer = torch.zeros(8)
    registry.register_type("ws", lambda: buffer, per="layer")
    registry.get("ws", "a")
    with pytest.raises(StateError, match=r'ws@"b" shares memory with state ws@"a"'):
        registry.get("ws", "b")
    with pytest.raises(StateError, match="shares memory"):
        registry.replace("ws", buffer[2:4], "b")
    registry.register_type("twice", lambda: [torch.zeros(2)] * 2)
    with pytest.raises(StateError, match="two of its tensors"):
        registry.get("twice")


def test_state_made_in_inference_mode_can_be_written_outside_of_it(registry: IrState):
    registry.register_type("amax", zeros)
    with torch.inference_mode():
        state = registry.get("amax")
    state.add_(1)
    assert torch.equal(registry.get("amax"), torch.ones(4))


def test_describe_counts_bytes_by_device_and_each_storage_once(registry: IrState):
    registry.register_type("a", lambda: torch.zeros(4), per="layer")
    registry.register_type("tree", lambda: {"x": torch.zeros(2, dtype=torch.int8), "y": [zeros(1)]})
    registry.register_type("handle", object)
    registry.register_type("meta", lambda: torch.empty(8, device="meta"))
    with scope(layer=1):
        registry.get("a")
    registry.get("a")
    registry.get("tree")
    registry.get("handle")
    registry.get("meta")
    found = registry.describe()
    assert dict(found.bytes_by_device) == {"cpu": 16 + 16 + 2 + 4, "meta": 32}
    assert found.lines() == [
        "cpu: 38 bytes",
        "meta: 32 bytes",
        "  a of 1: 16 bytes on cpu",
        "  a for all: 16 bytes on cpu",
        "  tree for all: 6 bytes on cpu",
        "  handle for all: object",
        "  meta for all: 32 bytes on meta",
    ]


def test_exists_creates_nothing(registry: IrState):
    registry.register_type("a", zeros)
    assert not registry.exists("a")
    registry.get("a")
    assert registry.exists("a")
    assert not registry.exists("a", "b")


def test_what_an_override_hides_is_not_planned_as_there(fresh: Names):
    amax = fresh("amax")
    ir_state.register_type(amax, zeros)
    op = register_op(name=fresh("planned"), state=(amax,))(_add)
    ir_state.get(amax)
    assert [p.exists for p in ir_state.plan(ops=[op.name])] == [True]
    with ir_state.override(amax, zeros):
        assert [p.exists for p in ir_state.plan(ops=[op.name])] == [False]
    assert [p.exists for p in ir_state.plan(ops=[op.name])] == [True]


def _add(x: torch.Tensor) -> torch.Tensor:
    return x + 1
