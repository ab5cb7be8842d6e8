"""What the property of clones says of a run, and what it demands of a large one."""

from oracle.properties.clones import ENOUGH, WITH, WITHOUT, demands, summary

FEW = {WITH: ENOUGH - 1, WITHOUT: 3, "removable": 1_000, "removed": 10}


def test_a_large_run_must_remove_98_percent_of_what_can_go():
    large = FEW | {WITH: ENOUGH}
    assert demands(large | {"removed": 980}) == ()
    assert demands(large | {"removed": 979}) == (
        "clones: 97.9 % of what can go is removed, at least 98 % wanted",
    )


def test_a_small_run_says_how_much_and_demands_nothing_of_it():
    assert demands(FEW) == ()
    assert summary(FEW) == (
        "removed 10 of 1,000 clones that can go (1.0 %), in 499 programs that have one",
        "removed 0 in 3 programs that have none",
    )


def test_a_clone_that_cannot_go_fails_a_run_of_any_size():
    assert demands({WITHOUT: 1, "removed of none": 1}) == (
        "clones: 1 removed in programs in which none can go, 0 wanted",
    )


def test_nothing_is_said_of_an_optimum_that_nobody_was_held_to():
    assert summary({"route fx-pass": 7}) == ()
