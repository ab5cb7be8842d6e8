"""Which TP sizes the models of the catalogue admit, as data that no planner computed."""

from __future__ import annotations

from itertools import product

TP_SIZES: dict[str, tuple[int, ...]] = {
    "Llama-3.1-8B": (1, 2, 4, 8, 16, 32),
    "Llama-3.1-70B": (1, 2, 4, 8, 16, 32, 64),
    "Qwen3-30B-A3B": (1, 2, 4, 8, 16, 32),
    "Qwen3-Next-80B-A3B": (1, 2, 4, 8, 16),
    "DeepSeek-V3": (1, 2, 4, 8, 16, 32, 64, 128),
    "Gemma-3-27B": (1, 2, 4, 8, 16, 32),
    "gpt-oss-120b": (1, 2, 4, 8, 16, 32, 64),
    "Nemotron-3-Nano-30B": (1, 2, 4, 8, 16, 32),
}
"""Powers of two that divide the query heads and, where there are states, the heads of each."""


def admitted_pairs(model: str, *, up_to: int) -> tuple[tuple[int, int], ...]:
    """The (producer TP, consumer TP) that a model admits; any two of its sizes can meet."""
    sizes = [size for size in TP_SIZES[model] if size <= up_to]
    return tuple(product(sizes, sizes))


def divides_either_way(a: int, b: int) -> bool:
    """Whether one of two numbers is a multiple of the other."""
    return a % b == 0 or b % a == 0


def topologies(limit: int) -> tuple[tuple[int, int, int], ...]:
    """All (KV heads, producer TP, consumer TP) up to `limit` between which a cache can move."""
    numbers = range(1, limit + 1)
    return tuple(
        (heads, p, d)
        for heads, p, d in product(numbers, repeat=3)
        if divides_either_way(heads, p)
        and divides_either_way(heads, d)
        and divides_either_way(p, d)
    )
