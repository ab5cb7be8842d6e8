"""Which ways there are for one rank to copy from another: those that small topologies show.

What a subject reports of any rank must be of all of these, or a way that it leaves out would count
as proved.
"""

from __future__ import annotations

from functools import cache
from itertools import product

from oracle.proofs.definition import units_of
from reference.model import CachedGroup
from reference.transfer.admitted import divides_either_way
from reference.transfer.expected import facing

RANKS = (1, 2, 4)
UNITS = (1, 2, 4, 8)
"""Numbers of ranks, and of units, that are tried: enough for runs anywhere on either rank."""

Way = tuple[tuple[str, ...], tuple[str, ...]]
"""The sides ("P", "D") whose ranks hold copies of parts that are not always sharded, and the
parts that a consumer's rank takes from a producer's rank which it faces."""


def ways_of(group: CachedGroup) -> frozenset[Way]:
    """Every way in which a rank of one engine copies such a group from one of another: how many
    units its parts have does not matter."""
    return _shown(tuple((part.name, part.always_sharded) for part in group.parts))


def sides_with_copies(group: CachedGroup, tp: tuple[int, int]) -> frozenset[tuple[str, ...]]:
    """On which sides ranks hold copies, of each part that is not always sharded."""
    units = [part.units for part in group.parts if not part.always_sharded]
    return frozenset(_sides(n, tp) for n in units) or frozenset({()})


def _sides(units: int, tp: tuple[int, int]) -> tuple[str, ...]:
    return tuple(side for side, ranks in zip("PD", tp, strict=True) if ranks > units)


@cache
def _shown(parts: tuple[tuple[str, bool], ...]) -> frozenset[Way]:
    found = set[Way]()
    for p, d, n in product(RANKS, RANKS, UNITS):
        if not (divides_either_way(n, p) and divides_either_way(n, d)):
            continue
        # Those that are always sharded have a unit for every rank at least.
        units = {name: max(p, d) if sharded else n for name, sharded in parts}
        copied = () if all(sharded for _, sharded in parts) else _sides(n, (p, d))
        for pair in facing(p, d):
            read = (name for name, _ in parts if _is_read(units[name], (p, d), pair))
            found.add((copied, tuple(read)))
    return frozenset(found)


def _is_read(units: int, tp: tuple[int, int], ranks: tuple[int, int]) -> bool:
    """Whether a consumer's rank takes what it has in common with a producer's rank, and not with
    an earlier one that it faces and that holds the same."""
    held = units_of(units, tp[0])
    common = set(held[ranks[0]]) & set(units_of(units, tp[1])[ranks[1]])
    facing_it = sorted(p for p, d in facing(*tp) if d == ranks[1])
    return bool(common) and next(p for p in facing_it if held[p] == held[ranks[0]]) == ranks[0]
