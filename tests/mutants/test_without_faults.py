"""The files of all mutants without their faults: nothing is found."""

FILES = ("eight_rms_norms", "outputs", "whole_ops", "deadly")


def test_every_file_without_its_faults_is_clean(judged):
    outcome = judged(*FILES, faulty=False, routes=("eager", "eager-unwrapped"), budget=400)
    assert outcome.cases == {}
    counts = outcome.finished.counts
    assert counts.disagrees == 0
    assert counts.undecided < 0.05 * counts.checks
    assert outcome.finished.exit_code == 0
