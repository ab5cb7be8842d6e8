"""The numbers of a legal case before it has memory: sizes, dtypes, plain values, what is given."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from reference.declaration import Binding, OpDeclaration, ScalarSpec, TensorSpec
from reference.model import Plain

from ..chooser import Chooser
from .signatures import Signature

TOKENS = (0, 1, 1, 2, 2, 3, 3, 5, 7, 8, 16, 33)
FEW_TOKENS = (0, *(1,) * 10, 2, 2, 2, 3, 5)
# Few rows with every alignment of a vector of 4, 8, 16 or 32 elements, one less and one more.
_WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 19, 23, 31, 32, 33, 37, 48, 63, 64, 65, 67)
_GROUP_SIZES = (1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 32)
_HEAD_SIZES = (2, 4, 6, 8, 10, 14, 16, 18, 32, 34)
_POSITIONS = (1, 2, 3, 7, 16, 41)
# Heads that share one of keys and values: ratios of the catalogue's models, and odd ones.
_GROUPS = (1, 2, 3, 4, 7, 8, 16)
_BLOCK_SIZES = (1, 2, 3, 4, 8, 16)
LONG_TABLE = 8
"""Entries from which on a table is long, so that a kernel goes through its sequence in steps."""
_LONG_TABLES = (LONG_TABLE, 13, 18, 19, 20, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A legal case without memory. ``axes`` are the chosen shapes of the tensors that are given."""

    declaration: OpDeclaration
    binding: Binding
    axes: Mapping[str, tuple[str, ...]]
    dtypes: Mapping[str, str]
    scalars: Mapping[str, Plain]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.binding.shape(self.axes[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a caller insists on, whether or not it stays legal: for cases illegal on purpose."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    scalars: Mapping[str, Plain] = field(default_factory=dict)
    rank: int | None = None
    batch: tuple[int, ...] | None = None
    """The leading dimensions, ``rank`` being one more."""
    everything: bool = False
    """Give every optional tensor."""


NO_OVERRIDES = Overrides()


def draw_plan(
    declaration: OpDeclaration,
    signature: Signature,
    chooser: Chooser,
    overrides: Overrides = NO_OVERRIDES,
) -> Plan:
    """Sizes, dtypes and plain values of a legal case of ``signature``."""
    rank = overrides.rank or signature.rank
    if rank is None:
        low, high = declaration.ranks
        usual = [r for r in (2, 2, 2, 3) if low <= r <= high]
        rank = chooser.choose([*usual, *range(low, high + 1)])
    present = tuple(
        spec for spec in declaration.tensors if _given(spec, signature, chooser, overrides)
    )
    axes = {spec.name: _axes(spec, rank, signature, chooser) for spec in present}
    sizes = _sizes(declaration, signature, chooser) | dict(overrides.sizes)
    lead = axes[declaration.dtype_parameter]
    batch = _batch(rank - (len(lead) - 1), signature, chooser) if lead[0] == "..." else ()
    if overrides.batch is not None:
        batch = overrides.batch
    scalars = {
        spec.name: _scalar(declaration, spec, signature, sizes, chooser)
        for spec in declaration.scalars
    }
    for output in declaration.outputs:
        # A layout with the last two dimensions exchanged needs two.
        if output.swapped_if is not None and rank < 2:
            scalars[output.swapped_if] = False
    scalars |= dict(overrides.scalars)
    for size, parameter in declaration.scalar_names.items():
        value = scalars[parameter]
        if value is None:
            value = sizes[declaration.scalar_defaults[size]]
        if isinstance(value, int) and size not in overrides.sizes:
            sizes[size] = value
    return Plan(
        declaration=declaration,
        binding=Binding(sizes, batch),
        axes=axes,
        dtypes=_dtypes(declaration, present, signature, chooser),
        scalars=scalars,
    )


def _given(spec: TensorSpec, signature: Signature, chooser: Chooser, overrides: Overrides) -> bool:
    if not spec.optional or overrides.everything:
        return True
    return spec.name in signature.present if signature.fixed else chooser.chance(0.75)


def _axes(spec: TensorSpec, rank: int, signature: Signature, chooser: Chooser) -> tuple[str, ...]:
    if signature.fixed:
        return spec.shapes[dict(signature.alternatives)[spec.name]]
    fitting = [
        axes for axes in spec.shapes if not spec.activation or axes[0] == "..." or len(axes) == rank
    ]
    # An override may ask for a rank that no shape has: the case is then illegal, as asked for.
    return chooser.choose(fitting or spec.shapes)


def _sizes(declaration: OpDeclaration, signature: Signature, chooser: Chooser) -> dict[str, int]:
    fixed = dict(signature.sizes)
    grouped = any(dim.role == "groups" for dim in declaration.dims)
    sizes: dict[str, int] = {}
    for dim in declaration.dims:
        if dim.role == "tokens":
            sizes[dim.name] = chooser.choose(FEW_TOKENS if dim.few else TOKENS)
        elif dim.name in fixed:
            sizes[dim.name] = fixed[dim.name]
        elif dim.role == "width":
            sizes[dim.name] = chooser.choose(_GROUP_SIZES if grouped else _WIDTHS)
        elif dim.role == "head_size":
            sizes[dim.name] = chooser.choose(_HEAD_SIZES)
        elif dim.role == "positions":
            sizes[dim.name] = chooser.choose(_POSITIONS)
        elif dim.role == "group":
            sizes[dim.name] = chooser.choose(_GROUPS)
        elif dim.role == "block_size":
            sizes[dim.name] = chooser.choose(_BLOCK_SIZES)
        else:
            sizes[dim.name] = chooser.integer(max(1, dim.minimum), 4)
    names = {dim.role: dim.name for dim in declaration.dims}
    if "entries" in names and not signature.fixed and chooser.chance(0.1):
        sizes |= {names[role]: size for role, size in _long(chooser).items()}
    return sizes


def _long(chooser: Chooser) -> dict[str, int]:
    """By role the sizes of a cache with a long sequence; one head, for the work that it is."""
    entries = chooser.choose(_LONG_TABLES)
    return {
        "tokens": chooser.choose((1, 1, 1, 2)),
        "blocks": entries + chooser.integer(0, 4),
        "block_size": 16,
        "kv_heads": 1,
        "group": 1,
        "entries": entries,
    }


def _batch(rank: int, signature: Signature, chooser: Chooser) -> tuple[int, ...]:
    """Batch dimensions: tokens in one, at most 3 in the others, at most about 70 rows in all."""
    if rank <= 0:
        return ()
    tokens = chooser.choose(TOKENS)
    if signature.fixed:
        return (tokens, *(2 for _ in range(rank - 1)))
    if rank > 2:
        tokens = min(tokens, 7)
    others = [chooser.choose((1, 2, 2, 3, 3)) for _ in range(rank - 1)]
    if others and chooser.chance(0.03):
        others[-1] = 0
    at = 0 if chooser.chance(0.7) else chooser.integer(0, rank - 1)
    return (*others[:at], tokens, *others[at:])


def _dtypes(
    declaration: OpDeclaration,
    present: tuple[TensorSpec, ...],
    signature: Signature,
    chooser: Chooser,
) -> dict[str, str]:
    fixed = dict(signature.dtypes)
    dtypes: dict[str, str] = {}
    for spec in present:
        accepted = [signature.dtype if d.startswith("@") else d for d in spec.dtypes]
        if spec.name == declaration.dtype_parameter:
            dtypes[spec.name] = signature.dtype
        elif spec.name in fixed:
            dtypes[spec.name] = fixed[spec.name]
        elif signature.dtype in accepted and chooser.chance(0.6):
            dtypes[spec.name] = signature.dtype
        else:
            dtypes[spec.name] = chooser.choose(accepted)
    return dtypes


def _scalar(
    declaration: OpDeclaration,
    spec: ScalarSpec,
    signature: Signature,
    sizes: Mapping[str, int],
    chooser: Chooser,
) -> Plain:
    if signature.fixed:
        return dict(signature.scalars)[spec.name]
    sized = {parameter: size for size, parameter in declaration.scalar_names.items()}
    if sized.get(spec.name) in sizes:
        return sizes[sized[spec.name]]
    if spec.optional and chooser.chance(0.5):
        return None
    if spec.kind == "bool":
        return chooser.chance(0.5)
    if spec.choices:
        return chooser.choose(spec.choices)
    if spec.kind == "int":
        low = int(spec.minimum or 1)
        high = max(low, sizes[spec.at_most]) if spec.at_most else 8
        value = high if chooser.chance(0.2) else chooser.integer(low, high)
        return value - value % 2 if spec.even else value
    if spec.samples and not chooser.chance(0.15):
        return chooser.choose(spec.samples)
    return _double(spec, chooser)


def _double(spec: ScalarSpec, chooser: Chooser) -> float:
    """A double with 52 random fraction bits, hardly ever an fp32 number, within 2**-30 and 4."""
    exponent = 1023 + chooser.integer(-30, 1)
    bits = (exponent << 52) | chooser.integer(0, (1 << 52) - 1)
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    negative = spec.minimum is None and chooser.chance(0.5)
    return -value if negative else value
