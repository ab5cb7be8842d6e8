"""Division of polynomials that leaves no rest. Terms are coefficients by products of symbols."""

from __future__ import annotations

from collections.abc import Mapping

Monomial = tuple[str, ...]
"""The symbols of a product, sorted; () is the constant."""


def quotient(
    value: Mapping[Monomial, int], by: Mapping[Monomial, int]
) -> dict[Monomial, int] | None:
    """The terms that give those of `value` when multiplied with `by`, if there are such."""
    if not by:
        return None
    top = max(by, key=degree)
    left, found = dict(value), dict[Monomial, int]()
    while left:
        leading = max(left, key=degree)
        c, rest = divmod(left[leading], by[top])
        monomial = _over(leading, top)
        if rest or monomial is None:
            return None
        found[monomial] = c
        for m, d in by.items():
            product = tuple(sorted(m + monomial))
            left[product] = left.get(product, 0) - c * d
            if not left[product]:
                del left[product]
    return found


def degree(monomial: Monomial) -> tuple[int, Monomial]:
    """An order in which the largest of a product is the product of the largest."""
    return len(monomial), monomial


def _over(monomial: Monomial, by: Monomial) -> Monomial | None:
    left = list(monomial)
    for symbol in by:
        if symbol not in left:
            return None
        left.remove(symbol)
    return tuple(left)
