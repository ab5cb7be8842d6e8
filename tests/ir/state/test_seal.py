"""After a capture nothing that its graph reads is created, replaced, resized or moved."""

import pytest
import torch

from ir.state import IrState, SealedError


@pytest.fixture
def sealed(registry: IrState) -> IrState:
    registry.register_type("ws", lambda: torch.zeros(16), per="layer")
    registry.register_type("handle", object, per="layer")
    registry.get("ws", "a")
    registry.get("handle", "a")
    registry.seal("decode batch 8")
    return registry


def test_what_exists_stays_usable(sealed: IrState):
    state = sealed.get("ws", "a")
    state.add_(1)
    assert sealed.get("ws", "a") is state
    assert sealed.grow("ws", 8, "a") is state
    sealed.verify()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: r.get("ws", "b"), id="create"),
        pytest.param(lambda r: r.replace("ws", torch.zeros(16), "a"), id="replace"),
        pytest.param(lambda r: r.grow("ws", 17, "a"), id="grow"),
        pytest.param(lambda r: r.discard("ws"), id="discard"),
        pytest.param(lambda r: r.discard(), id="discard all"),
        pytest.param(lambda r: r.unregister_type("ws"), id="unregister"),
        pytest.param(lambda r: r.override("ws", list).__enter__(), id="override"),
        pytest.param(
            lambda r: r.register_type("ws", lambda: torch.zeros(1), replace=True), id="register"
        ),
    ],
)
def test_a_change_is_refused_and_names_the_graph(sealed: IrState, change):
    before = sealed.get("ws", "a")
    with pytest.raises(SealedError, match="breaks the captured graph 'decode batch 8'"):
        change(sealed)
    assert sealed.get("ws", "a") is before
    assert before.numel() == 16


def test_a_resize_behind_its_back_is_seen_at_the_next_use(sealed: IrState):
    # Larger than the allocation: the memory moves.
    sealed.get("ws", "a").resize_(100_000)
    with pytest.raises(SealedError, match=r"ws@\"a\" was resized from 64 to 400000 bytes"):
        sealed.get("ws", "a")
    with pytest.raises(SealedError, match="decode batch 8"):
        sealed.verify()


def test_a_tensor_given_other_memory_is_seen(sealed: IrState):
    state = sealed.get("ws", "a")
    other = torch.zeros(16)
    state.set_(other)  # type: ignore[call-overload]
    with pytest.raises(SealedError, match=r"was moved from 0x"):
        sealed.verify()


def test_states_without_tensors_may_still_come(sealed: IrState):
    assert sealed.get("handle", "b") is sealed.get("handle", "b")


def test_a_type_not_seen_yet_may_not_be_created_before_it_is_known_to_be_harmless(
    registry: IrState,
):
    made: list[int] = []
    registry.register_type("new", lambda: made.append(1))
    registry.seal("g")
    with pytest.raises(SealedError, match="would be created"):
        registry.get("new")
    assert made == []


def test_unseal_lets_go_of_one_graph_at_a_time(sealed: IrState):
    sealed.seal("prefill")
    assert sealed.sealed == ("decode batch 8", "prefill")
    sealed.unseal("decode batch 8")
    with pytest.raises(SealedError, match="'prefill'"):
        sealed.get("ws", "b")
    sealed.unseal("prefill")
    sealed.get("ws", "b")
    with pytest.raises(SealedError, match="is not sealed"):
        sealed.unseal("prefill")


def test_a_graph_is_sealed_once(sealed: IrState):
    with pytest.raises(SealedError, match="already sealed"):
        sealed.seal("decode batch 8")


def test_a_graph_relies_on_the_states_in_force_when_it_was_sealed(registry: IrState):
    registry.register_type("ws", lambda: torch.zeros(1))
    registry.get("ws")
    with registry.override("ws", lambda: torch.zeros(1)):
        registry.seal("g")
        # The state below the override is none of the graph's.
        registry.verify()
    registry.verify()
    registry.unseal("g")
    with registry.override("ws", lambda: torch.zeros(1)):
        registry.get("ws")
        registry.seal("g")
        registry.verify()
    with pytest.raises(SealedError, match="'g'"):
        registry.verify()


def test_a_sealed_state_that_went_with_its_override_is_missed(registry: IrState):
    registry.register_type("ws", lambda: torch.zeros(1))
    with registry.override("ws", lambda: torch.zeros(1)):
        registry.get("ws")
        registry.seal("g")
    with pytest.raises(SealedError, match="ws@null is gone, which breaks the captured graph 'g'"):
        registry.verify()


def test_a_handle_in_the_place_of_a_tensor_frees_no_other(registry: IrState):
    registry.register_type("ws", lambda: torch.zeros(1), per="layer")
    held = registry.get("ws", "a")
    with registry.override("ws", object):
        registry.get("ws", "a")
    registry.replace("ws", object(), "b")
    registry.seal("g")
    for change in (lambda: registry.discard("ws"), lambda: registry.get("ws", "c")):
        with pytest.raises(SealedError):
            change()
    assert registry.get("ws", "a") is held


def test_a_handle_replaced_in_frees_a_name_and_registering_anew_forgets_it(registry: IrState):
    registry.register_type("new", object, per="layer")
    registry.replace("new", object(), "a")
    registry.seal("g")
    assert registry.get("new", "b") is registry.get("new", "b")
    registry.register_type("new", object, replace=True)
    with pytest.raises(SealedError, match="would be created"):
        registry.get("new")


def test_what_an_override_adds_to_what_was_seen_goes_with_it(registry: IrState):
    registry.register_type("new", object, per="layer")
    with registry.override("new", object):
        registry.get("new", "a")
    with registry.override("new", lambda: torch.zeros(1)):
        registry.get("new", "a")
    registry.seal("g")
    with pytest.raises(SealedError, match="would be created"):
        registry.get("new", "a")
    registry.unseal("g")
    registry.get("new", "a")
    registry.seal("g")
    assert registry.get("new", "b") is registry.get("new", "b")
