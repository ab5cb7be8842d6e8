"""The last lines of a run say what was done and what made its exit code."""

from dataclasses import replace

import pytest

from oracle.checking import UlpHistogram
from oracle.events import Counts, Finished
from oracle.reports.text import closing_lines

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
