"""Integers with symbols in them: polynomials that pass through code written for numbers.

A comparison that the symbols' bounds do not decide forks: the code runs once for each answer, and
the answer becomes a condition of that path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oracle.proofs.division import Monomial, quotient
from oracle.proofs.paths import Path, UndecidableError, current


class Poly:
    """A polynomial with integer coefficients. Immutable."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {m: c for m, c in terms.items() if c} if 0 in terms.values() else dict(terms)
        self._hash: int | None = None

    @classmethod
    def symbol(cls, name: str) -> Poly:
        return cls({(name,): 1})

    @classmethod
    def of(cls, value: Poly | int) -> Poly:
        return value if isinstance(value, Poly) else cls({(): int(value)})

    def __add__(self, other: Poly | int) -> Poly:
        terms = dict(self.terms)
        for monomial, c in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + c
        return _made(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly | int) -> Poly:
        terms = dict(self.terms)
        for monomial, c in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) - c
        return _made(terms)

    def __rsub__(self, other: Poly | int) -> Poly:
        return Poly.of(other) - self

    def __mul__(self, other: Poly | int) -> Poly:
        if isinstance(other, int):
            return _made({m: c * other for m, c in self.terms.items()})
        terms: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in _terms(other).items():
                product = tuple(sorted(m + n)) if m and n else m or n
                terms[product] = terms.get(product, 0) + c * d
        return _made(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Poly | int) -> Poly:
        known = _known_division(self, other)
        if known is not None:
            return known[0]
        found = quotient(self.bound().terms, Poly.of(other).bound().terms)
        if found is None:
            raise UndecidableError(f"{self.bound()} // {other}; accepted: a divisor")
        return Poly(found)

    def __mod__(self, other: Poly | int) -> Poly:
        known = _known_division(self, other)
        # Where the division is refused, so is its rest.
        return self - (self // other) * other if known is None else known[1]

    def __hash__(self) -> int:
        if self._hash is None:
            number = self.number()
            # Equal numbers must hash alike, symbols in them or not.
            self._hash = hash(frozenset(self.terms.items()) if number is None else number)
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Poly | int):
            return NotImplemented
        difference = self - other
        if not difference.terms or current() is None:
            # Outside of a path two polynomials are equal where they are the same.
            return not difference.terms
        return _is_zero(difference)

    def __lt__(self, other: Poly | int) -> bool:
        return _is_positive(other - self)

    def __gt__(self, other: Poly | int) -> bool:
        return _is_positive(self - other)

    def __le__(self, other: Poly | int) -> bool:
        return not self > other

    def __ge__(self, other: Poly | int) -> bool:
        return not self < other

    def __bool__(self) -> bool:
        return self != 0

    def __repr__(self) -> str:
        terms = [f"{c}{''.join(f'*{s}' for s in m)}" for m, c in sorted(self.terms.items())]
        return " + ".join(terms) or "0"

    def number(self) -> int | None:
        """The value where there is no symbol."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    def bound(self) -> Poly:
        """Without the symbols that the current path knows to be 0."""
        path = current()
        zero = path.zero if path is not None else ()
        if not zero:
            return self
        return Poly({m: c for m, c in self.terms.items() if not any(s in zero for s in m)})

    def at(self, values: Mapping[str, int]) -> int:
        """The value with numbers for all symbols."""
        total = 0
        for monomial, c in self.terms.items():
            for symbol in monomial:
                c *= values[symbol]
            total += c
        return total

    def shifted(self, least: Mapping[str, int]) -> Poly:
        """In symbols that begin at 0: each `s` is replaced by ``s + least[s]``."""
        found: dict[Monomial, int] = {}
        for monomial, c in self.terms.items():
            products = {(): c}
            for symbol in monomial:
                more = least.get(symbol, 0)
                grown: dict[Monomial, int] = {}
                for m, d in products.items():
                    grown[(*m, symbol)] = grown.get((*m, symbol), 0) + d
                    if more:
                        grown[m] = grown.get(m, 0) + d * more
                products = grown
            for m, d in products.items():
                found[m] = found.get(m, 0) + d
        return Poly(found)


def _made(terms: dict[Monomial, int]) -> Poly:
    """A polynomial of terms that nobody else has: no copy is made."""
    found = Poly.__new__(Poly)
    found.terms = {m: c for m, c in terms.items() if c} if 0 in terms.values() else terms
    found._hash = None
    return found


def _terms(value: Poly | int) -> Mapping[Monomial, int]:
    return value.terms if isinstance(value, Poly) else {(): int(value)}


ONE = Poly({(): 1})


def _known_division(value: Poly, by: Poly | int) -> tuple[Poly, Poly] | None:
    """Quotient and rest, where a path knows them."""
    path = current()
    if path is None or isinstance(by, int):
        return None
    names = [next(iter(p.terms)) for p in (value, by) if list(p.terms.values()) == [1]]
    if len(names) < 2 or any(len(name) != 1 for name in names):
        return None
    return path.divisions.get((names[0][0], names[1][0]))


def _followed() -> Path:
    path = current()
    if path is None:
        raise UndecidableError("a comparison of symbols; accepted: inside of `following`")
    return path


def _bounds(value: Poly) -> tuple[bool, bool, bool, bool]:
    """Whether a polynomial is known to be at least 0, above it, at most 0, below it."""
    path = _followed()
    here = value.bound()
    at_least, above = _least_of(here, path)
    at_most, below = _least_of(-here, path)
    return at_least, above, at_most, below


def _least_of(value: Poly, path: Path) -> tuple[bool, bool]:
    """Whether a polynomial is at least 0, and whether above it, as far as signs tell."""
    if _is_plain(value):
        # Least where all symbols are.
        return True, _at_bounds(value, path) > 0
    rests: list[Poly] = []
    for rest in _remainders(value, path):
        if _is_plain(rest):
            return True, _at_bounds(rest, path) > 0
        rests.append(rest)
    for rest in (*rests, value):
        # Shifting costs: symbols only grow from their bounds, so plain signs often suffice; and
        # what it adds to a product comes from longer ones.
        longest = max((len(m) for m, c in rest.terms.items() if c > 0), default=0)
        if any(c < 0 and len(m) >= longest for m, c in rest.terms.items()):
            continue
        if _is_plain(rest.shifted(path.least)):
            return True, _at_bounds(rest, path) > 0
    return False, False


def _is_plain(value: Poly) -> bool:
    """Whether it has no term below 0."""
    return min(value.terms.values(), default=1) > 0


def _at_bounds(value: Poly, path: Path) -> int:
    return sum(c * _product(m, path) for m, c in value.terms.items())


def _product(monomial: Monomial, path: Path) -> int:
    product = 1
    for symbol in monomial:
        product *= path.least.get(symbol, 0)
    return product


def _remainders(value: Poly, path: Path) -> Iterator[Poly]:
    """What is left of a polynomial without each assumption that has a symbol in common."""
    for symbol in {s for m in value.terms for s in m}:
        if symbol in path.assumed:
            yield value - path.assumed[symbol].bound()
    for condition in path.conditions:
        yield value - condition.bound()


def _is_positive(value: Poly | int) -> bool:
    if isinstance(value, int):
        return value > 0
    number = value.number()
    if number is not None:
        return number > 0
    path, here = _followed(), value.bound()
    at_least, above = _least_of(here, path)
    if above or _least_of(-here, path)[0]:
        return above
    if at_least:
        # All that is left to ask is whether it is 0.
        return not _is_zero(value)
    answer = path.fork(("positive", frozenset(here.terms.items())))
    condition = here - 1 if answer else -here
    if not any(condition.terms == known.terms for known in path.conditions):
        path.conditions.append(condition)
        path.check()
    return answer


def _is_zero(value: Poly) -> bool:
    here = value.bound()
    number = here.number()
    if number is not None:
        return number == 0
    at_least, above, at_most, below = _bounds(here)
    if above or below:
        return False
    if not (at_least or at_most):
        # Asked one after the other, so that each way knows which it is.
        return not (_is_positive(here) or _is_positive(-here))
    path, value, zeros = _followed(), here if at_least else -here, _zeros(here)
    question = ("zero", frozenset(zeros or value.terms.items()))
    asked = question in path.known
    answer = path.fork(question)
    if answer:
        path.zero |= zeros
    if not asked and answer and not zeros:
        path.conditions.append(-value)
    if not asked and not answer:
        least = sum(map(Poly.symbol, sorted(zeros)), Poly({})) if zeros else value
        path.conditions.append(least - 1)
    path.check()
    return answer


def _zeros(value: Poly) -> set[str]:
    """The symbols that must all be 0 for a polynomial to be 0, and whose zeros are enough.

    None where there are no such symbols.
    """
    if not (all(c > 0 for c in value.terms.values()) or all(c < 0 for c in value.terms.values())):
        return set()
    least = _followed().least
    free = [{s for s in monomial if not least.get(s)} for monomial in value.terms]
    found = {s for symbols in free if len(symbols) == 1 for s in symbols}
    return found if all(symbols & found for symbols in free) else set()
