"""Numbers that point into a paged cache: slots, block tables, lengths at the edges of blocks.

They hang on each other, so they are drawn together, before they have memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reference.dtypes import encode
from reference.model import Fill, Storage

from ..chooser import Chooser
from .layouts import Placed
from .plan import LONG_TABLE, Plan

_BEYOND = (-1, -(10**6), 0, 10**6)
"""What stands in a table beyond the length of its sequence: it must not be looked at."""
_HISTORY = 16


def drawn_numbers(plan: Plan, chooser: Chooser) -> dict[str, np.ndarray]:
    """The values of every tensor whose declaration names a rule for its content, by name."""
    found: dict[str, np.ndarray] = {}
    rules = {t.content: t.name for t in plan.declaration.tensors if t.name in plan.axes}
    sizes = plan.binding.sizes
    if name := rules.get("slots"):
        slots = sizes["num_blocks"] * sizes["block_size"]
        found[name] = _slots(sizes["n"], slots, chooser)
    if name := rules.get("lengths"):
        lengths = np.array(
            [_length(sizes["block_size"], sizes["entries"], chooser) for _ in range(sizes["n"])],
            dtype=np.int64,
        )
        found[name] = lengths
        found[rules["tables"]] = _tables(lengths, sizes, chooser)
    if name := rules.get("place"):
        found[name] = np.array([chooser.integer(0, _HISTORY - 1)], dtype=np.int64)
    return found


def _slots(tokens: int, slots: int, chooser: Chooser) -> np.ndarray:
    """Each slot at most once; a token without one has a negative number."""
    left = list(range(slots))
    found: list[int] = []
    for _ in range(tokens):
        if not left or chooser.chance(0.2):
            found.append(chooser.choose((-1, -1, -5)))
        else:
            found.append(left.pop(chooser.integer(0, len(left) - 1)))
    return np.array(found, dtype=np.int64)


def _length(block_size: int, entries: int, chooser: Chooser) -> int:
    """A length at the edge of a block, one more or less; none, one, or all that the table holds.

    Of a long table nearly all is used: short sequences have short ones.
    """
    most = block_size * entries
    # A case that is illegal on purpose may have no entries.
    edge = block_size * chooser.integer(1 if entries < LONG_TABLE else entries - 2, max(1, entries))
    length = edge + chooser.choose((-1, 0, 1))
    return min(most, max(0, chooser.choose((*(length,) * 6, 0, 1, most))))


def _tables(lengths: np.ndarray, sizes: Mapping[str, int], chooser: Chooser) -> np.ndarray:
    """Blocks of each sequence; sequences may share one, as those of a common prefix do.

    A sequence has a block twice only where there are fewer blocks than it needs.
    """
    found = np.empty((len(lengths), sizes["entries"]), dtype=np.int64)
    for i, length in enumerate(lengths.tolist()):
        left: list[int] = []
        for entry in range(sizes["entries"]):
            used = entry * sizes["block_size"] < length
            left = left or list(range(sizes["num_blocks"]))
            block = left.pop(chooser.integer(0, len(left) - 1))
            found[i, entry] = block if used else chooser.choose((*_BEYOND, block))
    return found


def content_of(placed: Placed, values: np.ndarray) -> bytes:
    """``values`` where the view of ``placed`` lies, and twos between: they are read by mistake."""
    array = np.full(placed.numel, 2, dtype=np.int64)
    if values.size:
        placed.view.of(array)[...] = values
    return encode(array.astype(np.float64), placed.dtype).tobytes()


def shortened(
    placed: Placed, content: bytes | Fill, numbers: Mapping[str, np.ndarray], plan: Plan
) -> bytes:
    """A history of as many calls as its next place says: zeros where none was recorded yet."""
    array = Storage(placed.dtype, placed.numel, content).array()
    names = {t.content: t.name for t in plan.declaration.tensors}
    placed.view.of(array)[int(numbers[names["place"]][0]) :] = 0
    return array.tobytes()


def poisoned(
    placed: Placed, content: bytes | Fill, numbers: Mapping[str, np.ndarray], plan: Plan
) -> bytes:
    """A cache with NaN in every row that no sequence has: whoever reads it shows."""
    array = Storage(placed.dtype, placed.numel, content).array()
    names = {t.content: t.name for t in plan.declaration.tensors}
    tables, lengths = numbers[names["tables"]], numbers[names["lengths"]]
    cache = placed.view.of(array)
    free = np.ones(cache.shape[1:3], dtype=bool)
    for table, length in zip(tables.tolist(), lengths.tolist(), strict=True):
        for token in range(length):
            free[table[token // cache.shape[2]], token % cache.shape[2]] = False
    cache[:, free] = encode(np.array([np.nan]), placed.dtype)[0]
    return array.tobytes()
