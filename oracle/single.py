"""One check by itself, through a worker: what shrinking and replay are made of."""

from __future__ import annotations

from typing import Any

from oracle.checking import CaseChecker, CheckResult
from oracle.crashes import Absent
from oracle.observation import Died
from oracle.pool import Pool
from oracle.properties import PROPERTIES
from oracle.verdict import Outcome
from oracle.worker import CheckRequest


def check_once(pool: Pool, request: CheckRequest, device: str) -> list[CheckResult]:
    """The verdicts of ``request``'s property; a death of the worker is an observation too."""
    reply = pool.ask(("check", request), "checked")
    if not isinstance(reply, Died):
        return reply[1]
    checker = CaseChecker(Absent(request.subject), PROPERTIES[request.prop], request.case, device)
    return list(checker.judge(request.provider, request.route, request.contract, reply))


def recheck(
    pool: Pool, like: CheckResult, case: Any, *, interpreted: bool, device: str
) -> CheckResult | None:
    """``case`` on the route of ``like``: the result with the same fingerprint, None where gone."""
    request = CheckRequest(
        prop=like.prop,
        subject=like.subject,
        case=case,
        provider=like.provider,
        route=like.route,
        contract=like.contract,
        interpreted=interpreted,
    )
    for result in check_once(pool, request, device):
        if result.verdict.outcome is Outcome.DISAGREES and result.fingerprint == like.fingerprint:
            return result
    return None
