"""What the engine must know of a kind of case to run, judge, shrink and show its cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from oracle.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an expectation is asked under. ``rounding`` says whether a contract's optional
    roundings may be skipped on the route; ``contract`` None is the op's own."""

    contract: str | None = None
    rounding: Literal["strict", "optional"] = "strict"
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseKind:
    """One kind of case: ops, programs, transfers. The engine has no other knowledge of them.

    ``case``, ``expectation``, ``observation`` and ``evidence`` below are of the kind's own types;
    Raised, Died, Declined and Unavailable are observations of every kind.
    """

    name: str
    """As in a case's JSON (``reference.model.case_kind``)."""
    ops: tuple[str, ...]
    """What ``--op`` selects: the ``op`` of its cases."""
    dtypes: Callable[[str], tuple[str, ...]]
    """Of an op: what ``--dtype`` selects; ``("",)`` where the kind has no such axis."""
    expect: Callable[[Any, Terms], Any]
    """case, terms -> expectation"""
    unknown: Callable[[Any], str]
    """expectation -> why the reference cannot tell, as a slug; empty where it can."""
    evidence: Callable[[Any, Any, Any, Terms], Any]
    """case, expectation, observation, terms -> what the kind's judges are given."""
    dtype: Callable[[Any], str]
    """case -> its dtype, empty where the kind has no such axis."""
    telling: Callable[[Any], bool]
    """evidence -> whether agreeing on it says something."""
    measures: Callable[[Any], Mapping[str, int]]
    """evidence -> counts that the run adds up for its property's summary and demands."""
    passes: tuple[Callable[[Any], Iterator[Any]], ...]
    """Each yields cases strictly simpler than the given one and as legal, best first."""
    size: Callable[[Any], tuple[int, ...]]
    """case -> how large it is; the first number is shown, in ``unit``."""
    unit: str
    script: Callable[[Finding, Any], str]
    """finding, expectation -> a script that runs alone. Raises ``ScriptError``."""
    scripted: tuple[str, ...]
    """The subjects whose findings have scripts."""
    lines: Callable[[Any], list[str]]
    """case -> how people are shown it, one short line each."""
    contract: Callable[[str, str | None], str] = lambda _op, _contract: ""
    """op, declared contract -> the contract's full name; empty where the kind has none."""
    too_big_to_interpret: Callable[[Any], bool] = lambda _case: False
    """Whether Triton's interpreter is not asked, for its cost."""
