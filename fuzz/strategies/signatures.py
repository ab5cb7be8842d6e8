"""What is held fixed over many cases, so that one compiled artefact can serve them.

A compiled route specializes on rank, on which optional tensors are there, on the other tensors'
dtypes, on every plain value and on every size but the token count. A fixed signature names all of
those; a free one names only the dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

from reference.declaration import FLOATS, REQUIRED, OpDeclaration, ScalarSpec, TensorSpec
from reference.legal import DECLARATIONS
from reference.model import Plain

PER_DTYPE = 2
"""Fixed signatures per op and dtype: each costs one compilation per compiled route."""

# Slot by slot: a vector-width multiple, then an odd or prime one, for each of the three dtypes.
_WIDTHS = (64, 17, 48, 33, 40, 31)
_GROUPS = ((3, 16), (3, 11), (6, 8), (11, 3), (2, 32), (5, 7))
_HEADS = ((2, 1), (3, 3), (4, 2), (1, 2), (2, 2), (3, 1))
_HEAD_SIZES = (16, 6, 32, 10, 8, 14)
_POSITIONS = 41
# Of a paged cache: blocks, rows of one, entries of a table, its heads, heads that share one.
_PAGED = {
    "blocks": (5, 4, 6, 3, 7, 5),
    "block_size": (4, 3, 2, 5, 4, 1),
    "entries": (3, 2, 4, 2, 1, 5),
    "kv_heads": (1, 3, 2, 2, 1, 1),
    "group": (2, 1, 1, 3, 2, 7),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A class of cases of one op. ``dtype`` is the op's T: the dtype of its first activation.

    The rest is empty where ``fixed`` is False. ``rank`` is that of the first activation,
    ``present`` the optional tensors that are given, ``dtypes`` those of the other tensors,
    ``alternatives`` which of its declared shapes a tensor has, ``scalars`` every plain value, and
    ``sizes`` every named size but the token count.
    """

    op: str
    index: int
    dtype: str
    fixed: bool
    rank: int | None = None
    present: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    alternatives: tuple[tuple[str, int], ...] = ()
    scalars: tuple[tuple[str, Plain], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()


def free_signature(declaration: OpDeclaration, dtype: str) -> Signature:
    """Everything but the dtype is drawn: for routes that compile nothing."""
    return Signature(op=declaration.op, index=0, dtype=dtype, fixed=False)


def fixed_signatures(declaration: OpDeclaration, dtype: str) -> tuple[Signature, ...]:
    """The compiled artefact classes of one op and dtype: ``PER_DTYPE`` of them.

    Over the three dtypes together every optional tensor is given and absent, every flag set and
    unset, every choice made, every mixed dtype seen, and nearly all pairs of those.
    """
    first = FLOATS.index(dtype) * PER_DTYPE
    table = _covering(declaration.op)
    return tuple(
        _signature(declaration, dtype, first + k, dict(table[first + k])) for k in range(PER_DTYPE)
    )


_Choices = dict[str, tuple[Plain, ...]]


def _features(declaration: OpDeclaration) -> _Choices:
    """What may differ between signatures: feature name -> its values."""
    features: _Choices = {}
    for spec in declaration.parameters:
        if isinstance(spec, TensorSpec):
            if spec.optional:
                features[f"present {spec.name}"] = (True, False)
            if len(spec.dtypes) > 1 and spec.name != declaration.dtype_parameter:
                features[f"dtype {spec.name}"] = ("same", "other")
            if len(spec.shapes) > 1 and not spec.activation:
                features[f"shape {spec.name}"] = tuple(range(len(spec.shapes)))
        elif spec.kind == "bool":
            features[f"value {spec.name}"] = (False, True)
        elif spec.choices:
            features[f"value {spec.name}"] = spec.choices
        elif spec.optional:
            features[f"value {spec.name}"] = (None, "drawn")
    return features


@cache
def _covering(op: str) -> tuple[tuple[tuple[str, Plain], ...], ...]:
    """One row per slot, chosen greedily so that new values and pairs of values come first."""
    features = _features(DECLARATIONS[op])
    rows = [tuple(zip(features, values, strict=True)) for values in product(*features.values())]
    seen: set[tuple[object, ...]] = set()
    table: dict[int, tuple[tuple[str, Plain], ...]] = {}
    slots = range(PER_DTYPE * len(FLOATS))
    # bfloat16 at a vector width comes first: it takes the first row, everything given and of one
    # dtype, which is how models call the op.
    for slot in sorted(slots, key=lambda slot: slot != FLOATS.index("bfloat16") * PER_DTYPE):
        # The width alternates with the slot, so pairs with it count as well.
        odd = ("odd", bool(slot % PER_DTYPE))
        # A narrower weight's rounding, which stock Inductor may skip, leaves fp32 outputs
        # undecided: one of float32's signatures is the plain call, every tensor given and of one
        # dtype, every optional size left out, which no provider's ``supports_args`` declines.
        plain = slot == FLOATS.index("float32") * PER_DTYPE
        allowed = [row for row in rows if not plain or _is_plain(row)]
        table[slot] = max(allowed, key=lambda row: len(_pairs((*row, odd)) - seen))
        seen |= _pairs((*table[slot], odd))
    return tuple(table[slot] for slot in slots)


def _is_plain(row: tuple[tuple[str, Plain], ...]) -> bool:
    absent = any(value is False and name.startswith("present ") for name, value in row)
    return not absent and all(value not in ("other", "drawn") for _name, value in row)


def _pairs(row: tuple[tuple[str, Plain], ...]) -> set[tuple[object, ...]]:
    """Features and pairs of them that the row shows; an absent tensor shows no dtype or shape."""
    absent = {name.split()[1] for name, value in row if "present " in name and not value}
    shown = [item for item in row if "present " in item[0] or item[0].split()[-1] not in absent]
    pairs: set[tuple[object, ...]] = set(combinations(shown, 2))
    return pairs | {(item,) for item in shown}


def _signature(
    declaration: OpDeclaration, dtype: str, slot: int, features: dict[str, Plain]
) -> Signature:
    low, high = declaration.ranks
    last = PER_DTYPE * len(FLOATS) - 1
    rank = min(high, 3) if slot == last else max(low, 2)
    sizes = _sizes(declaration, slot)
    dtypes, alternatives = [], []
    for spec in declaration.tensors:
        if spec.name != declaration.dtype_parameter:
            same = features.get(f"dtype {spec.name}", "same") == "same"
            dtypes.append((spec.name, _dtype(spec, dtype, same=same, slot=slot)))
        chosen = features.get(f"shape {spec.name}", 0)
        if spec.activation and len(spec.shapes) > 1:
            chosen = next(i for i, axes in enumerate(spec.shapes) if len(axes) == rank)
        alternatives.append((spec.name, int(chosen or 0)))
    scalars = tuple(
        (spec.name, _scalar(declaration, spec, features, sizes, slot))
        for spec in declaration.scalars
    )
    return Signature(
        op=declaration.op,
        index=slot % PER_DTYPE,
        dtype=dtype,
        fixed=True,
        rank=rank,
        present=tuple(
            spec.name for spec in declaration.tensors if features.get(f"present {spec.name}", True)
        ),
        dtypes=tuple(dtypes),
        alternatives=tuple(alternatives),
        scalars=scalars,
        sizes=tuple(sizes.items()),
    )


def _sizes(declaration: OpDeclaration, slot: int) -> dict[str, int]:
    groups, group_size = _GROUPS[slot]
    grouped = any(dim.role == "groups" for dim in declaration.dims)
    heads = iter(_HEADS[slot])
    sizes = {}
    for dim in declaration.dims:
        if dim.role == "width":
            sizes[dim.name] = group_size if grouped else _WIDTHS[slot]
        elif dim.role == "groups":
            sizes[dim.name] = groups
        elif dim.role == "heads":
            sizes[dim.name] = next(heads)
        elif dim.role == "head_size":
            sizes[dim.name] = _HEAD_SIZES[slot]
        elif dim.role == "positions":
            sizes[dim.name] = _POSITIONS
        elif dim.role in _PAGED:
            sizes[dim.name] = _PAGED[dim.role][slot]
    return sizes


def _dtype(spec: TensorSpec, dtype: str, *, same: bool, slot: int) -> str:
    accepted = [dtype if d.startswith("@") else d for d in spec.dtypes]
    if same:
        return dtype if dtype in accepted else accepted[0]
    others = [d for d in accepted if d != dtype] or accepted
    return others[slot // PER_DTYPE % len(others)]


def _scalar(
    declaration: OpDeclaration,
    spec: ScalarSpec,
    features: dict[str, Plain],
    sizes: dict[str, int],
    slot: int,
) -> Plain:
    chosen = features.get(f"value {spec.name}")
    if spec.kind == "bool" or spec.choices:
        return chosen
    if spec.optional and chosen is None:
        return None
    sized = {parameter: size for size, parameter in declaration.scalar_names.items()}
    if sized.get(spec.name) in sizes:
        return sizes[sized[spec.name]]
    if spec.kind == "int":
        limit = sizes[spec.at_most] if spec.at_most else 8
        half = max(int(spec.minimum or 1), limit // 2)
        return half + half % 2 if spec.even else half
    if spec.samples:
        return spec.samples[slot % len(spec.samples)]
    return spec.default if spec.default is not REQUIRED else 1.0  # type: ignore[return-value]
