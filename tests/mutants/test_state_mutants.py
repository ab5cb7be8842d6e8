"""Faults of code that keeps state, planted: each is seen and shrinks to a pinned script."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.states import state_case
from ir.state.context import leaks
from oracle.checking import CaseChecker
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import kind_named
from oracle.properties import PROPERTIES
from oracle.script import ScriptError
from oracle.shrink import shrink
from oracle.subject import Probes, Subject
from oracle.subjects.state import observe_ir
from oracle.verdict import Outcome, Place, Verdict
from reference.model import StateAction, StateCase
from reference.state import expect_state

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FAULTS = run_path(str(Path(__file__).parent / "kernels" / "states.py"))["FAULTS"]

EAGER: dict[tuple[str, str, str], str] = {
    ("replaced_after_the_capture", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; seal g; register 'a' for all, tensor, again"
    ),
    ("grows_after_the_capture", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; seal g; grow a to 1"
    ),
    ("sealed_states_are_not_looked_at", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; get a; seal g; resize a; verify"
    ),
    ("created_after_the_capture", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; seal g; get a"
    ),
    ("anything_may_be_used", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; ask for a where nothing is declared"
    ),
    ("any_number_of_values_is_a_scope", "state-refusal", "not-refused"): (
        "register 'a' for all, tensor; exists a of 'x'"
    ),
    ("sealed_is_any_state_error", "state-refusal", "wrong-error"): (
        "register 'a' for all, tensor; seal g; get a"
    ),
    ("no_graph_is_named", "state-refusal", "unnamed"): (
        "register 'a' for all, tensor; seal g; get a"
    ),
    ("hidden_states_are_sealed", "state-refusal", "refused-legal"): (
        "register 'a' for all, tensor; get a; override a with tensor as 1; seal g; verify"
    ),
    ("ints_are_no_scopes", "state-refusal", "raised"): ("set rank=1 as 1"),
    ("racing_threads_both_create", "state-creation", "created-again"): (
        "register 'a' for all, tensor; race 2 threads for a in layer='x'"
    ),
    ("created_when_registered", "state-creation", "created-unasked"): (
        "register 'a' for all, tensor"
    ),
    ("looking_creates", "state-creation", "created-unasked"): (
        "register 'a' for all, tensor; exists a"
    ),
    ("created_in_no_scope", "state-creation", "created-elsewhere"): (
        "register 'a' for all, tensor; preallocate a in layer='x'"
    ),
    ("answers_outlive_overrides", "state-creation", "not-created"): (
        "register 'a' for all, tensor; get a; override a with tensor as 1; get a"
    ),
    ("copies_are_handed_out", "state-identity", "another-object"): (
        "register 'a' for all, tensor; get a"
    ),
    ("ranks_share", "state-identity", "shared"): (
        "register 'a' per layer, rank, tensor; preallocate a in rank=1; layer='x'; get a"
    ),
    ("ranks_share", "state-isolation", "wrote-another"): (
        "register 'a' per layer, rank, tensor; get a; set rank='x' as 1; call op of a with 1 "
        "times 1"
    ),
    ("providers_write_copies", "state-values", "content"): (
        "register 'a' for all, tensor; call op of a with 1 times 1"
    ),
    ("answers_outlive_overrides", "state-values", "output"): (
        "register 'a' for all, tensor; call op of a with 1 times 1; "
        "override a with tensor as 1; call op of a with 1 times 1"
    ),
    ("refused_values_are_written", "state-values", "content"): ("replace a by tensor 1"),
    ("half_entered_scopes_stay", "state-facts", "scope"): (
        "enter layer='x', rank=True as 1; get-scope layer"
    ),
    ("reset_restores_nothing", "state-facts", "scope"): (
        "model 0: op of a in layer=1; run model 0 with 1 times 1, 1 times; get-scope layer"
    ),
    ("hidden_states_exist", "state-facts", "exists"): (
        "register 'a' for all, tensor; override a with tensor as 1; get a; exists a"
    ),
    ("hidden_states_are_planned", "state-facts", "plan"): (
        "register 'a' for all, tensor; get a; override a with tensor as 1; plan a in nothing"
    ),
    ("elements_are_called_bytes", "state-facts", "description"): (
        "register 'a' for all, tensor; get a; describe"
    ),
    ("only_dicts_are_looked_into", "state-facts", "description"): (
        "register 'a' for all, nested; get a; describe"
    ),
    ("calls_move_their_states", "state-addresses", "moved"): (
        "register 'a' for all, tensor; get a; call op of a with 1 times 1"
    ),
}
"""What each fault shrinks to without a compiler, by fault, judge and kind."""

COMPILED: dict[tuple[str, str, str], str] = {
    ("compiling_creates_anew", "state-creation", "created-again"): (
        "model 0: op of a, then op of a; register 'a' for all, tensor; "
        "run model 0 with 1 times 1, 1 times"
    ),
    ("handles_are_frozen", "state-values", "output"): (
        "model 0: op of a; register 'a' for all, handle; "
        "run model 0 with 2 times 1, 1 times; override a with tensor as 1; "
        "run model 0 with 2 times 1, 1 times"
    ),
    ("updates_are_lost_in_graphs", "state-values", "content"): (
        "model 0: op of a; register 'a' for all, tensor; run model 0 with 1 times 1, 1 times"
    ),
    ("states_are_ordinary_inputs", "state-clones", "clone-left"): (
        "model 0: op of a; register 'a' for all, tree; run model 0 with 1 times 1, 1 times"
    ),
}
"""The same through our backend."""

SMALLEST = EAGER | COMPILED

SHOWS_FIRST = {"compiling_creates_anew": 2, "handles_are_frozen": 27}
"""The compiled script to begin with, where many before it show nothing or shrink less far."""

ROWS: dict[str, tuple[str, ...]] = {
    "flashinfer#4398": ("grows_after_the_capture", "sealed_states_are_not_looked_at"),
    "vllm#45487": ("grows_after_the_capture", "created_after_the_capture"),
    "vllm#11596": (
        "calls_move_their_states",
        "copies_are_handed_out",
        "sealed_states_are_not_looked_at",
    ),
    "vllm#48251": ("replaced_after_the_capture",),
}
"""The rows of class 3 of the bugs that judges must see which a state can have: faults like them."""

RARE = {"crash", "timeout"}
"""Kinds for what ends a process: tests of the engine show them."""


class Registry:
    """``ir.state`` in this process, so that a fault can be planted."""

    name = "ir"

    def observe(self, case, provider: str, route: str, probes: Probes):
        return observe_ir(case, route)


@contextmanager
def planted(fault: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # A graph break in a scope, in any test before, ends the remembering of answers for good.
        patch.setattr(leaks, "possible", False)
        FAULTS[fault](patch)
        yield


def disagreements(case: StateCase, route: str) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Registry()), PROPERTIES["state"], case, "cpu")
    results = checker.observe("registry", route, None, interpreted=False)
    return [r.verdict for r in results if r.verdict.outcome is Outcome.DISAGREES]


def cases(route: str, first: int = 0) -> Iterator[StateCase]:
    compiled = route == "backend"
    for i in range(first, 60 if compiled else 700):
        yield state_case(SeededChooser(0, "mutants", i), compiled=compiled)


def smallest(fault: str, judge: str, kind: str, route: str, first: int = 0) -> str:
    """The script to which a fault's disagreement shrinks, as the report prints it."""

    def shows(case: StateCase) -> bool:
        return any((v.judge, v.kind) == (judge, kind) for v in disagreements(case, route))

    with planted(fault):
        found = next(case for case in cases(route, first) if shows(case))
        shrunk = shrink(found, shows, limit=1_500 if route == "eager" else 200).case
    assert disagreements(shrunk, route) == []
    return "; ".join(kind_named("state").lines(shrunk))


