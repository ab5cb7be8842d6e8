"""What is legal for an op, as data: strategies draw from it, refusals and shrinking follow from it.

A shape is a tuple of axes. An axis is a product of sizes and names, such as ``"2*d"`` or
``"hq*head_size"``; a leading ``"..."`` stands for the batch dimensions, which every tensor that
has them shares. Binding a case solves the names; a case that cannot be bound, or that breaks a
domain or a relation, is refused, and the refusal names the argument and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .model.case import OpCase, Plain
from .model.storage import View, is_self_overlapping, touched_elements

FLOATS = ("float32", "float16", "bfloat16")
REQUIRED = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dim:
    """A named size: its least value, whether it must be even, and what kind of size it is.

    ``role`` tells a strategy where to draw from: ``tokens``, ``width``, ``heads``, ``head_size``,
    ``positions``, ``groups`` or ``group``, or of a paged cache ``blocks``, ``block_size`` or
    ``entries``. ``few``: each is much work, so that there are rarely many.
    """

    name: str
    role: str
    minimum: int = 1
    even: bool = False
    few: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor parameter: dtypes (``"@x"`` is the dtype of ``x``), alternative shapes, fills.

    ``state`` names the implementation state, or ``"state.entry"`` of one that is a table, in which
    the op finds the tensor: a case has it as any argument, a call is not given it.
    ``content`` names the rule by which numbers that point somewhere are drawn.
    """

    name: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[str, ...], ...]
    optional: bool = False
    default: object = REQUIRED
    activation: bool = False
    fills: tuple[str, ...] = ("dyadic", "normal", "uniform")
    index_below: str | None = None
    state: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarSpec:
    """A plain parameter: its kind, default and domain. ``at_most`` names a bound size."""

    name: str
    kind: str
    default: object = REQUIRED
    optional: bool = False
    minimum: float | None = None
    finite: bool = True
    choices: tuple[Plain, ...] = ()
    at_most: str | None = None
    even: bool = False
    samples: tuple[Plain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """An output: dtype (``"@x"`` or a name), shape axes, layout rule.

    ``layout`` is ``"contiguous"``, ``"swapped"`` (last two stored exchanged), or ``"like:x"``.
    ``swapped_if`` names a bool parameter that turns ``contiguous`` into ``swapped``.
    ``empty_without`` names an optional tensor without which the output is empty, shape (0,).
    ``may_alias`` names the activation whose storage ``maybe_inplace`` may return.
    ``left_in`` names the parameter with a ``state`` that holds this after the call: what the op
    leaves there counts as an output, which follows those that it returns.
    """

    name: str
    dtype: str
    shape: tuple[str, ...] | str
    layout: str = "contiguous"
    swapped_if: str | None = None
    empty_without: str | None = None
    may_alias: str | None = None
    left_in: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The op must refuse the case with ``InputError``: which argument breaks which rule."""

    argument: str
    rule: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The names of a legal case: every size, and the batch dimensions."""

    sizes: Mapping[str, int]
    batch: tuple[int, ...]

    def axis(self, expression: str) -> int:
        return math.prod(
            int(part) if part.isdigit() else self.sizes[part] for part in expression.split("*")
        )

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        head = self.batch if axes and axes[0] == "..." else ()
        tail = axes[1:] if axes and axes[0] == "..." else axes
        return (*head, *(self.axis(axis) for axis in tail))


Relation = Callable[[OpCase, Binding], Refusal | None]
Arrays = Mapping[str, np.ndarray]
"""Tensor arguments by name, as arrays of their storage dtypes."""
Precondition = Callable[[Arrays], str]
"""Why what numbers in tensors say is undefined, as a kebab-case slug; empty where it is not."""
Effect = Callable[[Arrays], None]
"""Writes to the arrays what the call writes to its states, bit for bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDeclaration:
    """Everything that is legal for one op, and what its outputs look like."""

    op: str
    parameters: tuple[TensorSpec | ScalarSpec, ...]
    dims: tuple[Dim, ...]
    outputs: tuple[OutputSpec, ...]
    allow_inplace: bool = False
    ranks: tuple[int, int] = (1, 4)
    relations: tuple[Relation, ...] = ()
    scalar_names: Mapping[str, str] = field(default_factory=dict)
    """Sizes that a scalar argument gives: size name -> parameter name."""
    scalar_defaults: Mapping[str, str] = field(default_factory=dict)
    """Sizes whose scalar may be None: size name -> the size it then equals."""
    preconditions: tuple[Precondition, ...] = ()
    effect: Effect | None = None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return tuple(p for p in self.parameters if isinstance(p, TensorSpec))

    @property
    def states(self) -> tuple[TensorSpec, ...]:
        """The tensors that the op finds in its states."""
        return tuple(t for t in self.tensors if t.state)

    @property
    def scalars(self) -> tuple[ScalarSpec, ...]:
        return tuple(p for p in self.parameters if isinstance(p, ScalarSpec))

    @property
    def activations(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tensors if t.activation)

    @property
    def dtype_parameter(self) -> str:
        """The tensor whose dtype is the op's T: the first activation."""
        return self.activations[0]

    def parameter(self, name: str) -> TensorSpec | ScalarSpec:
        for spec in self.parameters:
            if spec.name == name:
                return spec
        raise KeyError(name)

    def dim(self, name: str) -> Dim | None:
        for dim in self.dims:
            if dim.name == name:
                return dim
        return None

    def values(self, case: OpCase) -> dict[str, View | Plain]:
        """Every parameter's value, defaults filled in."""
        given = {a.name: a.value for a in case.arguments}
        filled: dict[str, View | Plain] = {}
        for spec in self.parameters:
            if spec.name in given:
                filled[spec.name] = given[spec.name]
            elif spec.default is not REQUIRED:
                filled[spec.name] = spec.default  # type: ignore[assignment]
        return filled

    def bind(self, case: OpCase) -> Binding | Refusal:
        """The sizes of a legal case, or why the op must refuse it."""
        return _Binder(self, case).run()


class _Binder:
    """Solves one case against a declaration, argument by argument in declared order."""

    def __init__(self, declaration: OpDeclaration, case: OpCase) -> None:
        self.declaration = declaration
        self.case = case
        self.values = declaration.values(case)
        self.sizes: dict[str, int] = {}
        self.batch: tuple[int, ...] | None = None

    def run(self) -> Binding | Refusal:
        declaration = self.declaration
        for spec in declaration.parameters:
            if spec.name not in self.values:
                return Refusal(spec.name, "is required")
        for spec in declaration.scalars:
            if refusal := self._scalar(spec):
                return refusal
        for size, parameter in declaration.scalar_names.items():
            value = self.values[parameter]
            if value is None and size in declaration.scalar_defaults:
                value = self.sizes.get(declaration.scalar_defaults[size])
            if isinstance(value, int):
                self.sizes[size] = value
        for spec in declaration.tensors:
            if refusal := self._tensor(spec):
                return refusal
        for dim in declaration.dims:
            if (size := self.sizes.get(dim.name)) is None:
                continue
            if size < dim.minimum:
                return Refusal(dim.name, f"is at least {dim.minimum}")
            if dim.even and size % 2:
                return Refusal(dim.name, "is even")
        binding = Binding(self.sizes, self.batch or ())
        for spec in declaration.scalars:
            value = self.values[spec.name]
            limit = self.sizes.get(spec.at_most) if spec.at_most else None
            if limit is not None and isinstance(value, int | float) and value > limit:
                return Refusal(spec.name, f"is at most {spec.at_most}")
        for relation in declaration.relations:
            if refusal := relation(self.case, binding):
                return refusal
        return self._donated() or binding

    def _scalar(self, spec: ScalarSpec) -> Refusal | None:
        value = self.values[spec.name]
        if value is None:
            return None if spec.optional else Refusal(spec.name, "is required")
        if spec.choices and value not in spec.choices:
            return Refusal(spec.name, f"is one of {spec.choices}")
        if isinstance(value, float) and spec.finite and not math.isfinite(value):
            return Refusal(spec.name, "is finite")
        if spec.minimum is not None and isinstance(value, int | float) and value < spec.minimum:
            return Refusal(spec.name, f"is at least {spec.minimum}")
        if spec.even and isinstance(value, int) and value % 2:
            return Refusal(spec.name, "is even")
        return None

    def _tensor(self, spec: TensorSpec) -> Refusal | None:
        value = self.values[spec.name]
        if value is None:
            return None if spec.optional else Refusal(spec.name, "is required")
        if not isinstance(value, View):
            return Refusal(spec.name, "is a tensor")
        accepted = tuple(self.case.dtype_of(d[1:]) if d.startswith("@") else d for d in spec.dtypes)
        if self.case.dtype_of(spec.name) not in accepted:
            return Refusal(spec.name, f"has dtype {' or '.join(str(a) for a in accepted)}")
        if spec.activation:
            low, high = self.declaration.ranks
            if not low <= len(value.shape) <= high:
                return Refusal(spec.name, f"has {low} to {high} dimensions")
        for axes in spec.shapes:
            if self._match(axes, value.shape):
                return None
        shapes = " or ".join(f"({', '.join(axes)})" for axes in spec.shapes)
        return Refusal(spec.name, f"has shape {shapes}")

    def _match(self, axes: tuple[str, ...], shape: tuple[int, ...]) -> bool:
        sizes = dict(self.sizes)
        batch = self.batch
        if axes and axes[0] == "...":
            axes = axes[1:]
            if len(shape) < len(axes):
                return False
            split = len(shape) - len(axes)
            if batch is not None and batch != shape[:split]:
                return False
            batch, shape = shape[:split], shape[split:]
        if len(axes) != len(shape):
            return False
        for axis, size in zip(axes, shape, strict=True):
            known, unknown = 1, []
            for part in axis.split("*"):
                if part.isdigit():
                    known *= int(part)
                elif part in sizes:
                    known *= sizes[part]
                else:
                    unknown.append(part)
            if not unknown:
                if size != known:
                    return False
            elif len(unknown) > 1 or known == 0 or size % known:
                return False
            else:
                sizes[unknown[0]] = size // known
        self.sizes, self.batch = sizes, batch
        return True

    def _donated(self) -> Refusal | None:
        """``maybe_inplace`` donates its activations: they must be memory of their own."""
        if self.case.overload != "maybe_inplace":
            return None
        if not self.declaration.allow_inplace:
            return Refusal("maybe_inplace", "does not exist for this op")
        views = self.case.views()
        for name in self.declaration.activations:
            if name not in views:
                continue
            if is_self_overlapping(views[name]):
                return Refusal(name, "does not overlap itself: it is donated")
            for other, view in views.items():
                if other != name and _share_memory(views[name], view):
                    return Refusal(name, f"shares no memory with {other}: it is donated")
        return None


def _share_memory(a: View, b: View) -> bool:
    if a.storage != b.storage or not a.numel or not b.numel:
        return False
    return bool(np.intersect1d(touched_elements(a), touched_elements(b)).size)


def equal_ranks(first: str, second: str) -> Relation:
    """Two tensors, where both are given, have the same number of dimensions."""

    def check(case: OpCase, _binding: Binding) -> Refusal | None:
        views = case.views()
        both = first in views and second in views
        if both and len(views[first].shape) != len(views[second].shape):
            return Refusal(second, f"has as many dimensions as {first}")
        return None

    return check


def flag_needs_rank(flag: str, tensor: str, rank: int) -> Relation:
    """Where the bool ``flag`` is set, ``tensor`` has at least ``rank`` dimensions."""

    def check(case: OpCase, _binding: Binding) -> Refusal | None:
        if case.plain().get(flag) and len(case.views()[tensor].shape) < rank:
            return Refusal(flag, f"needs {tensor} of at least {rank} dimensions")
        return None

    return check


def contiguous(tensor: str) -> Relation:
    """A tensor is row-major without gaps, as states are made."""

    def check(case: OpCase, _binding: Binding) -> Refusal | None:
        view = case.views().get(tensor)
        if view is not None and view.numel and not view.is_contiguous:
            return Refusal(tensor, "is contiguous")
        return None

    return check
