"""Ops of a test's own: torch keeps every op for the life of the process, so each is named anew."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from ir.op import IrOp

_count = itertools.count()


@pytest.fixture
def op_name() -> Iterator[Callable[[], str]]:
    """Gives names no op has had, and takes the ops from the registry when the test ends."""
    before = set(IrOp.registry)

    def fresh() -> str:
        return f"test_op_{next(_count)}"

    yield fresh
    for name in set(IrOp.registry) - before:
        del IrOp.registry[name]