@pytest.mark.parametrize(("fault", "judge", "kind"), EAGER)
def test_a_fault_is_seen_and_shrinks_to_the_smallest_script(fault: str, judge: str, kind: str):
    assert smallest(fault, judge, kind, "eager") == EAGER[fault, judge, kind]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "judge", "kind"), COMPILED)
def test_a_fault_of_compiled_code_is_seen_too(fault: str, judge: str, kind: str):
    first = SHOWS_FIRST.get(fault, 0)
    assert smallest(fault, judge, kind, "backend", first) == COMPILED[fault, judge, kind]


def test_every_fault_is_planted_and_every_row_has_one():
    assert {fault for fault, _, _ in SMALLEST} == set(FAULTS)
    assert {fault for row in ROWS.values() for fault in row} <= set(FAULTS)


def test_every_kind_of_every_judge_is_shown_by_a_fault():
    shown = {(judge, kind) for _, judge, kind in SMALLEST}
    kinds = {
        (judge, kind)
        for judge in PROPERTIES["state"].judges
        for kind in JUDGES[judge].kinds
        if kind not in RARE
    }
    assert kinds - shown == set()


def test_without_a_fault_the_same_scripts_agree():
    assert [case for case in list(cases("eager"))[:150] if disagreements(case, "eager")] == []


def script_of(case: StateCase, found: Verdict, route: str) -> str:
    finding = Finding(
        fingerprint="0" * 12,
        property="state",
        subject="ir",
        op="state",
        provider="registry",
        route=route,
        judge=found.judge,
        kind=found.kind,
        contract="",
        device="cpu",
        case=case,
        place=found.place or Place(name="action", observed="", expected=""),
        versions={"torch": "2.13.0"},
    )
    return kind_named("state").script(finding, expect_state(case))


def status_of(script: Path, fault: str = "") -> int:
    """The exit status of a script in a process of its own, with a fault planted or without."""
    kernel = Path(__file__).parent / "kernels" / "states.py"
    both = f"import runpy; runpy.run_path({str(kernel)!r}); "
    code = f"{both}runpy.run_path({str(script)!r}, run_name='__main__')"
    planting = {"MUTANT_FAULTS": "1", "STATE_FAULT": fault} if fault else {}
    environment = {**os.environ, **planting}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "route"),
    [("half_entered_scopes_stay", "eager"), ("updates_are_lost_in_graphs", "backend")],
)
def test_a_script_exits_1_while_the_fault_is_there_and_0_without(
    fault: str, route: str, tmp_path: Path
):
    with planted(fault):
        case, found = next((c, d[0]) for c in cases(route) if (d := disagreements(c, route)))
    script = tmp_path / "script.py"
    script.write_text(script_of(case, found, route))
    assert status_of(script, fault) == 1
    assert status_of(script) == 0


def test_no_script_is_made_of_actions_without_a_meaning():
    case = StateCase(actions=(StateAction(verb="reset", of=1),))
    with pytest.raises(ScriptError, match="no-such-token; accepted: legal ones"):
        script_of(case, Verdict(judge="state-facts", outcome=Outcome.DISAGREES), "eager")


@pytest.mark.slow
def test_a_run_finds_shrinks_and_writes_a_fault(judged, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STATE_FAULT", "created_in_no_scope")
    outcome = judged(
        "states", faulty=True, properties=("state",), routes=("eager", "unwrapped"), budget=80
    )
    assert outcome.finished.exit_code == 1
    assert {(f.judge, f.kind) for f in outcome.findings} >= {
        ("state-creation", "created-elsewhere")
    }
