"""What must be seen of a worker: written out by hand for small schedules."""

import numpy as np
import pytest

from reference.model.connector import (
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    PagedSize,
    Restart,
    Serve,
    Served,
)
from reference.serving import computed, expect_run, initial, legal

SIZE = PagedSize(layers=2, block_size=2, blocks=5, blocks_per_request=2)
FIRST = Served(name="a", prompt=(5, 6, 7), start=0, stop=3, blocks=(1, 2), save=3)
LOADS = Served(name="b", prompt=(5, 6, 9), start=2, stop=3, blocks=(3, 4), load=2)


def case_of(*events, connector: str = "file", mode: str = "eager", **more) -> ConnectorCase:
    case = ConnectorCase(size=SIZE, connector=connector, mode=mode, events=events, **more)
    assert legal(case)
    return case


def test_what_is_computed_lies_in_its_slots_and_nothing_else_is_written():
    run = expect_run(case_of(Serve(requests=(FIRST,))))
    kv = computed(2, 1, (5, 6, 7))[0].astype(float)
    caches = initial(SIZE)
    assert np.array_equal(run.steps[0].caches, caches)
    caches[:, :, [2, 3, 4]] = kv
    assert np.array_equal(run.steps[1].caches, caches)
    assert run.steps[1].known.all()
    assert run.steps[1].written == {2, 3, 4}
    assert run.store.keys() == {("m", (5, 6))}
    entry = run.store["m", (5, 6)]
    assert entry is not None
    assert np.array_equal(entry, kv[:, :, :2])


def test_what_is_loaded_after_a_restart_is_what_was_saved():
    run = expect_run(case_of(Serve(requests=(FIRST,)), Restart(), Serve(requests=(LOADS,))))
    served = run.steps[3]
    assert [s.kind for s in run.steps] == ["warm-up", "serve", "warm-up", "serve"]
    assert served.matched == {"b": 2}
    assert served.moved is not None
    assert (served.moved.received, served.moved.sent) == ({"b"}, set())
    assert np.array_equal(served.caches[:, :, [6, 7, 8]], computed(2, 1, (5, 6, 9))[0])
    logits = served.logits["b"]
    assert logits is not None
    assert np.array_equal(logits, computed(2, 1, (5, 6, 9))[1][2:])


def test_a_worker_for_another_model_finds_no_entry_of_the_first():
    first, other = Serve(requests=(FIRST,)), Restart("n")
    run = expect_run(case_of(first, other, Serve(requests=(LOADS,)), first, Restart()))
    assert run.steps[3].matched == {"b": 0}
    assert run.steps[3].moved is not None
    assert dict(run.steps[3].moved.failed) == {"b": "load"}
    assert run.store.keys() == {("m", (5, 6)), ("n", (5, 6))}
    back = expect_run(case_of(first, other, Restart(), Serve(requests=(LOADS,))))
    assert back.steps[4].matched == {"b": 2}


def test_who_follows_a_death_serves_the_model_of_who_died():
    dies = Serve(requests=(FIRST,), dies=1)
    run = expect_run(case_of(Restart("n"), dies, Serve(requests=(FIRST,))))
    assert run.store.keys() == {("n", (5, 6))}


@pytest.mark.parametrize("how", ["gone", "cut", "empty", "length", "dtype", "layer", "blocked"])
def test_a_damaged_entry_fails_its_reader_whose_rows_are_unknown(how: str):
    other = Served(name="c", prompt=(1,), start=0, stop=1, blocks=(1,))
    events = (
        Serve(requests=(FIRST,)),
        Damage((5, 6), how),
        Serve(requests=(LOADS, other)),
    )
    served = expect_run(case_of(*events)).steps[3]
    assert served.moved is not None
    assert dict(served.moved.failed) == {"b": "load"}
    assert served.logits["b"] is None
    logits = served.logits["c"]
    assert logits is not None
    assert np.array_equal(logits, computed(2, 1, (1,))[1])
    assert [bool(k) for k in served.known] == [slot != 8 for slot in range(10)]
    assert served.matched["b"] == (0 if how in ("gone", "blocked") else 2)


def test_what_cannot_be_replaced_fails_its_saver():
    run = expect_run(case_of(Damage((5, 6), "blocked"), Serve(requests=(FIRST,))))
    assert run.steps[2].moved is not None
    assert dict(run.steps[2].moved.failed) == {"a": "save"}
    assert run.store == {}


