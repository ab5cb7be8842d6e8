"""The engine end to end, on the reference dressed as a subject: quick, and it must agree."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from oracle import engine, running
from oracle.checking import CaseChecker
from oracle.engine import describe, run
from oracle.errors import OwnFault, UsageError
from oracle.events import CaseDone, Checked, Event, Finished, Found, Started
from oracle.kinds import ALL_OPS, kind_of_op
from oracle.known import Known, KnownEntry
from oracle.observation import Died
from oracle.plan import Selection, Unit
from oracle.pool import Child
from oracle.properties import PROPERTIES
from oracle.store import Store
from oracle.subjects import SubjectOptions
from oracle.subjects.reference import ReferenceSubject
from oracle.verdict import Outcome, fingerprint

SMALL = Selection(subjects=("reference",), budget=180, workers=1)


def _events(selection: Selection) -> list[Event]:
    events = list(run(selection))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    return events


def _finished(selection: Selection) -> Finished:
    finished = _events(selection)[-1]
    assert isinstance(finished, Finished)
    return finished


@pytest.mark.parametrize("prop", list(PROPERTIES))
def test_the_reference_agrees_with_itself(prop: str):
    finished = _finished(replace(SMALL, properties=(prop,), budget=400))
    assert finished.exit_code == 0
    assert finished.counts.disagrees == 0
    assert finished.counts.agrees > 400
    assert finished.counts.undecided < 0.05 * finished.counts.checks
    assert finished.nothing_decided == ()


def test_one_worker_and_two_give_the_same_events_in_the_same_order():
    def told(workers: int) -> list[object]:
        told: list[object] = []
        for event in _events(replace(SMALL, workers=workers)):
            match event:
                case Started():
                    told.append(replace(event, workers=0))
                case Finished():
                    rows = tuple(replace(row, seconds=0.0) for row in event.rows)
                    told.append((event.counts, rows, event.exit_code, event.nothing_decided))
                case Checked() | CaseDone():
                    told.append(event if isinstance(event, Checked) else "case")
        return told

    one, two = told(1), told(2)
    assert one == two
    assert len(one) > 180


def test_another_seed_gives_other_cases():
    def cases(seed: int) -> set[str]:
        chosen = replace(SMALL, seed=seed, ops=("rms_norm",), budget=40)
        return {e.result.case for e in _events(chosen) if isinstance(e, Checked)}

    assert len(cases(0)) == 40
    assert cases(0) == cases(0)
    assert cases(0) & cases(1) == set()


def test_every_planned_case_is_done_and_counted():
    events = _events(SMALL)
    started, finished = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert started.planned_cases == 180
    done = [e.done for e in events if isinstance(e, CaseDone)]
    assert sorted(done) == list(range(1, 181))
    outcomes = Counter(e.result.verdict.outcome for e in events if isinstance(e, Checked))
    counts = finished.counts
    assert finished.cases == 180
    assert counts.checks == outcomes.total()
    assert (counts.agrees, counts.undecided) == (
        outcomes[Outcome.AGREES],
        outcomes[Outcome.UNDECIDED],
    )


def test_a_case_that_is_planned_twice_is_done_twice_and_counted_once():
    chosen = replace(SMALL, ops=("rms_norm",), budget=10)
    finished = _finished(replace(chosen, subjects=("reference", "reference")))
    assert (finished.cases, finished.counts.cases) == (20, 10)


def test_a_planned_case_that_nobody_did_is_our_fault(monkeypatch: pytest.MonkeyPatch):
    def loses(unit: Unit, *_: object) -> tuple[Unit, list[object]]:
        return replace(unit, stop=unit.stop - 1), []

    monkeypatch.setattr(engine, "given_up", loses)
    chosen = replace(SMALL, properties=("contract",), ops=("rms_norm",), dtypes=("float32",))
    with pytest.raises(OwnFault, match=r"^8 cases were done; planned: 10$"):
        _events(replace(chosen, budget=10))


def _dying(monkeypatch: pytest.MonkeyPatch, *, number: int, times: int) -> None:
    """End the process that is about to be given unit ``number``, so many times."""
    left = [number] * times
    give = engine._Run._give

    def gives(run, child, waiting, held):
        if waiting and left and waiting[-1].number == left[-1]:
            left.pop()
            child.process.kill()
            child.process.join()
        give(run, child, waiting, held)

    monkeypatch.setattr(engine._Run, "_give", gives)


@pytest.mark.parametrize("number", [0, 2])
def test_a_death_at_the_edge_of_a_unit_costs_no_check(monkeypatch: pytest.MonkeyPatch, number: int):
    chosen = replace(SMALL, properties=("contract",), ops=("rms_norm",), budget=60)
    undisturbed = _finished(chosen)
    _dying(monkeypatch, number=number, times=1)
    finished = _finished(chosen)
    assert (finished.counts, finished.cases) == (undisturbed.counts, 60)
    assert finished.exit_code == 0
    assert set(finished.notes) - set(undisturbed.notes) == {
        "a worker ended before its first call of contract/rms_norm: SIGKILL; another took over"
    }


WRONG = replace(
    SMALL,
    properties=("numerics",),
    ops=("rms_norm",),
    providers=("fp32-weight",),
    contract="rms_norm/1",
    budget=120,
)


def test_what_was_seen_before_a_fault_of_ours_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    store = Store(tmp_path / "findings")
    _dying(monkeypatch, number=5, times=2)
    events: list[Event] = []
    with pytest.raises(OwnFault, match=r"before its first call of numerics/rms_norm: SIGKILL"):
        events.extend(run(WRONG, store))
    # ``extend`` keeps what came before the error.
    assert [(e.finding.kind, e.known) for e in events if isinstance(e, Found)] == [("value", "")]
    assert len(store.fingerprints()) == 1
    assert not any(isinstance(e, Finished) for e in events)


def test_what_was_selected_and_not_decided_is_named_and_exits_3():
    finished = _finished(replace(SMALL, ops=("rms_norm",), budget=1))
    assert finished.exit_code == 3
    assert finished.nothing_decided == (
        "reference numerics rms_norm 1 reference",
        "reference numerics rms_norm fp32-weight reference",
    )


def test_a_judge_that_decided_nothing_is_named_and_exits_3_though_another_agrees():
    prop = PROPERTIES["numerics"]
    (*_, free) = (s for s in prop.streams("rms_norm", "float32") if not s.fixed_count)

    def values(seed: int) -> str:
        case = free.case(seed, 0)
        checker = CaseChecker(ReferenceSubject(SubjectOptions()), prop, case, "cpu")
        _completion, result = checker.observe("1", "reference", None, interpreted=False)
        return result.verdict.kind

    seed = next(seed for seed in range(100) if values(seed) == "bound-too-wide")
    chosen = replace(SMALL, ops=("rms_norm",), properties=("numerics",), dtypes=("float32",))
    finished = _finished(replace(chosen, providers=("1",), budget=1, seed=seed))
    assert (finished.counts.agrees, finished.counts.undecided) == (1, 1)
    assert finished.nothing_decided == (
        "reference numerics rms_norm 1 reference, judge values: bound-too-wide 1",
    )
    assert finished.exit_code == 3


def test_a_route_of_no_property_decides_nothing_at_all():
    chosen = replace(SMALL, properties=("contract",), ops=("rms_norm",), dtypes=("float16",))
    assert _finished(replace(chosen, budget=5)).exit_code == 0
    only = _finished(replace(chosen, subjects=("ir",), routes=("caller",), budget=5))
    why = "rms_norm native goes eager, eager-unwrapped; rms_norm triton goes eager, eager-unwrapped"
    assert only.exit_code == 3
    assert only.nothing_decided == (f"no case was decided at all: {why}",)


def test_a_provider_of_another_op_decides_nothing_at_all():
    chosen = replace(SMALL, subjects=("ir",), properties=("numerics",), ops=("silu_and_mul",))
    finished = _finished(replace(chosen, providers=("split_k",), budget=5))
    why = "no op of the selection has the provider; there is paged_decode_attention split_k"
    assert finished.nothing_decided == (f"no case was decided at all: {why}",)


def test_few_telling_cases_are_named():
    finished = _finished(replace(SMALL, ops=("rms_norm",), dtypes=("float16",), budget=12))
    assert [line.partition(": ")[0] for line in finished.thin] == [
        "reference rms_norm 1 float16 reference",
        "reference rms_norm fp32-weight float16 reference",
    ]
    contract = replace(SMALL, ops=("rms_norm",), properties=("contract",), budget=12)
    assert _finished(contract).thin == ()


def _known(version: str) -> Known:
    names = {
        "subject": "reference",
        "op": "static_quant_fp8",
        "provider": "1",
        "route": "reference",
        "kind": "value",
        "output": "y",
    }
    entry = KnownEntry(
        **names,
        version=version,
        property="contract",
        fingerprint=fingerprint(prop="contract", **names),
        reason="rounds twice",
        link="https://example.org",
    )
    return Known((entry,))


QUICK = Selection(
    subjects=("reference",), ops=("static_quant_fp8",), properties=("contract",), workers=1
)


def _knowing(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(Known, "load", classmethod(lambda cls, path=None: _known(version)))


def _version() -> str:
    return ReferenceSubject(SubjectOptions()).version()


def test_a_known_disagreement_that_is_gone_fails_the_run(monkeypatch: pytest.MonkeyPatch):
    _knowing(monkeypatch, _version())
    finished = _finished(QUICK)
    assert finished.exit_code == 1
    assert [line.partition(": ")[2] for line in finished.unreproduced] == ["rounds twice"]
    # A disagreement comes before what was not decided.
    monkeypatch.setattr(engine, "nothing_decided", lambda *_: ("something",))
    assert _finished(QUICK).exit_code == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": 10},
        {"dtypes": ("float32",)},
        {"contract": "static_quant_fp8/reciprocal"},
        {"properties": ("numerics",)},
        {"providers": ("reciprocal",)},
    ],
    ids=str,
)
def test_a_run_that_did_not_look_for_it_cannot_miss_it(monkeypatch, changes):
    _knowing(monkeypatch, _version())
    assert _finished(replace(QUICK, **changes)).unreproduced == ()


def test_a_disagreement_known_of_another_version_is_not_looked_for(monkeypatch):
    _knowing(monkeypatch, "numpy 1.0")
    assert _finished(QUICK).unreproduced == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": ("vllm",)}, "subject 'vllm'; accepted: ir, reference"),
        ({"properties": ("taste",)}, "property 'taste'; accepted: numerics, contract"),
        ({"ops": ("softmax",)}, "op 'softmax'; accepted: rms_norm, "),
        ({"contract": "rms_norm/9"}, "contract 'rms_norm/9'; accepted: rms_norm/1, "),
        ({"dtypes": ("int8",)}, "dtype 'int8'; accepted: float32, float16, bfloat16"),
        ({"providers": ("cuda",)}, "provider 'cuda'; accepted: 1, "),
        ({"routes": ("lowered",)}, "route 'lowered'; accepted: reference"),
        ({"workers": -1}, "workers -1; accepted: 1 or more"),
        ({"case_timeout": 0.0}, "case timeout 0.0; accepted: seconds above 0"),
        ({"budget": 0}, "budget 0; accepted: quick, full or a number of cases >= 1"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused_with_what_there_is(changes, message: str):
    with pytest.raises(UsageError) as error:
        list(run(replace(SMALL, **changes)))
    assert str(error.value).startswith(message)


def test_a_subject_that_dies_while_it_starts_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("oracle.pool.Pool.ask", lambda *_: Died("SIGILL"))
    with pytest.raises(UsageError, match=r"'reference' could not be started: .* \(SIGILL\)"):
        describe(SMALL)


def test_a_message_that_no_unit_sends_is_our_fault(tmp_path: Path):
    state = engine._Run(SMALL, Store(tmp_path), None)  # type: ignore[arg-type]
    unit = Unit(
        number=0,
        prop="contract",
        subject="reference",
        op="rms_norm",
        dtype="float32",
        stream="legal",
        start=0,
        stop=1,
        seed=0,
        drives=(),
    )
    child = Child(None, None, 0.0)  # type: ignore[arg-type]
    with pytest.raises(OwnFault, match="a worker sent 'poem', which a unit does not send"):
        state._absorb(child, unit, ("poem",), {}, set(), None, [])  # type: ignore[arg-type]


def test_an_error_in_a_judge_stops_the_run_and_names_the_case(monkeypatch: pytest.MonkeyPatch):
    def broken(_name: str) -> None:
        raise ZeroDivisionError("in a judge")

    monkeypatch.setattr("oracle.checking.judge_named", broken)
    prop = PROPERTIES["contract"]
    stream = prop.streams("rms_norm", "float32")[0]
    checker = CaseChecker(ReferenceSubject(SubjectOptions()), prop, stream.case(0, 0), "cpu")
    with pytest.raises(OwnFault, match=r"judging rms_norm case \w+ \(1, reference\) failed"):
        list(checker.observe("1", "reference", None, interpreted=False))


def test_ndjson_has_one_event_a_line_and_ends_with_finished(tmp_path: Path, capsys):
    path = tmp_path / "events.ndjson"
    code = running.run_to_reports(replace(SMALL, ops=("rms_norm",), budget=20), path)
    assert code == 0
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0] == {
        "event": "started",
        "seed": 0,
        "budget": 20,
        "workers": 1,
        "planned_cases": 20,
        "versions": {"reference": _version()},
        "unavailable": [],
    }
    verdicts = lines[1:-1]
    assert {tuple(line) for line in verdicts} == {
        (
            "event",
            "subject",
            "property",
            "op",
            "provider",
            "route",
            "dtype",
            "judge",
            "case",
            "outcome",
            "kind",
            "fingerprint",
            "telling",
            "place",
        )
    }
    assert {line["event"] for line in verdicts} == {"verdict"}
    assert {line["op"] for line in verdicts} == {"rms_norm"}
    assert {line["fingerprint"] for line in verdicts} == {""}
    last = lines[-1]
    assert last["event"] == "finished"
    assert last["exit_code"] == 0
    assert last["cases"] == 20
    assert last["counts"]["checks"] == len(verdicts)
    assert set(last["counts"]) == {
        "cases",
        "checks",
        "agrees",
        "disagrees",
        "undecided",
        "not_applicable",
    }
    assert "all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OwnFault("a judge failed"), "irverify: a judge failed\n"),
        (UsageError("no"), "irverify: no\n"),
        (OSError(28, "No space left on device"), "irverify: [Errno 28] No space left on device\n"),
    ],
)
def test_wrong_use_and_our_faults_exit_2_whatever_was_found_before(
    monkeypatch, capsys, error: Exception, said: str
):
    def breaks(_selection, _store=None):
        raise error
        yield

    monkeypatch.setattr(running, "run", breaks)
    assert running.run_to_reports(SMALL, None) == 2
    assert capsys.readouterr().err == said


def test_a_file_that_cannot_be_written_exits_2(tmp_path: Path, capsys):
    assert running.run_to_reports(SMALL, tmp_path / "none" / "x") == 2
    assert capsys.readouterr().err.startswith("irverify: [Errno 2]")


def test_every_op_has_a_first_dtype():
    assert all(kind_of_op(op).dtypes(op) for op in ALL_OPS)


def test_disagreements_beyond_what_a_run_shrinks_are_named_and_fail_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("oracle.findings.REPORTED", 0)
    finished = _finished(WRONG)
    assert finished.exit_code == 1
    assert finished.unshrunk == ("reference rms_norm fp32-weight: values: value y",)
