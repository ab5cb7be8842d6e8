"""What comes of a plan's formulas: proved, open, or refuted at sizes that can be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from oracle.observation.proof import PathFormulas, Proof
from oracle.proofs.claims import Claim, Problem, problems
from oracle.proofs.polynomial import Poly
from oracle.proofs.query import Query
from reference.model import TransferCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuted:
    """A claim that does not hold: what is wrong, of which rank, group, and at which sizes."""

    kind: str
    rank: tuple[int, int]
    group: int
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What came of a proof. `claims` were given to z3 or hold by their signs; `unknown` says why
    some are open. At most one refuted claim is told.

    `paths` is how many ways through the planner can be taken, at some sizes that were found; on
    the `dead` ones the assumptions contradict each other, and nothing was claimed of them.
    """

    claims: int
    unknown: str = ""
    refuted: Refuted | None = None
    paths: int = 0
    dead: int = 0


def prove(case: TransferCase, proof: Proof) -> Proved:
    """Every claim on every path, or the first that fails."""
    seen: set[object] = set()
    given = (_given(case),)
    claims, paths, dead, unknown = 0, 0, 0, ""
    for path in sorted(proof.paths, key=lambda path: path.refused is not None):
        possible = Query(proof, path, [], given=()).possible()
        if isinstance(possible, str):
            unknown = unknown or possible
        elif not possible:
            dead += 1
            continue
        paths += 1
        for problem in _problems(case, path):
            claims += len(problem.claims)
            key = _key(problem, path)
            if key in seen:
                continue
            seen.add(key)
            answer = Query(proof, path, _open(problem.claims), given=given).check()
            if isinstance(answer, str):
                unknown = unknown or answer
            elif answer is not None:
                kind, sizes = answer
                refuted = Refuted(kind=kind, rank=problem.rank, group=problem.group, sizes=sizes)
                return Proved(claims=claims, refuted=refuted, paths=paths, dead=dead)
    if not claims:
        # Assumptions that nothing satisfies prove everything, and so nothing.
        unknown = unknown or "nothing-claimed"
    return Proved(claims=claims, unknown=unknown, paths=paths, dead=dead)


def _problems(case: TransferCase, path: PathFormulas) -> Iterator[Problem]:
    if path.refused is None:
        yield from problems(case, path)
    else:
        # Legal engines have a plan at all sizes.
        yield Problem((0, 0), 0, (Claim("refused-legal", Poly({(): 1}), at_least=False),))


def _open(claims: Iterable[Claim]) -> list[Claim]:
    """Those that do not hold by their signs alone: no symbol is ever below 0."""
    return [
        claim
        for claim in claims
        if claim.value.terms
        and not (claim.at_least and all(c > 0 for c in claim.value.terms.values()))
    ]


def _key(problem: Problem, path: PathFormulas) -> object:
    """What is asked, and under which conditions: ranks for which both are the same are one."""
    conditions = (Claim("", condition, at_least=True) for condition in path.conditions)
    return (
        frozenset(_canonical(claim) for claim in problem.claims),
        frozenset(_canonical(claim) for claim in conditions),
        path.zero,
    )


def _canonical(claim: Claim) -> Claim:
    """Ranks of a stage differ in the symbols of their addresses; what is claimed need not."""
    addresses = sorted({s for m in claim.value.terms for s in m if s.startswith("b.")})
    names: dict[str, str] = {}
    for address in addresses:
        stage = address.rsplit(".", 1)[0]
        names[address] = f"{stage}.#{sum(n.startswith(stage + '.') for n in names.values())}"
    terms = {tuple(names.get(s, s) for s in m): c for m, c in claim.value.terms.items()}
    return replace(claim, value=Poly(terms))


def _given(case: TransferCase) -> dict[str, int]:
    """The case's own sizes: a counterexample at these is the case itself."""
    units = {
        f"u.{g}.{part.name}": part.unit_bytes
        for g, group in enumerate(case.model.groups)
        for part in group.parts
    }
    paddings = {"w.P": case.producer.page_padding, "w.D": case.consumer.page_padding}
    return units | paddings


def counterexample(case: TransferCase, refuted: Refuted) -> TransferCase:
    """The case at the sizes of a refuted claim, its last block in use: what fails when it is run.

    Blocks are as many as the case's requests name, so that the last of them is one of theirs.
    """
    groups = tuple(
        replace(
            group,
            parts=tuple(
                replace(part, unit_bytes=refuted.sizes.get(f"u.{g}.{part.name}", part.unit_bytes))
                for part in group.parts
            ),
        )
        for g, group in enumerate(case.model.groups)
    )
    used = {
        side: 1
        + max(
            block
            for request in case.requests
            for blocks in getattr(request, f"{side}_blocks")
            for block in blocks
        )
        for side in ("producer", "consumer")
    }
    return replace(
        case,
        model=replace(case.model, groups=groups),
        producer=replace(
            case.producer,
            num_blocks=used["producer"],
            page_padding=refuted.sizes.get("w.P", 0),
        ),
        consumer=replace(
            case.consumer,
            num_blocks=used["consumer"],
            page_padding=refuted.sizes.get("w.D", 0),
        ),
    )
