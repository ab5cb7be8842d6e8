"""How long Hypothesis searches: a moment in every test run, long in a fuzz job.

`HYPOTHESIS_PROFILE=fuzz` chooses the second.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

QUICK, LONG = 100, 5_000
"""Examples of a test that states no number of its own, under each profile."""


def register_profiles() -> None:
    """Register ``default`` and ``fuzz``, and load the one that HYPOTHESIS_PROFILE names."""
    settings.register_profile(
        "default", derandomize=True, deadline=None, print_blob=True, max_examples=QUICK
    )
    settings.register_profile(
        "fuzz",
        # Hypothesis's own CI profile derandomizes and drops the database; a search needs both.
        derandomize=False,
        database=DirectoryBasedExampleDatabase(
            Path(os.environ.get("IRVERIFY_EXAMPLES", ".irverify/examples"))
        ),
        deadline=None,
        max_examples=LONG,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def examples(quick: int) -> int:
    """The ``max_examples`` of a test that takes ``quick`` under the profile ``default``.

    A number written into a test's ``settings`` outranks every profile, so that a fuzz job would
    search no longer than any other run.
    """
    return quick * settings().max_examples // QUICK
