"""What scripts keep as state, the ops that keep it, and models of such ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    import ir
    from ir import ir_state
    from ir.op import IrOp

OPS: dict[str, Any] = {}
ASKED: list[str] = []
GIVEN: list[Any] = []


class CreationFailed(Exception):
    """What a creation function raises of its own."""


class Handle:
    """A state without tensors."""

    def __init__(self, scale: int) -> None:
        self.scale = scale


def load_ops() -> None:
    """Import what the ops are made of."""
    global torch, ir, ir_state, IrOp
    import torch

    import ir
    from ir import ir_state
    from ir.op import IrOp


def op_of(name: str) -> Any:
    """The op that keeps the state of a name; torch knows it for good, the registry for a case."""
    if name not in OPS:

        def native(x):
            held = ir_state.get(name)
            if isinstance(held, Handle):
                return x * held.scale
            if isinstance(held, dict):
                held["calls"].add_(1)
                return x + held["sum"].add_(x.sum())
            if isinstance(held, tuple):
                held[1][0].add_(1)
                return x + held[0]["sum"].add_(x.sum())
            return x + held[:1].add_(x.sum())

        OPS[name] = _registered(f"state_of_{name}", native, (name,))
    IrOp.registry[OPS[name].name] = OPS[name]
    return OPS[name]


def sneaking_op_of(declared: str) -> Any:
    """An op that declares one state, or none, and asks for that in `ASKED`."""
    key = f"sneak {declared}"
    if key not in OPS:

        def native(x):
            GIVEN.append(ir_state.get(ASKED[-1]))
            return x * 1

        OPS[key] = _registered(f"sneak_{declared}", native, (declared,) if declared else None)
    IrOp.registry[OPS[key].name] = OPS[key]
    return OPS[key]


def _registered(name: str, native: Callable[..., Any], state: tuple[str, ...] | None) -> Any:
    from ir.op import register_op

    native.__annotations__ = {"x": torch.Tensor, "return": torch.Tensor}
    op = register_op(name=name, state=state)(native)
    op.register_fake(lambda x: torch.empty_like(x))
    return op


def called(layers: list[Any]) -> Callable[[Any], Any]:
    """A model as a function, which Dynamo traces as a whole."""
    parts = [
        (i, layer["name"], dict(layer["keys"]), layer["use"]) for i, layer in enumerate(layers)
    ]
    ops = {name: op_of(name) for _, name, _, _ in parts}

    def model(x):
        outputs = [x * 1]
        for i, name, keys, use in parts:
            with ir.scope(**keys):
                if use == "read":
                    outputs.append(ir_state.get(name) * 1)
                elif use == "dead":
                    ops[name](x + i)
                else:
                    outputs.append(ops[name](x + i))
        return outputs

    return model


def new_value(holds: str, content: int) -> Any:
    if holds == "handle":
        return Handle(content)
    tensor = torch.full((1,), content)
    if holds == "tree":
        return {"sum": tensor, "calls": torch.zeros(1, dtype=torch.int64)}
    if holds == "nested":
        return {"sum": tensor}, [torch.zeros(1, dtype=torch.int64)]
    if holds == "parameter":
        return torch.nn.Parameter(tensor, requires_grad=False)
    return tensor


def tensors_in(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [] if isinstance(value, Handle) else [t for part in parts for t in tensors_in(part)]
