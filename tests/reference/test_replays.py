"""What captured functions mean: owners that are used, caches written by slot, what is legal."""

from dataclasses import replace

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import padded_case, plain_case
from reference.declaration import Refusal
from reference.expectation import Unknown
from reference.model import ProgramCase, ProgramStep, Storage, Value, View
from reference.model.capture import CaptureCase, Create, Move, Replay, Seal, Write
from reference.programs import ExpectedProgram, expect_program
from reference.replays import ExpectedCapture, expect_capture, is_legal, used_owners

CACHE = (2, 2, 2, 1, 1)


def floats(*values: float) -> Storage:
    return Storage("float32", len(values), np.array(values, np.float32).tobytes())


def written(slots: list[int], keys: Storage | None = None) -> ProgramCase:
    """Rows 1, 2, ... as keys and values, put into a cache of zeros."""
    rows = len(slots)
    given = floats(*range(1, rows + 1)) if keys is None else keys
    return ProgramCase(
        storages=(
            floats(*[0.0] * 8),
            given,
            Storage("int64", rows, np.array(slots, np.int64).tobytes()),
        ),
        tensors=(
            View(0, CACHE, (4, 2, 1, 1, 1)),
            View(1, (rows, 1, 1), (1, 1, 1)),
            View(2, (rows,), (1,)),
        ),
        inputs=(0, 1, 2),
        steps=(
            ProgramStep("ir.reshape_and_cache.default", (Value(0), Value(1), Value(1), Value(2))),
        ),
        outputs=(3,),
    )


def test_rows_go_to_their_slots_and_those_without_one_nowhere():
    found = expect_program(written([3, -1, 0]))
    assert isinstance(found, ExpectedProgram)
    cache = np.frombuffer(found.storages[0].content, np.float32).reshape(2, 4)
    assert cache.tolist() == [[3.0, 0.0, 0.0, 1.0]] * 2
    assert np.frombuffer(found.outputs[0].content, np.int64).tolist() == [2]
    assert found.outputs[0].shape == ()


@pytest.mark.parametrize("slots", [[1, 1], [4]], ids=["twice", "beyond"])
def test_of_slots_that_nobody_promised_nothing_is_known(slots: list[int]):
    assert expect_program(written(slots)) == Unknown("slot-not-promised")


def test_rows_of_another_shape_are_refused():
    case = written([1, 2])
    views = (case.tensors[0], replace(case.tensors[1], shape=(2, 1)), case.tensors[2])
    views = (views[0], View(1, (2, 1), (1, 1)), views[2])
    assert isinstance(expect_program(replace(case, tensors=views)), Refusal)


def held(steps: tuple[ProgramStep, ...], outputs: tuple[int, ...]) -> CaptureCase:
    """One static input and one attribute."""
    case = plain_case(SeededChooser(0, "held"))
    body = replace(case.body, steps=steps, outputs=outputs)
    return replace(case, body=body, owners=("attribute",), events=(), noise=False)


@pytest.mark.parametrize(
    ("steps", "outputs", "used"),
    [
        ((ProgramStep("aten.clone.default", (Value(1),)),), (), {1}),
        ((ProgramStep("aten.contiguous.default", (Value(1),)),), (), set()),
        ((ProgramStep("aten.contiguous.default", (Value(1),)),), (2,), {1}),
        ((ProgramStep("aten.clone.default", (Value(0),)),), (2,), set()),
        ((), (1,), {1}),
    ],
    ids=["taken", "its-own-copy", "its-own-copy-returned", "not-taken", "returned"],
)
def test_an_owner_is_used_where_a_step_takes_it_or_it_is_returned(steps, outputs, used):
    assert used_owners(held(steps, outputs)) == used


def test_only_what_is_used_makes_a_graph_stale_and_it_comes_back():
    events = (
        Move(position=1, how="replace"), Replay(given=()), Move(position=1, how="back"),
        Replay(given=()), Move(position=1, how="view"), Replay(given=()),
    )  # fmt: skip
    for outputs, stale in (((1,), True), ((0,), False)):
        found = expect_capture(replace(held((), outputs), events=events))
        assert isinstance(found, ExpectedCapture)
        refused = [e.refused is not None for e in found.events]
        assert refused == [False, stale, False, False, False, False]


def test_a_sealed_state_goes_in_no_way_that_the_registry_sees():
    ways = ("replace", "drop", "dtype", "view", "data")
    for how in ways:
        events = (Seal(), Move(position=1, how=how))
        case = replace(held((), (1,)), owners=("state",), events=events)
        found = expect_capture(case)
        assert isinstance(found, ExpectedCapture)
        assert is_legal(case)
        assert (found.events[1].refused is not None) == (how != "data")


@pytest.mark.parametrize(
    "change",
    [
        {"events": (Replay(given=(floats(1.0),)),)},
        {"events": (Replay(given=(1,)),)},
        {"events": (Write(position=0, content=floats(1.0)),)},
        {"events": (Move(position=1, how="back"),)},
        {"events": (Move(position=1, how="drop"), Move(position=1, how="data"))},
        {"events": (Move(position=0, how="drop"),)},
        {"events": (Create(position=1),)},
        {"owners": ("kv_cache",)},
        {"trap": "nonsense"},
        {"at": 9},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_cannot_be_done_is_no_case(change: dict):
    case = held((), (1,))
    assert is_legal(case)
    assert not is_legal(replace(case, **change))


def test_rows_that_pad_have_no_slot():
    cases = [padded_case(SeededChooser(0, "slots", i)) for i in range(12)]
    case = next(c for c in cases if -1 in c.padding and c.body.steps[-1].target.startswith("ir."))
    assert is_legal(case)
    assert not is_legal(replace(case, padding=tuple(abs(p or 0) for p in case.padding)))


def test_a_result_that_has_no_rows_must_not_be_said_to_have_them():
    case = padded_case(SeededChooser(0, "rows"))
    flat = ProgramStep("aten.view.default", (Value(0), (-1,)))
    last = len(case.body.inputs) + sum(s.results for s in case.body.steps)
    body = replace(case.body, steps=(*case.body.steps, flat), outputs=(last,))
    wide = replace(case, body=body, batched=(True,))
    width = case.body.input_view(0).shape[1]
    found = expect_capture(wide)
    assert (found == Unknown("result-without-rows")) == (width > 1)
