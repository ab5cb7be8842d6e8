"""Programs that call one op of the IR several times, with signatures equal or nearly so.

A replacement cache must give equal calls one trace and unlike calls two. So calls differ from the
first in one factor at a time: layout, offset, dtype, size, one plain value or only its type
(1, 1.0, True; 0.0, -0.0), a default written out, a keyword, the overload, one tensor given twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reference.declaration import ScalarSpec
from reference.legal import DECLARATIONS
from reference.model import Plain, ProgramCase, ProgramOperand, Value, View

from ...chooser import Chooser
from .builder import Builder
from .data import draw_storage
from .families import outputs
from .memory import Given, draw_donated
from .moves import clone_of, view_of, write_to

_LEFT_OUT = "left out"
_FORMS = ("positional", "keywords", "mixed")
_ACTIVATIONS = ("plain", "other", "transposed", "padded", "offset", "dtype", "rows", "clone")
_WEIGHTS = ("weight", "none", "weight32", "strided-weight", "another-weight")
_EPSILONS: tuple[Plain, ...] = (1.0, 1, True, 1e-5, 1e-6, 0.0, -0.0, 0)
_DTYPES = ("float32", "float32", "bfloat16", "float16")

_VARIANTS: Mapping[str, Mapping[str, tuple[Plain, ...]]] = {
    "rms_norm": {
        "x": _ACTIVATIONS,
        "weight": _WEIGHTS,
        "epsilon": _EPSILONS,
        "variance_size": (_LEFT_OUT, None, 4, 2),
    },
    "fused_add_rms_norm": {
        "x": _ACTIVATIONS,
        "x_residual": ("doubled", "doubled", "same"),
        "weight": _WEIGHTS,
        "epsilon": _EPSILONS,
        "variance_size": (_LEFT_OUT, None, 4, 2),
    },
    "silu_and_mul": {"x": _ACTIVATIONS},
    "gelu_and_mul": {"x": _ACTIVATIONS, "approximate": (_LEFT_OUT, "none", "tanh")},
    "static_quant_fp8": {"x": _ACTIVATIONS, "scale": ("scale", "scale-of-one")},
    "dynamic_per_token_quant_fp8": {
        "x": _ACTIVATIONS,
        "scale_ub": (_LEFT_OUT, None, "scale", "scale-of-one"),
    },
    "per_token_group_quant_fp8": {
        "x": _ACTIVATIONS,
        "group_size": (2, 4),
        "column_major_scales": (_LEFT_OUT, False, True),
        "ue8m0": (_LEFT_OUT, False, True),
    },
}
_OPS = (*("rms_norm",) * 4, *("fused_add_rms_norm",) * 3, *_VARIANTS)
FACTORS = (
    "none", "form", "overload",
    *dict.fromkeys(name for variants in _VARIANTS.values() for name in variants),
)  # fmt: skip
"""What two calls may differ in: nothing, how arguments are passed, the overload, a parameter."""


@dataclass(frozen=True, slots=True)
class _Call:
    choices: Mapping[str, Plain]
    form: str = "positional"
    overload: str = "default"


def lowering(chooser: Chooser) -> ProgramCase:
    """Two to five calls of one op, now and then on what another returned, with steps between."""
    op = chooser.choose(_OPS)
    calls = [_first_call(op, chooser)]
    for _ in range(chooser.choose((1, 2, 2, 3, 4))):
        calls.append(_changed(op, chooser.choose(calls), _drawn_factor(op, chooser), chooser))
    return _program(op, calls, chooser, plain=False)


def lowering_pair(chooser: Chooser) -> tuple[str, ProgramCase]:
    """A factor (of ``FACTORS``), and two calls of one op that differ in it alone, in either order.

    Some differences mean the same to an op (a default written out, 1 and 1.0).
    """
    op = chooser.choose(_OPS)
    factor = _drawn_factor(op, chooser)
    first = _first_call(op, chooser)
    if factor == "overload":
        first = _owning(first)
    calls = [first, _changed(op, first, factor, chooser)]
    if chooser.chance(0.5):
        calls.reverse()
    return factor, _program(op, calls, chooser, plain=True)


def _first_call(op: str, chooser: Chooser) -> _Call:
    chosen: dict[str, Plain] = {}
    for name, variants in _VARIANTS[op].items():
        chosen[name] = variants[0] if chooser.chance(0.6) else chooser.choose(variants)
    call = _Call(chosen, form=chooser.choose(_FORMS))
    if DECLARATIONS[op].allow_inplace and chooser.chance(0.25):
        return replace(_owning(call), overload="maybe_inplace")
    return call


def _drawn_factor(op: str, chooser: Chooser) -> str:
    factors = ["none", "form", *_VARIANTS[op], *_VARIANTS[op], "x"]
    return chooser.choose([*factors, "overload"] if DECLARATIONS[op].allow_inplace else factors)


def _changed(op: str, call: _Call, factor: str, chooser: Chooser) -> _Call:
    if factor == "none":
        return call
    if factor == "form":
        return replace(call, form=chooser.choose([f for f in _FORMS if f != call.form]))
    if factor == "overload":
        other = "default" if call.overload == "maybe_inplace" else "maybe_inplace"
        return replace(_owning(call), overload=other)
    now = call.choices[factor]
    others = [
        v
        for v in _VARIANTS[op][factor]
        if (type(v), str(v)) != (type(now), str(now))
        and not (v == "same" and call.overload == "maybe_inplace")
    ]
    if not others:
        return call
    return replace(call, choices={**call.choices, factor: chooser.choose(others)})


def _owning(call: _Call) -> _Call:
    """The call with activations that share no memory: only those can be given away."""
    if call.choices.get("x_residual") != "same":
        return call
    return replace(call, choices={**call.choices, "x_residual": "doubled"})


def _program(op: str, calls: list[_Call], chooser: Chooser, *, plain: bool) -> ProgramCase:
    given, named = _memory(op, calls, chooser, plain=plain)
    b = Builder(chooser, given.storages, given.tensors, given.inputs, given.donated)
    results: list[int] = []
    for call in calls:
        made = _emit(b, op, call, named, results if not plain else [])
        results += made
        if made and not plain and chooser.chance(0.3):
            _between(b, made[0])
    if not plain and chooser.chance(0.15):
        _give_input(b, op, named["plain"])
    wanted = [r for r in results if plain or chooser.chance(0.8)]
    return b.program(wanted if plain and wanted else outputs(b, *wanted))


def _give_input(b: Builder, op: str, x: int) -> None:
    """A last call that an input is given to, whether or not the caller donated it."""
    if op == "rms_norm":
        b.add("ir.rms_norm.maybe_inplace", Value(x), None, 1e-5)
    elif op == "fused_add_rms_norm":
        operands = (Value(x), Value(_another(b, x)), None, 1e-5)
        b.add("ir.fused_add_rms_norm.maybe_inplace", *operands, results=2)


def _memory(
    op: str, calls: list[_Call], chooser: Chooser, *, plain: bool
) -> tuple[Given, dict[str, int]]:
    """Inputs for all that the calls name: their positions by name."""
    dtype = chooser.choose(_DTYPES)
    rows, width = chooser.choose((1, 2, 3)), 8 if "and_mul" in op else chooser.choose((4, 8))
    wanted = {str(v) for call in calls for v in call.choices.values()} | {"plain"}
    given = Given([], [], [], [])
    named: dict[str, int] = {}

    def tensor(name: str, dtype: str, view: View, spare: int = 0) -> None:
        if name not in wanted:
            return
        named[name] = len(given.inputs)
        given.storages.append(draw_storage(dtype, view.extent + spare, chooser))
        given.tensors.append(replace(view, storage=len(given.storages) - 1))
        given.inputs.append(len(given.tensors) - 1)

    shape = (rows, width)
    row_major = View(0, shape, (width, 1))
    tensor("plain", dtype, row_major)
    tensor("other", dtype, row_major)
    tensor("transposed", dtype, View(0, shape, (1, rows)))
    tensor("padded", dtype, View(0, shape, (width + 2, 1)))
    tensor("offset", dtype, replace(row_major, offset=3), spare=2)
    tensor("dtype", "bfloat16" if dtype == "float32" else "float32", row_major)
    tensor("rows", dtype, View(0, (rows + 1, width), (width, 1)))
    tensor("weight", dtype, View(0, (width,), (1,)))
    tensor("another-weight", dtype, View(0, (width,), (1,)))
    tensor("strided-weight", dtype, View(0, (width,), (2,)))
    tensor("weight32", "float32", View(0, (width,), (1,)))
    tensor("scale", "float32", View(0, (), ()))
    tensor("scale-of-one", "float32", View(0, (1,), (1,)))
    if not plain:
        draw_donated(given, chooser, 0.15)
    return given, named


def _emit(
    b: Builder, op: str, call: _Call, named: Mapping[str, int], earlier: list[int]
) -> tuple[int, ...]:
    """The call, on what it names or now and then on an earlier result. Its results' numbers."""
    x = _activation(b, call, named, earlier)
    positional: list[ProgramOperand] = []
    by_name: dict[str, ProgramOperand] = {}
    parameters = DECLARATIONS[op].parameters
    start = {"positional": len(parameters), "keywords": 0, "mixed": 1}[call.form]
    for i, spec in enumerate(parameters):
        choice = call.choices.get(spec.name, _LEFT_OUT)
        if choice == _LEFT_OUT and isinstance(choice, str):
            # What follows can only be passed by name.
            start = min(start, i)
            continue
        operand = choice if isinstance(spec, ScalarSpec) else _tensor(b, choice, x, named)
        if i < start:
            positional.append(operand)
        else:
            by_name[spec.name] = operand
    results = len(DECLARATIONS[op].outputs)
    return b.add(f"ir.{op}.{call.overload}", *positional, results=results, **by_name)


