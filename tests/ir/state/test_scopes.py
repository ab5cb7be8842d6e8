"""Scopes nest, restore, and belong to the thread or task that sets them."""

import asyncio
import threading
from contextvars import copy_context

import pytest

from ir.state import IrContext, ScopeError, scope
from ir.state.context import decoded, encoded, here, with_key


def layer() -> str | None:
    return IrContext.get_scope("layer")


def test_a_scope_is_set_read_and_restored():
    assert layer() is None
    token = IrContext.set_scope("layer", "layer_3")
    assert layer() == "layer_3"
    IrContext.reset(token)
    assert layer() is None


def test_keys_nest_and_an_int_is_read_as_its_digits():
    with scope(layer=3, rank="r0"), scope(layer=4):
        assert (layer(), IrContext.get_scope("rank")) == ("4", "r0")
        with scope(layer=5):
            assert layer() == "5"
        assert layer() == "4"
    assert layer() is None


def test_a_block_that_raises_restores():
    with pytest.raises(ZeroDivisionError), scope(layer=1):
        raise ZeroDivisionError
    assert layer() is None


def test_a_block_may_be_entered_again_and_within_itself():
    block = scope(layer=1)
    for _ in range(2):
        with block, scope(layer=2), block:
            assert layer() == "1"
        assert layer() is None


@pytest.mark.parametrize("same", [True, False])
def test_a_reset_out_of_order_is_refused_and_changes_nothing(same: bool):
    outer = IrContext.set_scope("layer", "a")
    inner = IrContext.set_scope("layer", "a" if same else "b")
    with pytest.raises(ScopeError, match="innermost first"):
        IrContext.reset(outer)
    assert layer() == ("a" if same else "b")
    IrContext.reset(inner)
    with pytest.raises(ScopeError, match="each token once"):
        IrContext.reset(inner)
    IrContext.reset(outer)
    assert layer() is None


def test_a_token_of_another_thread_is_refused():
    token = IrContext.set_scope("layer", "a")
    caught: list[Exception] = []

    def reset() -> None:
        try:
            IrContext.reset(token)
        except ScopeError as error:
            caught.append(error)

    thread = threading.Thread(target=reset)
    thread.start()
    thread.join()
    IrContext.reset(token)
    assert len(caught) == 1


def test_what_is_no_token_is_refused():
    with pytest.raises(ScopeError, match="what set_scope returned"):
        IrContext.reset("layer")  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "value"), [("", "a"), (3, "a"), ("layer", None), ("layer", True)])
def test_a_wrong_key_or_value_is_refused(key: object, value: object):
    with pytest.raises(ScopeError, match="accepted: a string"):
        IrContext.set_scope(key, value)  # type: ignore[arg-type]
    assert here().text == ""


def test_threads_start_without_a_scope_and_do_not_see_each_other():
    seen: dict[int, list[str | None]] = {}
    barrier = threading.Barrier(4)

    def work(i: int) -> None:
        seen[i] = [layer()]
        with scope(layer=i):
            barrier.wait(10)
            seen[i].append(layer())
            barrier.wait(10)
        seen[i].append(layer())

    with scope(layer="outer"):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert layer() == "outer"
    assert seen == {i: [None, str(i), None] for i in range(4)}


def test_tasks_inherit_the_scope_they_start_in_and_keep_their_own():
    async def work(i: int) -> list[str | None]:
        found = [layer()]
        with scope(layer=i):
            await asyncio.sleep(0)
            found.append(layer())
            await asyncio.sleep(0)
        return [*found, layer()]

    async def main() -> list[list[str | None]]:
        with scope(layer="outer"):
            return await asyncio.gather(*(work(i) for i in range(3)))

    assert asyncio.run(main()) == [["outer", str(i), "outer"] for i in range(3)]


def test_a_copied_context_keeps_its_scope():
    with scope(layer="a"):
        kept = copy_context()
    assert kept.run(layer) == "a"
    assert layer() is None


def test_texts_of_scopes_are_equal_exactly_where_the_scopes_are():
    ab = with_key(with_key("", "a", "1"), "b", 'x","c":"y')
    ba = with_key(with_key("", "b", 'x","c":"y'), "a", 1)
    assert ab == ba
    assert decoded(ab) == {"a": "1", "b": 'x","c":"y'}
    assert encoded({}) == "" == here().text
    assert encoded({"a": "1", "b": "x", "c": "y"}) != ab


@pytest.mark.parametrize("bad", [{"rank": True}, {"": 1}])
def test_a_block_that_cannot_be_entered_sets_nothing(bad: dict):
    with pytest.raises(ScopeError), scope(layer=1, **bad):
        raise AssertionError("entered")
    assert layer() is None
