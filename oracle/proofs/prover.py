"""What comes of a plan's formulas: proved, open, or refuted at sizes that can be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from oracle.observation.proof import Copies, Copying, PathFormulas, Proof
from oracle.observation.split import Split
from oracle.proofs.claims import Claim, Problem, problems
from oracle.proofs.copying import copy_problems, is_even
from oracle.proofs.counterexample import sizes_of, sizes_to_run
from oracle.proofs.outcome import Proved, Refuted
from oracle.proofs.polynomial import Poly
from oracle.proofs.query import Query, split_blocks, without
from oracle.proofs.splitting import prove_split
from oracle.proofs.ways import ways_of
from reference.model import TransferCase


def prove(case: TransferCase, seen: Proof | Copies | Split) -> Proved:
    """Every claim on every path, or the first that fails."""
    if isinstance(seen, Split):
        return prove_split(case, seen)
    if isinstance(seen, Proof):
        task = _Task(seen, lambda path: problems(case, path), (sizes_of(case),))
        return _proved([task])
    found = _proved([_copying(case, way) for way in seen.ways])
    wanted = {way for group in case.model.groups for way in ways_of(group)}
    if found.unknown or wanted <= {(way.copied, way.parts) for way in seen.ways}:
        return found
    # What is not looked at is not proved.
    return replace(found, unknown="nothing-claimed")


@dataclass(frozen=True, slots=True)
class _Task:
    """Formulas, what must hold of them, and sizes at which a counterexample can be run."""

    proof: Proof
    problems: Callable[[PathFormulas], Iterator[Problem]]
    given: tuple[Mapping[str, int], ...]
    only_given: bool = False
    """Whether other sizes need not exist, so that what fails there alone is open."""


def _copying(case: TransferCase, way: Copying) -> _Task:
    def problems(path: PathFormulas) -> Iterator[Problem]:
        if not is_even(way, path):
            raise _OpenError("one-for-all")
        yield from copy_problems(case, way, path)

    return _Task(way.proof, problems, tuple(sizes_to_run(case, way)), only_given=True)


def _is_given(sizes: Mapping[str, int], given: Iterable[Mapping[str, int]]) -> bool:
    return any(all(sizes.get(name) == n for name, n in each.items()) for each in given)


class _OpenError(Exception):
    """Why nothing can be claimed, as a slug."""


def _proved(tasks: Iterable[_Task]) -> Proved:
    claims, paths, dead, unknown = 0, 0, 0, ""
    for task in tasks:
        unknown, before = unknown or task.proof.unknown, claims
        seen: set[object] = set()
        for path in sorted(task.proof.paths, key=lambda path: path.refused is not None):
            possible = Query(task.proof, path, [], given=()).possible()
            if isinstance(possible, str):
                unknown = unknown or possible
            elif not possible:
                dead += 1
                continue
            paths += 1
            try:
                found = tuple(_problems(task, path))
            except _OpenError as why:
                unknown = unknown or str(why)
                continue
            for problem in found:
                claims += len(problem.claims)
                key = _key(problem, task.proof, path)
                if key in seen:
                    continue
                seen.add(key)
                query = Query(
                    task.proof, path, _open(problem.claims, task.proof, path), given=task.given
                )
                answer = query.check()
                if isinstance(answer, str):
                    unknown = unknown or answer
                elif answer is not None:
                    kind, sizes = answer
                    if task.only_given and not _is_given(sizes, task.given):
                        unknown = unknown or "no-topology"
                        continue
                    rank, group = problem.rank, problem.group
                    refuted = Refuted(kind=kind, rank=rank, group=group, sizes=sizes)
                    return Proved(claims=claims, refuted=refuted, paths=paths, dead=dead)
        if claims == before:
            # Assumptions that nothing satisfies prove everything, and so nothing.
            unknown = unknown or "nothing-claimed"
    return Proved(claims=claims, unknown=unknown, paths=paths, dead=dead)


def _problems(task: _Task, path: PathFormulas) -> Iterator[Problem]:
    if path.refused is None:
        yield from task.problems(path)
    else:
        # Legal engines have a plan at all sizes.
        yield Problem((0, 0), 0, (Claim("refused-legal", Poly({(): 1}), at_least=False),))


def _open(claims: Iterable[Claim], proof: Proof, path: PathFormulas) -> list[Claim]:
    """Those that do not hold by their signs alone: no symbol is ever below 0."""
    ends = {
        symbol: without(assumed, path.zero)
        for assumed in proof.assumed
        for monomial in assumed.terms
        for symbol in monomial
        if symbol.startswith("b.")
    }
    return [claim for claim in claims if not _plain(claim, ends)]


def _plain(claim: Claim, ends: Mapping[str, Poly]) -> bool:
    """Whether it is an identity, or a sum of what cannot be below 0: symbols, and what is left of
    the addresses above the end of a rank's memory."""
    if not claim.value.terms:
        return True
    if not claim.at_least:
        return False
    below = {s for m in claim.value.terms for s in m if s in ends}
    values = chain((claim.value,), (claim.value - ends[s] for s in sorted(below)))
    return any(min(split_blocks(value).terms.values(), default=1) > 0 for value in values)


def _key(problem: Problem, proof: Proof, path: PathFormulas) -> object:
    """What is asked, and under which conditions: ranks for which both are the same are one."""
    conditions = (Claim("", condition, at_least=True) for condition in path.conditions)
    return (
        frozenset(_canonical(claim) for claim in problem.claims),
        frozenset(_canonical(claim) for claim in conditions),
        path.zero.intersection(s for value in proof.assumed for m in value.terms for s in m),
    )


def _canonical(claim: Claim) -> Claim:
    """Ranks of a stage differ in the symbols of their addresses; what is claimed need not."""
    addresses = sorted({s for m in claim.value.terms for s in m if s.startswith("b.")})
    if not addresses:
        return claim
    names: dict[str, str] = {}
    for address in addresses:
        stage = address.rsplit(".", 1)[0]
        names[address] = f"{stage}.#{sum(n.startswith(stage + '.') for n in names.values())}"
    terms = {tuple(names.get(s, s) for s in m): c for m, c in claim.value.terms.items()}
    return Claim(claim.kind, Poly(terms), claim.at_least)
