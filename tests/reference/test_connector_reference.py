"""The reference's life of a connector: the order of calls, and what lies where."""

import pytest

from reference.connector import Caches, Call, Misplaced, Mode, Request, Step, misplaced, mode

WHOLE = [
    (Call.START, 0),
    (Call.PASS, 0),
    (Call.LOAD, 0),
    (Call.SAVE, 0),
    (Call.WAIT, 0),
    (Call.FINISHED, 0),
]


def test_a_whole_step_is_admitted_call_by_call_and_nothing_after_it():
    step = Step(layers=1, dummy=False, captured=False)
    for call, layer in WHOLE:
        assert [c for c in Call if step.admits(c, 0)] == [call]
        assert not step.whole
        step.call(call, layer)
    assert step.whole
    assert not any(step.admits(c) for c in Call)


def test_a_call_that_is_not_admitted_cannot_happen():
    with pytest.raises(ValueError, match="wait_for_save of layer 0"):
        Step(layers=1, dummy=False, captured=False).call(Call.WAIT)


def test_a_replay_stands_for_a_pass_only_where_hooks_are_captured():
    for captured in (True, False):
        step = Step(layers=1, dummy=False, captured=captured)
        step.call(Call.START)
        assert step.admits(Call.REPLAYED) is captured
    step = Step(layers=2, dummy=True, captured=True)
    step.call(Call.START)
    step.call(Call.REPLAYED)
    assert step.admits(Call.PASS)
    step.call(Call.WAIT)
    assert step.admits(Call.FINISHED)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("dummy", [False, True])
def test_what_a_connector_sees_of_admitted_calls_is_not_misplaced(dummy: bool, captured: bool):
    """Every way through a step of two layers and at most two passes: both rules say the same."""
    layers, invisible = 2, (Call.PASS, Call.REPLAYED)

    def ways(calls: tuple[tuple[Call, int], ...]):
        step = Step(layers=layers, dummy=dummy, captured=captured)
        for call, layer in calls:
            step.call(call, layer)
        if step.whole:
            yield calls
            return
        begun = sum(call in invisible for call, _ in calls)
        for call in Call:
            for layer in range(layers if call in (Call.LOAD, Call.SAVE) else 1):
                if step.admits(call, layer) and (call not in invisible or begun < 2):
                    yield from ways((*calls, (call, layer)))

    found = list(ways(()))
    assert found
    for way in found:
        seen = [(call, layer) for call, layer in way if call not in invisible]
        passes = [call for call, _ in seen].count(Call.LOAD) // layers
        assert misplaced(seen, layers=layers, dummy=dummy, captured=captured, passes=passes) is None


def test_half_a_pass_is_no_pass():
    step = Step(layers=1, dummy=True, captured=True)
    for call in (Call.START, Call.PASS, Call.LOAD):
        step.call(call)
    assert not step.admits(Call.PASS)
    assert not step.admits(Call.REPLAYED)
    half = [(Call.START, 0), (Call.LOAD, 0), (Call.LOAD, 0), (Call.SAVE, 0)]
    wrong = misplaced(half, layers=1, dummy=True, captured=True, passes=None)
    assert wrong == Misplaced(2, "wait_for_layer_load")


def test_a_policy_decides_under_full_alone():
    assert [mode(p, Mode.FULL) for p in ("captured", "piecewise", None)] == [
        Mode.FULL,
        Mode.PIECEWISE,
        None,
    ]
    assert {mode(p, m) for p in ("captured", None) for m in (Mode.EAGER, Mode.PIECEWISE)} == {
        Mode.EAGER,
        Mode.PIECEWISE,
    }


def request(prompt: tuple[int, ...], load: int, save: int, blocks=(1, 2)) -> Request:
    start = min(load, len(prompt) - 1)
    return Request(
        name="r",
        prompt=prompt,
        before=prompt[:start],
        tokens=prompt[start:],
        blocks=blocks,
        load=load,
        save=save,
    )


def test_what_was_saved_is_matched_by_whole_blocks_and_loaded_where_the_blocks_are():
    caches = Caches(block_size=2)
    assert caches.matched((5, 6, 7)) == 0
    assert caches.step((request((5, 6, 7), 0, 3),)) == {}
    assert caches.store == {("", (5, 6)): ((5,), (5, 6))}
    assert caches.slots == {2: (5,), 3: (5, 6), 4: (5, 6, 7)}
    assert caches.matched((5, 6, 9)) == 2
    assert caches.step((request((5, 6, 9), 2, 0, blocks=(3, 1)),)) == {}
    assert caches.slots == {6: (5,), 7: (5, 6), 2: (5, 6, 9), 3: (5, 6), 4: (5, 6, 7)}


def test_a_lost_entry_fails_its_request_which_saves_nothing():
    caches = Caches(block_size=2)
    assert caches.step((request((5, 6, 7), 2, 3),)) == {"r": "load"}
    assert caches.store == {}


def test_a_step_without_requests_changes_nothing():
    caches = Caches(block_size=2, slots={1: (5,)})
    assert caches.step(()) == {}
    assert (caches.slots, caches.store) == ({1: (5,)}, {})
