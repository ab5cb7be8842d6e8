"""Claims given to z3, and what is left of those that it refutes: sizes at which a plan is wrong.

Products of symbols are first taken as symbols of their own, of which only lower bounds are
known: what holds then holds, and it is linear. Only what fails there is asked again exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from oracle.observation.proof import PathFormulas, Proof
from oracle.proofs.claims import Claim, Problem, problems
from oracle.proofs.polynomial import Monomial, Poly
from reference.model import TransferCase

TIMEOUT_MS = 5_000
"""For one query: those that are proved take some milliseconds."""
SMALL = 16
"""Sizes up to here are tried first, so that a counterexample can be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuted:
    """A claim that does not hold: what is wrong, of which rank, group, and at which sizes."""

    kind: str
    rank: tuple[int, int]
    group: int
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What came of a proof. `claims` were given to z3 or are identities; `unknown` says why some
    are open. At most one refuted claim is told."""

    claims: int
    unknown: str = ""
    refuted: Refuted | None = None


def prove(case: TransferCase, proof: Proof) -> Proved:
    """Every claim on every path, or the first that fails."""
    seen: set[frozenset[Claim]] = set()
    count, unknown = 0, ""
    for path in sorted(proof.paths, key=lambda path: path.refused is not None):
        # Where the planner refuses there must be nothing: legal engines have a plan at all sizes.
        refusal = Claim("refused-legal", Poly({(): 1}), at_least=False)
        found = problems(case, path) if path.refused is None else [Problem((0, 0), 0, (refusal,))]
        for problem in found:
            canonical = frozenset(
                _canonical(claim)
                for claim in (
                    *problem.claims,
                    *(Claim("", condition, at_least=True) for condition in path.conditions),
                )
            )
            count += len(problem.claims)
            if canonical in seen:
                continue
            seen.add(canonical)
            open_claims = [c for c in problem.claims if c.value.terms]
            query = _Query(case, proof, path, open_claims)
            answer = query.check()
            if isinstance(answer, str):
                unknown = unknown or answer
            elif answer is not None:
                kind, sizes = answer
                refuted = Refuted(kind=kind, rank=problem.rank, group=problem.group, sizes=sizes)
                return Proved(claims=count, refuted=refuted)
    return Proved(claims=count, unknown=unknown)


def _canonical(claim: Claim) -> Claim:
    """Ranks differ in the symbols of their addresses; what is claimed of them need not."""
    terms = {
        tuple(s.rsplit(".", 2)[0] if s.startswith("b.") else s for s in m): c
        for m, c in claim.value.terms.items()
    }
    return replace(claim, value=Poly(terms))


class _Query:
    """The claims of one problem, negated: a symbolic index picks the one that fails."""

    def __init__(
        self, case: TransferCase, proof: Proof, path: PathFormulas, claims: list[Claim]
    ) -> None:
        import z3

        self._z3 = z3
        self._case = case
        self._proof = proof
        self._zero = path.zero
        self._conditions = path.conditions
        self._claims = claims
        self._variables: dict[Monomial, Any] = {}

    def check(self) -> tuple[str, dict[str, int]] | str | None:
        """None where all hold, else a kind and sizes; why it is not known, as a slug."""
        if not self._claims:
            return None
        linear = self._solver(exact=False)
        if linear.check() == self._z3.unsat:
            return None
        for limits in (self._given(), {}):
            exact = self._solver(exact=True)
            for name, number in limits.items():
                exact.add(self._symbol(name) == number)
            if not limits:
                self._small(exact)
            answer = exact.check()
            if answer == self._z3.sat:
                return self._found(exact.model())
        exact = self._solver(exact=True)
        answer = exact.check()
        if answer == self._z3.sat:
            return self._found(exact.model())
        if answer == self._z3.unsat:
            return None
        return "timeout" if "timeout" in exact.reason_unknown() else "unknown"

    def _given(self) -> dict[str, int]:
        """The case's own sizes: a counterexample at these is the case itself."""
        units = {
            f"u.{g}.{part.name}": part.unit_bytes
            for g, group in enumerate(self._case.model.groups)
            for part in group.parts
        }
        paddings = {
            "w.P": self._case.producer.page_padding,
            "w.D": self._case.consumer.page_padding,
        }
        return units | paddings

    def _small(self, solver: Any) -> None:
        for name in self._given():
            solver.add(self._symbol(name) <= SMALL)
        for side in ("P", "D"):
            solver.add(self._symbol(f"page.{side}") + self._symbol(f"rest.{side}") <= SMALL)

    def _solver(self, *, exact: bool) -> Any:
        z3 = self._z3
        solver = z3.Solver()
        solver.set("timeout", TIMEOUT_MS)
        self._variables = {}
        self._exact = exact
        index = z3.Int("index")
        fails = []
        for i, claim in enumerate(self._claims):
            value = self._expression(claim.value)
            fails.append(z3.And(index == i, value < 0 if claim.at_least else value != 0))
        solver.add(z3.Or(fails))
        for condition in self._conditions:
            solver.add(self._expression(condition) >= 0)
        symbols = {s for claim in self._claims for m in claim.value.terms for s in m}
        for assumed in self._proof.assumed:
            if symbols.intersection(s for m in assumed.terms for s in m if s.startswith("b.")):
                solver.add(self._expression(assumed) >= 0)
        for monomial, variable in list(self._variables.items()):
            least = 1
            for symbol in monomial:
                least *= self._proof.least.get(symbol, 0)
            solver.add(variable >= least)
        if exact:
            for name in sorted({s for m in self._variables for s in m}):
                solver.add(self._symbol(name) >= self._proof.least.get(name, 0))
        return solver

    def _symbol(self, name: str) -> Any:
        return self._z3.Int(name)

    def _expression(self, value: Poly) -> Any:
        """With blocks as the page in question, itself and the rest, so that pages are blocks."""
        terms = []
        for monomial, c in _split_blocks(_without(value, self._zero)).terms.items():
            if not monomial:
                terms.append(self._z3.IntVal(c))
                continue
            if monomial not in self._variables:
                if self._exact or len(monomial) == 1:
                    product = self._symbol(monomial[0])
                    for symbol in monomial[1:]:
                        product = product * self._symbol(symbol)
                else:
                    product = self._symbol("*".join(monomial))
                self._variables[monomial] = product
            terms.append(c * self._variables[monomial])
        return self._z3.Sum(terms)

    def _found(self, model: Any) -> tuple[str, dict[str, int]]:
        index = model.eval(self._z3.Int("index"), model_completion=True).as_long()
        names = {s for claim in self._claims for m in claim.value.terms for s in m}
        names |= {"page.P", "page.D", "rest.P", "rest.D", *self._given()}
        sizes = {
            name: model.eval(self._symbol(name), model_completion=True).as_long()
            for name in sorted(names)
        }
        for name, least in self._proof.least.items():
            if name in sizes:
                sizes[name] = max(sizes[name], least)
        for side in ("P", "D"):
            sizes[f"n.{side}"] = sizes[f"page.{side}"] + 1 + sizes[f"rest.{side}"]
        return self._claims[index].kind, sizes


def _without(value: Poly, zero: frozenset[str]) -> Poly:
    if not zero:
        return value
    return Poly({m: c for m, c in value.terms.items() if not zero.intersection(m)})


def _split_blocks(value: Poly) -> Poly:
    """Each number of blocks as ``page + 1 + rest``."""
    found = value
    for side in ("P", "D"):
        name = f"n.{side}"
        if any(name in m for m in found.terms):
            total = Poly({(f"page.{side}",): 1, (): 1, (f"rest.{side}",): 1})
            kept, replaced = {}, Poly({})
            for monomial, c in found.terms.items():
                times = monomial.count(name)
                if not times:
                    kept[monomial] = c
                    continue
                product = Poly({tuple(s for s in monomial if s != name): c})
                for _ in range(times):
                    product = product * total
                replaced = replaced + product
            found = Poly(kept) + replaced
    return found


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
