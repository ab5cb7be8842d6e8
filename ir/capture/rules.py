"""What may not be captured: ops refused by their schema, and the reasons as fixed slugs.

The same rules hold for both backends. A CUDA capture fails by itself on most of them, with an
error that names no reason; the host capture has nothing else to fail on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from ir.capture.errors import CaptureRefused

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "host-sync": "a value or address is read by the host, which would wait for the device",
        "data-dependent-shape": "the shape of a result follows from values",
        "unregistered-generator": "random numbers come from a generator the graph does not own",
        "reseeded": "a generator is seeded or set while the graph is captured",
        "host-randomness": "Python's or NumPy's random numbers were drawn",
        "host-data": "values of the host would be copied once and baked in",
        "storage-change": "a storage is resized or a tensor is given other memory",
        "state-created": "something that outlives the call was created while it was captured",
        "state-replaced": "something that outlives the call was given other memory",
        "unrepeatable": "two captures of the function differ",
        "outside-dispatch": "memory changed that no recorded call writes",
        "not-replayable": "replaying the recorded calls does not give what the function gave",
        "opaque-kernel": "a kernel that is not built on dispatch is not registered as replayable",
        "nested": "a capture or a replay inside a capture",
        "inputs": "static inputs that a graph cannot own",
        "outputs": "results that a graph cannot return",
        "tensor-kind": "a tensor that is not a plain strided one",
    }
)

_CHANGES_STORAGE = frozenset(
    {
        "aten::set_",
        "aten::resize_",
        "aten::resize_as_",
        "aten::_resize_output_",
        "aten::set_data",
        "aten::resize_as_sparse_",
    }
)
_SYNCS = frozenset({"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"})
_HOST_DATA = frozenset({"aten::lift_fresh", "aten::lift_fresh_copy", "aten::lift"})
_SHAPED_BY_VALUES = frozenset({"aten::nonzero", "aten::masked_select", "aten::nonzero_numpy"})
# Tagged for boolean indices alone; with integers their shape follows from shapes.
_INDEXING = frozenset(
    {
        "aten::index",
        "aten::index_put",
        "aten::index_put_",
        "aten::_index_put_impl_",
        "aten::_unsafe_index",
        "aten::_unsafe_index_put",
    }
)


@functools.cache
def _refusal(op: torch._ops.OpOverload) -> tuple[str, str] | None:
    name = op._schema.name
    if name in _SYNCS:
        return "host-sync", "values that stay in tensors, torch.where"
    if name in _CHANGES_STORAGE:
        return "storage-change", "memory of its final size before the capture"
    if name in _HOST_DATA:
        return "host-data", "torch.full, or a tensor made before the capture"
    if name in _INDEXING:
        return None
    shaped = torch.Tag.dynamic_output_shape in op.tags or name in _SHAPED_BY_VALUES
    if shaped or torch.Tag.data_dependent_output in op.tags:
        return "data-dependent-shape", "ops whose result has a shape known beforehand, torch.where"
    return None


def is_scalar_constant(op: torch._ops.OpOverload, args: Sequence[object]) -> bool:
    """Whether this is torch's own way of making a tensor of one Python number.

    `torch.tensor` of a number would come by here too, and is refused before, by its name.
    """
    return op._schema.name in _HOST_DATA and isinstance(args[0], Tensor) and args[0].ndim == 0


def check_op(op: torch._ops.OpOverload, args: Sequence[object]) -> None:
    """Refuse an op that no capture admits. Raises CaptureRefused."""
    found = _refusal(op)
    if found is not None:
        raise CaptureRefused(found[0], str(op), found[1])
    if op._schema.name in _INDEXING and len(args) > 1 and isinstance(args[1], list | tuple):
        masks = [t for t in args[1] if isinstance(t, Tensor) and t.dtype in _MASKS]
        value = args[2] if len(args) > 2 else None
        writes_one_value = isinstance(value, Tensor) and value.ndim == 0
        # A masked write of one value is masked_fill: nothing has a shape that depends on the mask.
        if masks and not writes_one_value:
            raise CaptureRefused(
                "data-dependent-shape", f"{op} with a mask", "integer indices, torch.where"
            )


_MASKS = (torch.bool, torch.uint8)


def check_tensor(t: Tensor, what: str) -> None:
    """Refuse tensors whose memory is not one strided block. Raises CaptureRefused."""
    if type(t) not in (Tensor, torch.nn.Parameter) or t.layout is not torch.strided:
        raise CaptureRefused(
            "tensor-kind", f"{what} is a {type(t).__name__} of layout {t.layout}", "plain tensors"
        )
