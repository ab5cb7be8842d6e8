"""Connector cases: sound, repeatable, and as varied as the claims that they are for."""

from collections import Counter
from dataclasses import replace

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.connectors import (
    by_hand_case,
    compiled_case,
    connector_case,
    generated_case,
    refused_case,
)
from reference.model import case_from_json, case_to_json
from reference.model.connector import CALLS, DAMAGES, MODELS, ByHand, Damage, Dummy, Restart, Serve
from reference.model.memory_codec import CaseFormatError
from reference.serving import expect_run, legal

DRAWS = (connector_case, by_hand_case, refused_case, compiled_case, generated_case)
COUNT = 300


@pytest.fixture(scope="module")
def served():
    return [connector_case(SeededChooser(0, "served", i)) for i in range(COUNT)]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda d: d.__name__)
def test_cases_are_legal_follow_from_the_seed_and_survive_json(draw):
    for i in range(60):
        case = draw(SeededChooser(5, "law", i))
        assert legal(case)
        assert draw(SeededChooser(5, "law", i)) == case
        assert case_from_json(case_to_json(case)) == case


def test_every_connector_mode_dtype_and_kind_of_event_comes(served):
    assert {c.connector for c in served} == {"none", "file", "staged", "undeclared"}
    assert {c.mode for c in served} == {"eager", "piecewise", "full"}
    assert len({c.dtype for c in served}) == 4
    events = [e for c in served for e in c.events]
    assert {type(e) for e in events} == {Serve, Dummy, Restart, Damage}
    assert {e.model for e in events if isinstance(e, Restart)} == set(MODELS)
    assert {e.how for e in events if isinstance(e, Damage)} == set(DAMAGES)


def test_prompts_end_at_block_boundaries_and_beside_them(served):
    ends = Counter(
        len(r.prompt) % c.size.block_size
        for c in served
        if c.size.block_size == 4
        for e in c.events
        if isinstance(e, Serve)
        for r in e.requests
    )
    assert all(ends[end] >= 10 for end in (0, 1, 3))


def test_what_happens_is_worth_judging(served):
    seen: Counter[str] = Counter()
    for case in served:
        run = expect_run(case)
        for step in run.steps:
            if step.moved is None:
                continue
            seen["received"] += len(step.moved.received)
            seen["sent"] += len(step.moved.sent)
            seen["died"] += step.moved.died
            seen.update(f"failed {why}" for why in step.moved.failed.values())
            seen["bystanders"] += bool(step.moved.failed) and len(step.rows) > 1
        starts = [r for e in case.events if isinstance(e, Serve) for r in e.requests]
        seen["local hits"] += any(r.start and not r.load and not r.generated for r in starts)
        seen["decoded"] += any(r.generated for r in starts)
        seen["aborted"] += any(isinstance(e, Serve) and e.finished for e in case.events)
    least = {
        "received": 60,
        "sent": 150,
        "died": 5,
        "failed load": 30,
        "failed save": 10,
        "bystanders": 10,
        "local hits": 30,
        "decoded": 60,
        "aborted": 60,
    }
    assert {name: seen[name] for name in least if seen[name] < least[name]} == {}


def test_a_preempted_request_comes_again_in_other_blocks(served):
    again = 0
    for case in served:
        first: dict[str, int] = {}
        for event in case.events:
            if isinstance(event, Restart):
                first = {}
            if isinstance(event, Serve):
                for r in event.requests:
                    again += first.get(r.name, 0) > r.stop
                    first[r.name] = r.stop
    assert again >= 3


def test_calls_by_hand_are_in_and_out_of_their_place():
    admitted: Counter[tuple[str, bool]] = Counter()
    for i in range(200):
        case = by_hand_case(SeededChooser(0, "hand", i))
        for step, event in zip(expect_run(case).steps[1:], case.events, strict=True):
            assert isinstance(event, ByHand)
            admitted.update(
                (call, due) for (call, _), due in zip(event.calls, step.admitted, strict=True)
            )
    assert {call for call, due in admitted if due} == set(CALLS)
    assert {call for call, due in admitted if not due} == set(CALLS)


def test_refused_cases_are_refused():
    for i in range(30):
        assert expect_run(refused_case(SeededChooser(0, "refused", i))).refused


def test_a_restart_that_names_no_model_is_of_the_first_and_an_unknown_one_is_refused():
    case = replace(connector_case(SeededChooser(0, "codec")), events=(Restart("n"),))
    data = case_to_json(case)
    assert data["events"] == [{"event": "restart", "model": "n"}]
    older = {**data, "events": [{"event": "restart"}]}
    assert case_from_json(older) == replace(case, events=(Restart(MODELS[0]),))
    with pytest.raises(CaseFormatError, match="model 'o'; accepted: 'm', 'n'"):
        case_from_json({**data, "events": [{"event": "restart", "model": "o"}]})
