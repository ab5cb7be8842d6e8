"""Reductions over the processes of a group. The communicator is state, by the scope key group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.state import IrContext, StateError, ir_state

COMMUNICATOR = "communicator"
REDUCTIONS = ("sum", "min", "max")

_GLOO = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.uint8, torch.int32, torch.int64,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Communicator:
    """A handle: the name under which torch knows a group of processes, its backend and size."""

    name: str
    backend: str
    size: int


def communicator_of(group: dist.ProcessGroup | None = None) -> Communicator:
    """The handle of a group; of all processes where it is None. Raises StateError."""
    if not dist.is_available() or not dist.is_initialized():
        raise StateError(
            "torch.distributed has no group of processes; accepted: "
            "torch.distributed.init_process_group(...) before the first use"
        )
    group = dist.group.WORLD if group is None else group
    if group is None:
        raise StateError("this process is in no group; accepted: a group that it belongs to")
    return Communicator(group.group_name, dist.get_backend(group), dist.get_world_size(group))


def _create() -> Communicator:
    name = IrContext.get_scope("group")
    if name is None:
        return communicator_of()
    raise StateError(
        f"group {name!r} has no communicator; accepted: ir_state.replace({COMMUNICATOR!r}, "
        f"communicator_of(group), {name!r}) before its first use"
    )


ir_state.register_type(COMMUNICATOR, _create, per=("group",))


@register_op(state=(COMMUNICATOR,))
def all_reduce(x: Tensor, reduction: str = "sum") -> Tensor:
    """The sum, minimum or maximum of x over the processes of the group in scope, in each of them.

    x: any shape, alike in every process, of a dtype that the group's backend reduces.
    reduction: "sum", "min" or "max". Returns a new row-major tensor. Raises InputError, and
    StateError where there is no group.
    """
    name = ir_state.get(COMMUNICATOR).name
    reduced = torch.ops._c10d_functional.all_reduce(x.contiguous(), reduction, name)
    return torch.ops._c10d_functional.wait_tensor(reduced)


@all_reduce.register_validation
def _check_all_reduce(x: Tensor, reduction: str = "sum") -> None:
    if reduction not in REDUCTIONS:
        raise InputError("all_reduce", "reduction", repr(reduction), f"one of {REDUCTIONS}")
    backend = ir_state.get(COMMUNICATOR).backend
    # gloo ends the process on a dtype that it does not know.
    if "gloo" in backend and x.device.type in ("cpu", "meta") and x.dtype not in _GLOO:
        known = ", ".join(str(d).removeprefix("torch.") for d in _GLOO)
        raise InputError("all_reduce", "x.dtype", x.dtype, f"what {backend} reduces: {known}")


@all_reduce.register_fake
def fake_all_reduce(x: Tensor, reduction: str = "sum") -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
