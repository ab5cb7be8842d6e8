"""The files of all mutants without their faults: nothing is found."""

from reference.legal import DECLARATIONS

FILES = ("eight_rms_norms", "outputs", "whole_ops", "deadly")


def test_every_file_without_its_faults_is_clean(judged):
    # No file has a provider of an op that keeps state.
    ops = tuple(name for name, declared in DECLARATIONS.items() if not declared.states)
    routes = ("eager", "eager-unwrapped")
    outcome = judged(*FILES, faulty=False, ops=ops, routes=routes, budget=400)
    assert outcome.cases == {}
    counts = outcome.finished.counts
    assert counts.disagrees == 0
    assert counts.undecided < 0.05 * counts.checks
    assert outcome.finished.exit_code == 0