def _activation(b: Builder, call: _Call, named: Mapping[str, int], earlier: list[int]) -> int:
    choice = str(call.choices["x"])
    x = named["plain" if choice == "clone" else choice]
    shape = b.tensor(x).shape
    usable = [r for r in earlier if b.tensor(r).shape == shape and not b.tensor(r).is_lost]
    usable = [r for r in usable if b.tensor(r).dtype == b.tensor(x).dtype]
    if usable and b.chooser.chance(0.35):
        x = b.chooser.choose(usable)
    if choice == "clone":
        made = clone_of(b, x)
        return x if made is None else made
    if call.overload == "maybe_inplace" and not (x in earlier and b.chooser.chance(0.5)):
        # What is given away is a temporary, or what an earlier call returned.
        return _another(b, x)
    return x


def _another(b: Builder, x: int) -> int:
    """A temporary made of a value: its double, or where that would round its clone."""
    made = b.add("aten.mul.Tensor", Value(x), 2) or b.add("aten.clone.default", Value(x))
    return made[0] if made else x


def _tensor(b: Builder, choice: Plain, x: int, named: Mapping[str, int]) -> ProgramOperand:
    if choice is None or choice == "none":
        return None
    if choice == "same":
        return Value(x)
    if choice == "doubled":
        return Value(_another(b, x))
    return Value(named[choice] if choice in named and choice not in _ACTIVATIONS else x)  # type: ignore[index]


def _between(b: Builder, number: int) -> None:
    """A step on what an op returned: what is exact, or rounds once in float32."""
    kind = b.chooser.choose(("clone", "view", "add", "write"))
    if kind == "clone":
        clone_of(b, number)
    elif kind == "view":
        view_of(b, number)
    elif kind == "add":
        b.add("aten.add.Tensor", Value(number), Value(number))
    else:
        write_to(b, number)
