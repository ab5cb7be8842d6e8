"""What a report says last of a run, and of a finding: what was done, and what there is to do."""

from dataclasses import replace
from pathlib import Path

import pytest

from oracle.checking import UlpHistogram
from oracle.events import Counts, Finished
from oracle.finding import Finding
from oracle.reports.text import closing_lines, finding_lines
from oracle.store import NO_SCRIPT, SCRIPT
from oracle.verdict import Place
from reference.model import Argument, OpCase, Storage, View

AGREED = Finished(
    cases=12,
    counts=Counts(cases=12, checks=40, agrees=40),
    rows=(),
    nothing_decided=(),
    thin=(),
    unexcused=0,
    unreproduced=(),
    unshrunk=(),
    skipped=(),
    notes=(),
    unmet=(),
    histogram=UlpHistogram(),
    seconds=1.0,
    exit_code=0,
)
WRONG = replace(AGREED, counts=replace(AGREED.counts, agrees=30, disagrees=10))
UNDECIDED = replace(AGREED, counts=replace(AGREED.counts, agrees=30, undecided=10))
GONE = ("0123456789ab: rounds twice",)
UNMET = ("ir clones: removed 90 %",)


@pytest.mark.parametrize(
    ("finished", "last"),
    [
        (AGREED, "all agree (exit 0)"),
        (UNDECIDED, "all that was decided agrees (exit 0)"),
        (WRONG, "all that disagrees is known (exit 0)"),
        (replace(WRONG, unexcused=1, exit_code=1), "disagreements (exit 1)"),
        (
            replace(AGREED, unmet=UNMET, exit_code=1),
            "a claim about the run does not hold (exit 1)",
        ),
        (replace(WRONG, unreproduced=GONE, exit_code=1), "a known disagreement is gone (exit 1)"),
        (
            replace(WRONG, unexcused=2, unmet=UNMET, unreproduced=GONE, exit_code=1),
            "disagreements, a claim about the run does not hold, a known disagreement is gone "
            "(exit 1)",
        ),
        (
            replace(UNDECIDED, nothing_decided=("ir numerics",), exit_code=3),
            "nothing was decided for something that was selected (exit 3)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_last_line_names_what_made_the_exit_code(finished: Finished, last: str):
    assert closing_lines(finished)[-1] == last


def test_cases_that_two_streams_drew_are_counted_as_done_and_once_as_distinct():
    assert closing_lines(AGREED)[0] == "12 cases, 40 checks in 1 s"
    twice = replace(AGREED, counts=replace(AGREED.counts, cases=11))
    assert closing_lines(twice)[0] == "12 cases, 11 distinct, 40 checks in 1 s"


FINDING = Finding(
    fingerprint="0123456789ab",
    property="contract",
    subject="ir",
    op="silu_and_mul",
    provider="native",
    route="eager",
    judge="completion",
    kind="raised",
    contract="silu_and_mul/1",
    device="cpu",
    case=OpCase(
        "silu_and_mul",
        (Storage("float32", 2, bytes(8)),),
        (Argument("x", View(0, (2,), (1,))),),
    ),
    place=Place(name="call", observed="TypeError: no", expected="outputs"),
)


def _by_itself(folder: Path, finding: Finding = FINDING) -> list[str]:
    return [line for line in finding_lines(finding, folder) if line.startswith("  by itself")]


def test_a_script_is_named_where_there_is_one_and_else_why_there_is_none(tmp_path: Path):
    assert _by_itself(tmp_path) == []
    why = "results that no contract settles; accepted: exact ones\n"
    (tmp_path / NO_SCRIPT).write_text(why)
    assert _by_itself(tmp_path) == ["  by itself:    results that no contract settles"]
    (tmp_path / SCRIPT).touch()
    assert _by_itself(tmp_path) == [f"  by itself:    python {tmp_path}/script.py"]


def test_a_subject_that_has_no_scripts_needs_no_reason(tmp_path: Path):
    (tmp_path / NO_SCRIPT).write_text("no script for subject 'reference'; accepted: ir\n")
    assert _by_itself(tmp_path, replace(FINDING, subject="reference")) == []
