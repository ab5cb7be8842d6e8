"""Every route of the IR, driven once through the engine."""

from collections import defaultdict
from pathlib import Path

import pytest

from oracle.engine import run
from oracle.events import Checked, Finished
from oracle.plan import Selection
from oracle.store import Store
from oracle.subjects.ir_routes import ROUTES


@pytest.mark.slow
def test_native_is_decided_on_every_route(tmp_path: Path):
    chosen = Selection(
        properties=("numerics",),
        ops=("silu_and_mul",),
        providers=("native",),
        dtypes=("bfloat16",),
        budget=6,
        workers=1,
    )
    outcomes = defaultdict(set)
    finished = None
    for event in run(chosen, Store(tmp_path)):
        if isinstance(event, Checked):
            outcomes[event.result.route].add(event.result.verdict.outcome.value)
        if isinstance(event, Finished):
            finished = event
    assert finished is not None
    assert finished.exit_code == 0
    assert set(outcomes) == set(ROUTES)
    assert all("AGREES" in found and "DISAGREES" not in found for found in outcomes.values())
    # How far stock Inductor lies from eager is shown, never judged.
    assert sum(finished.histogram.counts["silu_and_mul", "bfloat16"]) > 0
