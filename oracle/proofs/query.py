"""Claims given to z3: whether they hold at all sizes, or at which they do not.

Products of symbols are first taken as symbols of their own, of which only lower bounds are
known: what holds then holds, and it is linear. Only what fails there is asked again exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oracle.observation.proof import PathFormulas, Proof
from oracle.proofs.claims import Claim
from oracle.proofs.division import Monomial
from oracle.proofs.polynomial import Poly

STEPS = 10_000_000
"""Of z3 for one query, so that what is decided is the same on every machine. What is proved takes
40,000 at most, what is refuted 3,500,000 to find the sizes: 2 seconds."""
TIMEOUT_MS = 600_000
"""Beside them, should z3 not count what it does: no query takes as long."""
SMALL = 16
"""Sizes up to here are tried first, so that a counterexample can be run."""
SIDES = ("P", "D")


class Query:
    """The claims about one unit on one path, negated: one of them fails.

    `given` are sizes at which to look for a counterexample first, in the order in which they are
    tried: one that is found there can be run.
    """

    def __init__(
        self,
        proof: Proof,
        path: PathFormulas,
        claims: list[Claim],
        *,
        given: Sequence[Mapping[str, int]],
    ) -> None:
        import z3

        self._z3 = z3
        self._proof = proof
        self._zero = path.zero
        self._conditions = path.conditions
        self._claims = claims
        self._given = given
        self._variables: dict[Monomial, Any] = {}
        self._exact = False

    def check(self) -> tuple[str, dict[str, int]] | str | None:
        """None where all hold, else a kind and sizes; why it is not known, as a slug.

        Of several claims that fail the first is told.
        """
        if not self._claims or self._holds_linearly(self._claims):
            return None
        unknown = None
        for claim in self._claims:
            found = None if self._holds_linearly([claim]) else self._fails(claim)
            if isinstance(found, str):
                unknown = unknown or found
            elif found is not None:
                return claim.kind, found
        return unknown

    def _holds_linearly(self, claims: Sequence[Claim]) -> bool:
        return self._negated(claims, exact=False).check() == self._z3.unsat

    def _fails(self, claim: Claim) -> dict[str, int] | str | None:
        """Sizes at which a claim fails, small ones if there are such; None where it holds."""
        for sizes in self._given:
            pinned = self._negated([claim], exact=True)
            self._small(pinned, claim)
            for name, number in sizes.items():
                pinned.add(self._symbol(name) == number)
            if pinned.check() == self._z3.sat:
                return self._found(pinned.model(), claim)
        for small in (True, False):
            exact = self._negated([claim], exact=True)
            if small:
                self._small(exact, claim)
            answer = exact.check()
            if answer == self._z3.sat:
                return self._found(exact.model(), claim)
        return None if answer == self._z3.unsat else self._why(exact)

    def possible(self) -> bool | str:
        """Whether there are sizes at all at which this path is taken; why it is not known."""
        if self._at_a_sample():
            return True
        solver = self._assuming(exact=True, symbols=None)
        answer = solver.check()
        if answer == self._z3.sat:
            return True
        return False if answer == self._z3.unsat else self._why(solver)

    def _at_a_sample(self) -> bool:
        """Whether some sizes that are easily tried are such: no solver is as quick."""
        wanted = [without(value, self._zero) for value in (*self._conditions, *self._proof.assumed)]
        names = sorted({s for value in wanted for m in value.terms for s in m})
        for more in range(4):
            # Everything a little above its bound; then the i-th symbol much above it.
            for odd in (None, *names):
                sizes = {
                    name: self._proof.least.get(name, 0) + more + (100 if name == odd else 0)
                    for name in names
                }
                if all(value.at(sizes) >= 0 for value in wanted):
                    return True
        return False

    def _why(self, solver: Any) -> str:
        # z3 says "canceled" where its steps are used up.
        return "gave-up" if solver.reason_unknown() in ("canceled", "timeout") else "unknown"

    def _small(self, solver: Any, claim: Claim) -> None:
        names = {s for m in claim.value.terms for s in m}
        for name in sorted(names - {f"n.{side}" for side in SIDES}):
            # Addresses are as large as they like.
            if not name.startswith(("b.", "g.")):
                solver.add(self._symbol(name) <= SMALL)
        for side in SIDES:
            page, rest = self._symbol(f"page.{side}"), self._symbol(f"rest.{side}")
            solver.add(page >= 0, rest >= 0, page + rest <= SMALL)

    def _negated(self, claims: Sequence[Claim], *, exact: bool) -> Any:
        """A solver that is satisfied by sizes at which one of the claims fails."""
        symbols = {s for claim in claims for m in claim.value.terms for s in m}
        solver = self._assuming(exact=exact, symbols=symbols)
        values = [self._expression(claim.value) for claim in claims]
        fails = [
            value < 0 if claim.at_least else value != 0
            for claim, value in zip(claims, values, strict=True)
        ]
        solver.add(self._z3.Or(fails))
        self._bound(solver)
        return solver

    def _assuming(self, *, exact: bool, symbols: Iterable[str] | None) -> Any:
        """A solver that knows the path's conditions, and of addresses what concerns `symbols`."""
        solver = self._z3.Solver()
        solver.set("rlimit", STEPS)
        solver.set("timeout", TIMEOUT_MS)
        self._variables = {}
        self._exact = exact
        for condition in self._conditions:
            solver.add(self._expression(condition) >= 0)
        for assumed in self._ends(symbols):
            solver.add(self._expression(assumed) >= 0)
        self._bound(solver)
        return solver

    def _ends(self, symbols: Iterable[str] | None) -> list[Poly]:
        """What is assumed of the addresses among `symbols`, or of all."""
        known = None if symbols is None else set(symbols)
        return [
            assumed
            for assumed in self._proof.assumed
            if known is None or known & {s for m in assumed.terms for s in m if s.startswith("b.")}
        ]

    def _bound(self, solver: Any) -> None:
        """Lower bounds of all that has been named so far."""
        least = self._proof.least
        for monomial, variable in self._variables.items():
            product = 1
            for symbol in monomial:
                product *= least.get(symbol, 0)
            solver.add(variable >= product)
        if self._exact:
            for name in sorted({s for m in self._variables for s in m}):
                solver.add(self._symbol(name) >= least.get(name, 0))

    def _symbol(self, name: str) -> Any:
        return self._z3.Int(name)

    def _expression(self, value: Poly) -> Any:
        """With blocks as the page in question, itself and the rest, so that pages are blocks."""
        terms = []
        for monomial, c in split_blocks(without(value, self._zero)).terms.items():
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

    def _found(self, model: Any, claim: Claim) -> dict[str, int]:
        symbols = {s for m in claim.value.terms for s in m}
        values = (claim.value, *self._conditions, *self._ends(symbols))
        names = {s for value in values for m in value.terms for s in m}
        names |= {f"{what}.{side}" for what in ("page", "rest") for side in SIDES}
        names |= {name for sizes in self._given for name in sizes}
        sizes = {
            name: model.eval(self._symbol(name), model_completion=True).as_long()
            for name in sorted(names)
        }
        for name, least in self._proof.least.items():
            if name in sizes:
                sizes[name] = max(sizes[name], least)
        for side in SIDES:
            sizes[f"n.{side}"] = sizes[f"page.{side}"] + 1 + sizes[f"rest.{side}"]
        return sizes


def without(value: Poly, zero: frozenset[str]) -> Poly:
    """Without the products of symbols that are 0."""
    if not zero:
        return value
    return Poly({m: c for m, c in value.terms.items() if not zero.intersection(m)})


def split_blocks(value: Poly) -> Poly:
    """Each number of blocks as ``page + 1 + rest``."""
    found = value
    for side in SIDES:
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
