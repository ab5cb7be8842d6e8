"""One creation per scope and name, whoever asks and however often at once."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ir.state import IrState, StateError, scope


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of `work(i)`, run by threads that start at the same moment."""
    barrier = threading.Barrier(count)
    found: list[Any] = [None] * count

    def run(i: int) -> None:
        barrier.wait(20)
        try:
            found[i] = work(i)
        except Exception as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    return found


def test_racing_threads_create_each_scope_once(registry: IrState):
    made: list[int] = []
    pause = threading.Event()

    def create() -> torch.Tensor:
        made.append(threading.get_ident())
        pause.wait(0.05)
        return torch.zeros(1)

    registry.register_type("amax", create, per="layer")

    def work(i: int) -> torch.Tensor:
        with scope(layer=i % 3):
            return registry.get("amax")

    found = together(12, work)
    assert len(made) == 3
    assert all(found[i] is found[i % 3] for i in range(12))
    assert len({id(f) for f in found}) == 3


def test_a_creation_that_fails_keeps_nothing_and_the_next_one_tries(registry: IrState):
    tries: list[int] = []

    def create() -> torch.Tensor:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no device")
        return torch.zeros(1)

    registry.register_type("amax", create)
    found = together(4, lambda _: registry.get("amax"))
    assert sum(isinstance(f, OSError) for f in found) == 1
    assert len({id(f) for f in found if isinstance(f, torch.Tensor)}) == 1
    assert len(tries) == 2


def test_scopes_are_created_side_by_side(registry: IrState):
    # Each creation waits for the other, as ranks of one process group do.
    meet = threading.Barrier(2)

    def create() -> object:
        meet.wait(20)
        return object()

    registry.register_type("group", create, per="rank")
    found = together(2, lambda i: registry.get("group", str(i)))
    assert found[0] is not found[1]
    assert not any(isinstance(f, Exception) for f in found)


def test_a_creation_may_use_other_states(registry: IrState):
    registry.register_type("a", lambda: [torch.zeros(2)], per="layer")
    registry.register_type("b", lambda: {"size": len(registry.get("a"))}, per="layer")
    assert registry.get("b", "1") == {"size": 1}


def test_a_creation_that_needs_itself_is_refused(registry: IrState):
    registry.register_type("a", lambda: registry.get("b"))
    registry.register_type("b", lambda: registry.get("a"))
    with pytest.raises(StateError, match="needs state"):
        registry.get("a")


def test_two_threads_whose_creations_wait_for_each_other_are_refused(registry: IrState):
    meet = threading.Barrier(2)

    def create(other: str) -> Callable[[], object]:
        def make() -> object:
            meet.wait(20)
            return [registry.get(other)]

        return make

    registry.register_type("a", create("b"))
    registry.register_type("b", create("a"))
    found = together(2, lambda i: registry.get("ab"[i]))
    assert any(isinstance(f, StateError) and "wait for each other" in str(f) for f in found)


def test_a_value_replaced_while_it_is_made_stays_replaced(registry: IrState):
    mine = torch.ones(1)

    def create() -> torch.Tensor:
        registry.replace("a", mine)
        return torch.zeros(1)

    registry.register_type("a", create)
    assert registry.get("a") is mine
    assert registry.get("a") is mine
