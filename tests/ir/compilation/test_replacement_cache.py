"""The cache is bounded, counts, forgets with the generation and holds under threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import Tensor

from ir.compilation.cache import ReplacementCache
from ir.compilation.template import Template
from ir.op import IrOp, register_op

TEMPLATE = Template(steps=(), result=None, exact=True)


@pytest.fixture
def op(op_name: Callable[[], str]) -> IrOp:
    def native(x: Tensor) -> Tensor:
        return x + 1

    return register_op(name=op_name())(native)


def keep(cache: ReplacementCache, op: IrOp, *rest: object) -> None:
    cache.keep(op, (op.name, *rest), TEMPLATE, generation=op.generation)


def test_a_kept_template_is_found_and_counted(op: IrOp):
    cache = ReplacementCache()
    assert cache.find(op, (op.name, 1)) is None
    keep(cache, op, 1)
    assert cache.find(op, (op.name, 1)) is TEMPLATE
    cache.bypassed("why")
    found = cache.statistics
    assert (found.hits, found.misses, dict(found.bypasses)) == (1, 1, {"why": 1})


def test_the_least_recently_used_goes_first(op: IrOp):
    cache = ReplacementCache(capacity=2)
    keep(cache, op, 1)
    keep(cache, op, 2)
    cache.find(op, (op.name, 1))
    keep(cache, op, 3)
    assert len(cache) == 2
    assert cache.find(op, (op.name, 2)) is None
    assert cache.find(op, (op.name, 1)) is TEMPLATE


def test_a_new_generation_empties_the_cache_of_the_op_alone(op: IrOp, op_name: Callable[[], str]):
    def native(x: Tensor) -> Tensor:
        return x + 1

    other = register_op(name=op_name())(native)
    cache = ReplacementCache()
    keep(cache, op, 1)
    keep(cache, other, 1)
    op.register_impl("toy")(native)
    assert cache.find(op, (op.name, 1)) is None
    assert cache.find(other, (other.name, 1)) is TEMPLATE
    assert len(cache) == 1


def test_a_template_of_a_past_generation_is_not_kept(op: IrOp):
    cache = ReplacementCache()
    cache.keep(op, (op.name, 1), TEMPLATE, generation=op.generation - 1)
    assert len(cache) == 0


def test_clear_forgets_templates_and_counts(op: IrOp):
    cache = ReplacementCache()
    keep(cache, op, 1)
    cache.find(op, (op.name, 1))
    cache.clear()
    assert len(cache) == 0
    assert cache.statistics.hits == 0


def test_no_capacity_is_refused():
    with pytest.raises(ValueError, match="capacity is 0; accepted: 1 or more"):
        ReplacementCache(capacity=0)


def test_threads_lose_no_count(op: IrOp):
    cache = ReplacementCache(capacity=8)

    def work(k: int) -> None:
        for i in range(200):
            if cache.find(op, (op.name, (i + k) % 16)) is None:
                keep(cache, op, (i + k) % 16)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.statistics.hits + cache.statistics.misses == 800
    assert len(cache) <= 8
