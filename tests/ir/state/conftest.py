"""Names of states that no other test uses, gone from the registry when the test ends."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch

from ir.op import IrOp
from ir.state import IrState, ir_state

_count = itertools.count()


@pytest.fixture
def registry() -> IrState:
    return IrState()


@pytest.fixture
def fresh() -> Iterator[Callable[[str], str]]:
    """Makes names for ops and states of the process's registries, and forgets them again."""
    ops, states = set(IrOp.registry), set(ir_state.types)

    def name(stem: str) -> str:
        return f"{stem}_{next(_count)}"

    yield name
    for graph in ir_state.sealed:
        ir_state.unseal(graph)
    for op in set(IrOp.registry) - ops:
        del IrOp.registry[op]
    for state in set(ir_state.types) - states:
        ir_state.unregister_type(state)


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