def test_a_save_replaces_a_spoilt_entry():
    again = Served(name="b", prompt=(5, 6), start=0, stop=2, blocks=(3,), save=2)
    events = (Serve(requests=(FIRST,)), Damage((5, 6), "cut"))
    assert expect_run(case_of(*events)).store == {("m", (5, 6)): None}
    run = expect_run(case_of(*events, Serve(requests=(again,))))
    assert run.store["m", (5, 6)] is not None


def test_a_staged_connector_has_room_for_so_many_tokens():
    events = (Serve(requests=(FIRST,)), Serve(requests=(LOADS,)))
    run = expect_run(case_of(*events, connector="staged", capacity=1))
    assert run.store == {}
    assert run.steps[2].moved is not None
    assert dict(run.steps[2].moved.failed) == {"b": "load"}


@pytest.mark.parametrize(("sync", "stored"), [(0, set()), (1, {("m", (5, 6))})])
def test_who_dies_at_a_sync_leaves_the_entry_old_or_new(sync: int, stored: set):
    run = expect_run(case_of(Serve(requests=(FIRST,), dies=sync)))
    assert run.steps[1].moved is not None
    assert run.steps[1].moved.died
    assert run.store.keys() == stored
    assert [s.kind for s in run.steps] == ["warm-up", "serve", "warm-up"]
    assert np.array_equal(run.steps[2].caches, initial(SIZE))


def test_a_step_that_saves_less_is_outlived():
    run = expect_run(case_of(Serve(requests=(FIRST,), dies=2)))
    assert run.steps[1].moved is not None
    assert not run.steps[1].moved.died


@pytest.mark.parametrize(
    ("connector", "mode", "expected"),
    [
        ("undeclared", "full", None),
        ("claiming", "full", None),
        ("undeclared", "piecewise", "piecewise"),
        ("file", "full", "piecewise"),
        ("staged", "full", "full"),
        ("none", "full", "full"),
        ("claiming", "eager", "eager"),
    ],
)
def test_the_graphs_follow_the_policy(connector: str, mode: str, expected: str | None):
    run = expect_run(case_of(Dummy(1), connector=connector, mode=mode))
    assert run.refused is (expected is None)
    assert run.mode == (expected or "")
    assert run.captured is (connector == "staged" and mode == "full")


def test_calls_by_hand_are_admitted_in_their_place_alone():
    calls = (("begin_pass", 0), ("start_load_kv", 0), ("start_load_kv", 0), ("begin_pass", 0))
    run = expect_run(case_of(ByHand(True, calls)))
    assert run.steps[1].admitted == (False, True, False, True)
    assert run.steps[1].reached == (("start_load_kv", 0),)
    assert not run.steps[1].whole


@pytest.mark.parametrize(
    "wrong",
    [
        Serve(requests=(FIRST, Served(name="b", prompt=(1,), start=0, stop=1, blocks=(2,)))),
        Serve(requests=(FIRST, FIRST)),
        Serve(requests=(Served(name="a", prompt=(1,), start=0, stop=1, blocks=(0,)),)),
        Serve(requests=(Served(name="a", prompt=(1,), start=0, stop=1, blocks=(5,)),)),
        Serve(requests=(Served(name="a", prompt=(1,), start=0, stop=2, blocks=(1,)),)),
        Serve(requests=(Served(name="a", prompt=(1,), start=0, stop=1, blocks=(1,), save=2),)),
        Serve(requests=(Served(name="a", prompt=(99,), start=0, stop=1, blocks=(1,)),)),
        Dummy(5),
        Dummy(0),
        Damage((), "gone"),
        Damage((1,), "burnt"),
        Restart("o"),
        ByHand(True, (("start_load_kv", 2),)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_no_worker_may_be_given_is_not_legal(wrong):
    case = ConnectorCase(size=SIZE, connector="file", mode="eager", events=(wrong,))
    assert not legal(case)


def test_without_a_connector_nothing_is_moved_damaged_or_called():
    for event in (Serve(requests=(FIRST,)), Damage((1,), "cut"), ByHand(True, ())):
        case = ConnectorCase(size=SIZE, connector="none", mode="eager", events=(event,))
        assert not legal(case)
