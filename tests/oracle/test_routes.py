"""Every route of the IR, driven once through the engine."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fuzz.chooser import SeededChooser
from fuzz.strategies import fixed_signatures, legal_case
from oracle.engine import run
from oracle.events import Checked, Finished
from oracle.plan import Selection
from oracle.store import Store
from oracle.subjects.ir_routes import ROUTES, Routes
from reference.legal import DECLARATIONS


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


@pytest.mark.parametrize("route", ["caller", "opaque"])
def test_each_provider_has_a_compiled_caller_of_its_own_and_keeps_it(route: str, monkeypatch):
    import ir.ops

    declaration = DECLARATIONS["paged_decode_attention"]
    signature = fixed_signatures(declaration, "float32")[0]
    cases = [legal_case(declaration, signature, SeededChooser(0, i)) for i in range(4)]
    callers = []
    compiled = torch.compile

    def counted(function: Callable[..., Any], **options: Any) -> Any:
        callers.append(function.__code__)
        return compiled(function, **options)

    monkeypatch.setattr(torch, "compile", counted)
    routes = Routes("cpu")
    for case in cases:
        for provider in ("native", "split_k"):
            routes.driver(ir.ops.paged_decode_attention, provider, route, case)
    assert len(callers) == len(set(callers)) == 2
