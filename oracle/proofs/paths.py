"""Ways through code that compares symbols: each answer that nothing decides makes another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from oracle.proofs.polynomial import Poly

T = TypeVar("T")

MOST_PATHS = 64


class UndecidableError(ArithmeticError):
    """An operation that polynomials have no answer to."""


class ImpossibleError(ArithmeticError):
    """Answers that no values give."""


@dataclass(slots=True)
class Path:
    """One way through the code. All symbols are at least 0; `least` gives larger bounds.

    `assumed` are polynomials known to be at least 0, each under a symbol that it alone has.
    `decisions` are the answers to give at forks, and those given; `zero` are symbols that a
    decision made 0, `conditions` polynomials that it made at least 0. `divisions` are quotient and
    rest of one symbol by another, where they are known.
    """

    least: Mapping[str, int]
    assumed: dict[str, Poly] = field(default_factory=dict)
    decisions: list[bool] = field(default_factory=list)
    taken: int = 0
    zero: set[str] = field(default_factory=set)
    conditions: list[Poly] = field(default_factory=list)
    known: dict[object, bool] = field(default_factory=dict)
    divisions: Mapping[tuple[str, str], tuple[Poly, Poly]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `ImpossibleError` where a condition plainly contradicts the zeros."""
        for condition in self.conditions:
            terms = condition.bound().terms
            if terms.get((), 0) < 0 and all(c < 0 for c in terms.values()):
                raise ImpossibleError(f"{condition} >= 0 where {sorted(self.zero)} are 0")

    def fork(self, key: object) -> bool:
        """The answer to a question that nothing decides, the same whenever it is asked."""
        if key not in self.known:
            if self.taken == len(self.decisions):
                self.decisions.append(True)
            self.known[key] = self.decisions[self.taken]
            self.taken += 1
        return self.known[key]


_current: list[Path] = []


def current() -> Path | None:
    """The path that comparisons follow here, if any."""
    return _current[-1] if _current else None


@contextmanager
def following(path: Path) -> Iterator[Path]:
    """Comparisons of polynomials follow `path` inside."""
    _current.append(path)
    try:
        yield path
    finally:
        _current.pop()


def paths_through(make: Callable[[], Path], run: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
    """`run` on every path through it, but for those that plainly no values take.

    `make` gives a fresh path with its symbols' bounds.
    """
    waiting: list[list[bool]] = [[]]
    for _ in range(MOST_PATHS):
        if not waiting:
            return
        path = make()
        path.decisions = waiting.pop()
        given = len(path.decisions)
        with following(path):
            try:
                result = run(path)
            except ImpossibleError:
                result = None
        for at in range(given, len(path.decisions)):
            # Each answer that was made up here has its opposite, which is another path.
            waiting.append([*path.decisions[:at], not path.decisions[at]])
        if result is not None:
            yield path, result
    if waiting:
        raise UndecidableError(f"more than {MOST_PATHS} paths; accepted: fewer")
