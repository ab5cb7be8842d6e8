"""No case that Hypothesis draws makes our own implementation disagree with the reference.

`irverify run` draws its cases blindly. Here Hypothesis draws them, so that what it knows of a
search (mutation of what was drawn, a database of what failed, shrinking of choices) is used too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st

from fuzz.chooser import Chooser
from fuzz.profiles import examples
from fuzz.strategies import captures, connectors, programs, refused_transfers, states, transfers
from fuzz.strategies.hypothesis import built, illegal_cases, legal_cases
from oracle.engine import started_pool
from oracle.plan import Selection
from oracle.pool import Pool
from oracle.single import check_once
from oracle.verdict import Outcome
from oracle.worker import CheckRequest
from reference.legal import DECLARATIONS

FAULTY = Path(__file__).parents[1] / "mutants/kernels/eight_rms_norms.py"
EXAMPLES = 12
"""Of each search under the profile `default`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Cases for one property, and the providers and routes that they are driven through."""

    prop: str
    cases: st.SearchStrategy[Any]
    drives: tuple[tuple[str, str], ...]


def _calls(op: str, prop: str, cases: st.SearchStrategy[Any]) -> Search:
    providers = ("native", "split_k") if op == "paged_decode_attention" else ("native",)
    return Search(
        prop=prop,
        cases=cases,
        drives=tuple((p, route) for p in providers for route in ("eager", "eager-unwrapped")),
    )


def _built(prop: str, build: Callable[[Chooser], Any], provider: str, *routes: str) -> Search:
    return Search(prop=prop, cases=built(build), drives=tuple((provider, r) for r in routes))


def _refused_transfer(chooser: Chooser) -> Any:
    return refused_transfers.refused_case(chooser, chooser.choose(refused_transfers.RULES))


FX = ("fx-cold", "fx-warm", "fx-uncached", "fx-blind")
SEARCHES = {
    **{f"numerics {op}": _calls(op, "numerics", legal_cases(op)) for op in DECLARATIONS},
    **{f"contract {op}": _calls(op, "contract", legal_cases(op)) for op in DECLARATIONS},
    **{f"refusals {op}": _calls(op, "contract", illegal_cases(op)) for op in DECLARATIONS},
    "lowering, calls": _built(
        "lowering", programs.lowering_case, "passes", *FX, "fx-inplace", "fx-perturbed"
    ),
    "lowering, others": _built("lowering", programs.program_case, "passes", *FX),
    "clones, mixed": _built("clones", programs.program_case, "passes", "fx-pass", *FX),
    "clones, removable": _built("clones", programs.removable_clone_case, "passes", "fx-pass", *FX),
    "clones, needed": _built("clones", programs.needed_clones_case, "passes", "fx-pass", *FX),
    "clones, copied over": _built("clones", programs.copied_over_case, "passes", "fx-pass", *FX),
    "transfer": _built("transfer", transfers.transfer_case, "planner", "planned", "memory"),
    "transfer, refused": _built("transfer", _refused_transfer, "planner", "planned", "memory"),
    "state": _built("state", states.state_case, "registry", "eager", "unwrapped"),
    "addresses": _built("addresses", captures.drawn_case, "host", "host"),
    "addresses, calls": _built("addresses", captures.called_case, "host", "host"),
    "addresses, padded": _built("addresses", captures.padded_case, "host", "host"),
    "addresses, refused": _built("addresses", captures.refused_case, "host", "host"),
    "addresses, shared": _built("addresses", captures.shared_case, "host", "host"),
    "connector": _built("connector", connectors.connector_case, "runner", "run"),
    "connector, by hand": _built("connector", connectors.by_hand_case, "runner", "run"),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with started_pool(Selection(workers=1)) as started:
        yield started


def _outcomes(pool: Pool, prop: str, case: Any, provider: str, route: str) -> set[Outcome]:
    request = CheckRequest(
        prop=prop, subject="ir", case=case, provider=provider, route=route, contract=None
    )
    return {result.verdict.outcome for result in check_once(pool, request, "cpu")}


@pytest.mark.parametrize("name", SEARCHES)
@settings(max_examples=examples(EXAMPLES))
@given(data=st.data())
def test_no_case_that_hypothesis_draws_disagrees(name: str, pool: Pool, data: st.DataObject):
    search = SEARCHES[name]
    case = data.draw(search.cases)
    provider, route = data.draw(st.sampled_from(search.drives))
    outcomes = _outcomes(pool, search.prop, case, provider, route)
    assert Outcome.DISAGREES not in outcomes
    # What nothing was decided of is no example.
    assume(Outcome.AGREES in outcomes)


def test_a_search_finds_a_fault_and_makes_it_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUTANT_FAULTS", "1")
    with started_pool(Selection(workers=1, imports=(str(FAULTY),))) as pool:
        found = find(
            legal_cases("rms_norm"),
            lambda case: (
                Outcome.DISAGREES in _outcomes(pool, "numerics", case, "odd_last_column", "eager")
            ),
            settings=settings(max_examples=examples(1_000), database=None),
            random=Random(0),
        )
    assert found.largest_input <= 4
