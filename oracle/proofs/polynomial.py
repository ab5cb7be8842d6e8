"""Integers with symbols in them: polynomials that pass through code written for numbers.

A comparison that the symbols' bounds do not decide forks: the code runs once for each answer, and
the answer becomes a condition of that path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

MOST_PATHS = 64
Monomial = tuple[str, ...]
"""The symbols of a product, sorted; () is the constant."""


class UndecidableError(ArithmeticError):
    """An operation that polynomials have no answer to."""


@dataclass(slots=True)
class Path:
    """One way through the code. All symbols are at least 0; `least` gives larger bounds.

    `assumed` are polynomials known to be at least 0, each under a symbol that it alone has.
    `decisions` are the answers to give at forks, and those given; `zero` are symbols that a
    decision made 0, `conditions` polynomials that it made at least 0.
    """

    least: Mapping[str, int]
    assumed: dict[str, Poly] = field(default_factory=dict)
    decisions: list[bool] = field(default_factory=list)
    taken: int = 0
    zero: set[str] = field(default_factory=set)
    conditions: list[Poly] = field(default_factory=list)
    known: dict[object, bool] = field(default_factory=dict)

    def fork(self, key: object) -> bool:
        """The answer to a question that nothing decides, the same whenever it is asked."""
        if key not in self.known:
            if self.taken == len(self.decisions):
                self.decisions.append(True)
            self.known[key] = self.decisions[self.taken]
            self.taken += 1
        return self.known[key]


_current: list[Path] = []


@contextmanager
def following(path: Path) -> Iterator[Path]:
    """Comparisons of polynomials follow `path` inside."""
    _current.append(path)
    try:
        yield path
    finally:
        _current.pop()


def paths_through(make: Callable[[], Path], run: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
    """`run` on every path through it. `make` gives a fresh path with its symbols' bounds."""
    waiting: list[list[bool]] = [[]]
    for _ in range(MOST_PATHS):
        if not waiting:
            return
        path = make()
        path.decisions = waiting.pop()
        given = len(path.decisions)
        with following(path):
            result = run(path)
        for at in range(given, len(path.decisions)):
            # Each answer that was made up here has its opposite, which is another path.
            waiting.append([*path.decisions[:at], not path.decisions[at]])
        yield path, result
    if waiting:
        raise UndecidableError(f"more than {MOST_PATHS} paths; accepted: fewer")


class Poly:
    """A polynomial with integer coefficients. Immutable."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {m: c for m, c in terms.items() if c}
        self._hash: int | None = None

    @classmethod
    def symbol(cls, name: str) -> Poly:
        return cls({(name,): 1})

    @classmethod
    def of(cls, value: Poly | int) -> Poly:
        return value if isinstance(value, Poly) else cls({(): int(value)})

    def __add__(self, other: Poly | int) -> Poly:
        terms = dict(self.terms)
        for monomial, c in Poly.of(other).terms.items():
            terms[monomial] = terms.get(monomial, 0) + c
        return Poly(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly | int) -> Poly:
        return self + -Poly.of(other)

    def __rsub__(self, other: Poly | int) -> Poly:
        return Poly.of(other) - self

    def __mul__(self, other: Poly | int) -> Poly:
        if isinstance(other, int):
            return Poly({m: c * other for m, c in self.terms.items()})
        terms: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in Poly.of(other).terms.items():
                product = tuple(sorted(m + n))
                terms[product] = terms.get(product, 0) + c * d
        return Poly(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Poly | int) -> Poly:
        divisor, here = _constant(other), self.bound()
        if divisor == 0 or any(c % divisor for c in here.terms.values()):
            raise UndecidableError(f"{here} // {divisor}; accepted: a divisor of all coefficients")
        return Poly({m: c // divisor for m, c in here.terms.items()})

    def __mod__(self, other: Poly | int) -> Poly:
        # Where the division is refused, so is its rest.
        return self - (self // other) * other

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
        if not difference.terms or not _current:
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
        zero = _current[-1].zero if _current else ()
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
        if not any(least.get(s) for m in self.terms for s in m):
            return self
        found = Poly({})
        for monomial, c in self.terms.items():
            product = Poly({(): c})
            for symbol in monomial:
                product = product * Poly({(symbol,): 1, (): least.get(symbol, 0)})
            found = found + product
        return found


def _constant(value: Poly | int) -> int:
    number = value if isinstance(value, int) else value.bound().number()
    if number is None:
        raise UndecidableError(f"division by {value}; accepted: a number")
    return number


def _bounds(value: Poly) -> tuple[bool, bool, bool, bool]:
    """Whether a polynomial is known to be at least 0, above it, at most 0, below it."""
    path = _current[-1]
    here = value.bound()
    at_least, above = _least_of(here, path)
    at_most, below = _least_of(-here, path)
    return at_least, above, at_most, below


def _least_of(value: Poly, path: Path) -> tuple[bool, bool]:
    """Whether a polynomial is at least 0, and whether above it, as far as signs tell."""
    if all(c > 0 for c in value.terms.values()):
        # Least where all symbols are.
        return True, sum(c * _product(m, path) for m, c in value.terms.items()) > 0
    for rest in (*_remainders(value, path), value):
        # Shifting costs: symbols only grow from their bounds, so plain signs often suffice.
        here = rest if all(c > 0 for c in rest.terms.values()) else rest.shifted(path.least)
        if all(c > 0 for c in here.terms.values()):
            return True, sum(c * _product(m, path) for m, c in rest.terms.items()) > 0
    return False, False


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
    at_least, above, at_most, _ = _bounds(value)
    if above or at_most:
        return above and not at_most
    if at_least:
        # All that is left to ask is whether it is 0.
        return not _is_zero(value)
    path, here = _current[-1], value.bound()
    answer = path.fork(("positive", frozenset(here.terms.items())))
    condition = here - 1 if answer else -here
    if not any(condition.terms == known.terms for known in path.conditions):
        path.conditions.append(condition)
    return answer


def _is_zero(value: Poly) -> bool:
    here = value.bound()
    number = here.number()
    if number is not None:
        return number == 0
    at_least, above, at_most, below = _bounds(here)
    if above or below:
        return False
    if not (at_least or at_most) or len(here.terms) != 1:
        raise UndecidableError(f"{here} == 0; accepted: one product of symbols, or one sign")
    (monomial,) = here.terms
    free = [s for s in monomial if not _current[-1].least.get(s)]
    if len(free) != 1:
        raise UndecidableError(f"{here} == 0; accepted: one symbol that may be 0")
    answer = _current[-1].fork(("zero", free[0]))
    if answer:
        _current[-1].zero.add(free[0])
    return answer
