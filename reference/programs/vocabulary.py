"""Every target that a program may call: its parameters, and the rule that gives its meaning.

``aten`` targets are named as torch names its overloads; those of ops of the IR are
``ir.<op>.<overload>`` and take their parameters from the op's declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from . import copies, gathering, lists, pointwise, views
from .arguments import REQUIRED, Parameters, parameters
from .computed import Compute, Rule, anew, into


@dataclass(frozen=True, slots=True)
class Target:
    """``writes`` names the parameter whose memory the call changes, "" where it changes none."""

    parameters: Parameters
    rule: Rule
    writes: str = ""


_BINARY = ("self", "other")


def _arithmetic(name: str, compute: Compute, **by_name: object) -> dict[str, Target]:
    return {
        f"aten.{name}.Tensor": Target(parameters(*_BINARY, **by_name), anew(compute)),
        f"aten.{name}_.Tensor": Target(
            parameters(*_BINARY, **by_name), into("self", compute), "self"
        ),
        f"aten.{name}.out": Target(
            parameters(*_BINARY, **by_name, out=REQUIRED), into("out", compute), "out"
        ),
    }


def _extreme(name: str, compute: Compute) -> dict[str, Target]:
    return {
        f"aten.{name}.default": Target(parameters(*_BINARY), anew(compute)),
        f"aten.{name}.out": Target(parameters(*_BINARY, out=REQUIRED), into("out", compute), "out"),
    }


def _unary(name: str, compute: Compute) -> dict[str, Target]:
    return {
        f"aten.{name}.default": Target(parameters("self"), anew(compute)),
        f"aten.{name}_.default": Target(parameters("self"), into("self", compute), "self"),
    }


def _unary_out(name: str, compute: Compute) -> dict[str, Target]:
    found = _unary(name, compute)
    found[f"aten.{name}.out"] = Target(
        parameters("self", out=REQUIRED), into("out", compute), "out"
    )
    return found


_KEEPDIM = ("keepdim", False)
_CHOICE = ("condition", "self", "other")
_MATRICES = ("self", "mat2")
_JOINED = ("tensors", ("dim", 0))

POINTWISE: Mapping[str, Target] = MappingProxyType(
    {
        **_arithmetic("add", pointwise.add, alpha=1),
        **_arithmetic("sub", pointwise.subtract, alpha=1),
        **_arithmetic("mul", pointwise.multiply),
        **_extreme("maximum", pointwise.maximum),
        **_extreme("minimum", pointwise.minimum),
        **_unary_out("neg", pointwise.negative),
        **_unary_out("abs", pointwise.absolute),
        **_unary("relu", pointwise.relu),
        "aten.gt.Scalar": Target(parameters(*_BINARY), anew(pointwise.greater)),
        "aten.gt.Tensor": Target(parameters(*_BINARY), anew(pointwise.greater)),
        "aten.where.self": Target(parameters(*_CHOICE), anew(pointwise.choose)),
        "aten.where.self_out": Target(
            parameters(*_CHOICE, out=REQUIRED), into("out", pointwise.choose), "out"
        ),
        "aten.copy_.default": Target(
            parameters("self", "src", ("non_blocking", False)),
            into("self", pointwise.copy),
            "self",
        ),
    }
)

GATHERING: Mapping[str, Target] = MappingProxyType(
    {
        "aten.sum.dim_IntList": Target(parameters("self", "dim", _KEEPDIM), anew(gathering.total)),
        "aten.sum.IntList_out": Target(
            parameters("self", "dim", _KEEPDIM, out=REQUIRED),
            into("out", gathering.total),
            "out",
        ),
        "aten.amax.default": Target(
            parameters("self", ("dim", ()), _KEEPDIM), anew(gathering.largest)
        ),
        "aten.amax.out": Target(
            parameters("self", ("dim", ()), _KEEPDIM, out=REQUIRED),
            into("out", gathering.largest),
            "out",
        ),
        "aten.aminmax.default": Target(
            parameters("self", dim=None, keepdim=False), gathering.least_and_largest
        ),
        "aten.mm.default": Target(parameters(*_MATRICES), anew(gathering.matrix_product)),
        "aten.mm.out": Target(
            parameters(*_MATRICES, out=REQUIRED), into("out", gathering.matrix_product), "out"
        ),
        "aten.bmm.default": Target(parameters(*_MATRICES), anew(gathering.batched_product)),
        "aten.cat.default": Target(parameters(*_JOINED), anew(gathering.concatenated)),
        "aten.cat.out": Target(
            parameters(*_JOINED, out=REQUIRED), into("out", gathering.concatenated), "out"
        ),
        "aten.stack.default": Target(parameters(*_JOINED), anew(gathering.stacked)),
        "aten.index_select.default": Target(
            parameters("self", "dim", "index"), anew(gathering.selected)
        ),
    }
)

COPIES: Mapping[str, Target] = MappingProxyType(
    {
        "aten.clone.default": Target(parameters("self", memory_format=None), copies.clone),
        "aten.copy.default": Target(
            parameters("self", "src", ("non_blocking", False)), copies.copied_over
        ),
        "aten.contiguous.default": Target(parameters("self"), copies.contiguous),
        "aten.reshape.default": Target(parameters("self", "shape"), copies.reshape),
        "aten.to.dtype": Target(
            parameters("self", "dtype", ("non_blocking", False), ("copy", False)),
            copies.to_dtype,
        ),
        "aten.zeros_like.default": Target(parameters("self"), copies.zeros_like),
        "aten.fill_.Scalar": Target(parameters("self", "value"), copies.fill, "self"),
        "aten.zero_.default": Target(parameters("self"), copies.zero, "self"),
    }
)

VIEWS: Mapping[str, Target] = MappingProxyType(
    {
        "aten.alias.default": Target(parameters("self"), views.alias),
        "aten.view.default": Target(parameters("self", "size"), views.view),
        "aten.transpose.int": Target(parameters("self", "dim0", "dim1"), views.transpose),
        "aten.permute.default": Target(parameters("self", "dims"), views.permute),
        "aten.slice.Tensor": Target(
            parameters("self", ("dim", 0), ("start", None), ("end", None), ("step", 1)),
            views.slice_,
        ),
        "aten.select.int": Target(parameters("self", "dim", "index"), views.select),
        "aten.diagonal.default": Target(
            parameters("self", ("offset", 0), ("dim1", 0), ("dim2", 1)), views.diagonal
        ),
        "aten.expand.default": Target(parameters("self", "size"), views.expand),
        "aten.as_strided.default": Target(
            parameters("self", "size", "stride", ("storage_offset", None)), views.as_strided
        ),
        "aten.unsqueeze.default": Target(parameters("self", "dim"), views.unsqueeze),
        "aten.squeeze.dim": Target(parameters("self", "dim"), views.squeeze),
        "aten.unbind.int": Target(parameters("self", ("dim", 0)), views.unbind),
        "aten.split.Tensor": Target(parameters("self", "split_size", ("dim", 0)), views.split),
        "aten.chunk.default": Target(parameters("self", "chunks", ("dim", 0)), views.chunk),
    }
)

LISTS: Mapping[str, Target] = MappingProxyType(
    {
        "aten._foreach_add_.Scalar": Target(parameters("self", "scalar"), lists.add_number, "self"),
        "aten._foreach_mul_.List": Target(
            parameters("self", "other"), lists.multiply_pairs, "self"
        ),
        "aten._foreach_copy_.default": Target(
            parameters("self", "src", ("non_blocking", False)), lists.copy_pairs, "self"
        ),
    }
)

ATEN: Mapping[str, Target] = MappingProxyType(
    {**POINTWISE, **GATHERING, **COPIES, **VIEWS, **LISTS}
)

RENEWING = frozenset(
    {
        *(name for name, target in ATEN.items() if target.writes == "out"),
        "aten._foreach_copy_.default",
        "aten.copy_.default",
        "aten.fill_.Scalar",
        "aten.zero_.default",
    }
)
"""Targets that write all of what they write, whatever it held before."""
