"""Legal cases by construction: a plan from the declaration, memory for it, and a way to call."""

from __future__ import annotations

from collections.abc import Mapping

from reference.declaration import REQUIRED, OpDeclaration
from reference.model import Argument, Fill, OpCase, Plain, Storage, View

from ..chooser import Chooser
from .contents import draw_content
from .layouts import Placed, place, share
from .live_rows import planted
from .paged import content_of, drawn_numbers, poisoned, shortened
from .plan import NO_OVERRIDES, Overrides, Plan, draw_plan
from .signatures import Signature, free_signature


def legal_case(
    declaration: OpDeclaration,
    signature: Signature,
    chooser: Chooser,
    overrides: Overrides = NO_OVERRIDES,
) -> OpCase:
    """A case that ``declaration.bind`` accepts, whatever the chooser answers.

    Under a fixed signature inputs are contiguous and only token count, values and nothing else
    differ from case to case.
    """
    plan = draw_plan(declaration, signature, chooser, overrides)
    inplace = declaration.allow_inplace and not signature.fixed and chooser.chance(0.3)
    donated = declaration.activations if inplace else ()
    tensors, contents = _placed(plan, chooser, fixed=signature.fixed, donated=donated)
    if not signature.fixed and chooser.chance(0.3):
        states = {spec.name for spec in declaration.states}
        own = [placed for placed in tensors if placed.name in states]
        given = [placed for placed in tensors if placed.name not in states]
        tensors = [*share(given, contents, donated, chooser), *own]
    case = assembled(plan, tensors, contents, form=draw_form(plan, signature, chooser))
    if inplace:
        case = OpCase(case.op, case.storages, case.arguments, "maybe_inplace")
    return case


def small_case(
    declaration: OpDeclaration, dtype: str, chooser: Chooser, scalars: Mapping[str, Plain]
) -> OpCase:
    """A legal case with one or two of everything, in any layout; ``scalars`` as they are."""
    low, high = declaration.ranks
    rank = chooser.integer(low, high)
    overrides = Overrides(
        sizes={d.name: chooser.choose((1, 2)) for d in declaration.dims if d.role == "width"},
        batch=tuple(chooser.choose((1, 2)) for _ in range(rank - 1)),
        rank=rank,
        scalars=scalars,
    )
    return legal_case(declaration, free_signature(declaration, dtype), chooser, overrides)


def plain_case(
    declaration: OpDeclaration,
    signature: Signature,
    chooser: Chooser,
    overrides: Overrides = NO_OVERRIDES,
) -> OpCase:
    """As ``legal_case`` without sharing or donation, and contiguous: what is broken on purpose."""
    plan = draw_plan(declaration, signature, chooser, overrides)
    tensors, contents = _placed(plan, chooser, fixed=True, donated=())
    return assembled(plan, tensors, contents, form=draw_form(plan, signature, chooser))


def _placed(
    plan: Plan, chooser: Chooser, *, fixed: bool, donated: tuple[str, ...]
) -> tuple[list[Placed], dict[int, bytes | Fill]]:
    tensors: list[Placed] = []
    contents: dict[int, bytes | Fill] = {}
    numbers = drawn_numbers(plan, chooser)
    for spec in plan.declaration.tensors:
        if spec.name not in plan.axes:
            continue
        dtype = plan.dtypes[spec.name]
        placed = place(
            spec.name, dtype, plan.shape(spec.name), len(tensors), chooser,
            fixed=fixed, donated=spec.name in donated or spec.name in numbers,
            dense=bool(spec.state),
        )  # fmt: skip
        if spec.name in numbers:
            contents[placed.memory] = content_of(placed, numbers[spec.name])
            tensors.append(placed)
            continue
        limit = plan.binding.sizes[spec.index_below] if spec.index_below else 0
        contents[placed.memory] = draw_content(
            spec, dtype, placed.numel, limit, chooser, fixed=fixed
        )
        if spec.content == "cache" and chooser.chance(0.4):
            contents[placed.memory] = poisoned(placed, contents[placed.memory], numbers, plan)
        if spec.content == "history" and chooser.chance(0.5):
            contents[placed.memory] = shortened(placed, contents[placed.memory], numbers, plan)
        tensors.append(placed)
    return tensors, contents | planted(plan, tensors, contents, numbers, chooser)


def draw_form(plan: Plan, signature: Signature, chooser: Chooser) -> tuple[int, frozenset[str]]:
    """From which parameter on arguments are passed by keyword, and which defaults are left out."""
    parameters = plan.declaration.parameters
    if signature.fixed:
        scalars = [i for i, p in enumerate(parameters) if p in plan.declaration.scalars]
        start = scalars[0] if signature.index and scalars else len(parameters)
        return start, frozenset()
    omitted = frozenset(
        p.name
        for p in parameters
        if p.default is not REQUIRED
        and _given_value(plan, p.name) == p.default
        and chooser.chance(0.5)
    )
    start = chooser.choose((len(parameters), 0, chooser.integer(0, len(parameters))))
    return start, omitted


def _given_value(plan: Plan, name: str) -> Plain | tuple[str, ...]:
    return plan.axes[name] if name in plan.axes else plan.scalars.get(name)


def assembled(
    plan: Plan,
    tensors: list[Placed],
    contents: dict[int, bytes | Fill],
    *,
    form: tuple[int, frozenset[str]],
) -> OpCase:
    """The case of placed tensors; storages are numbered in order of first use."""
    keyword_from, omitted = form
    numbers: dict[int, int] = {}
    storages: list[Storage] = []
    by_name = {placed.name: placed for placed in tensors}
    arguments: list[Argument] = []
    for i, spec in enumerate(plan.declaration.parameters):
        if spec.name in omitted:
            # What follows a parameter that is left out can only be passed by name.
            keyword_from = min(keyword_from, i)
            continue
        value: View | Plain = plan.scalars.get(spec.name)
        if spec.name in by_name:
            placed = by_name[spec.name]
            if placed.memory not in numbers:
                numbers[placed.memory] = len(storages)
                storages.append(Storage(placed.dtype, placed.numel, contents[placed.memory]))
            value = View(numbers[placed.memory], placed.shape, placed.strides, placed.offset)
        arguments.append(Argument(spec.name, value, keyword=i >= keyword_from))
    return OpCase(plan.declaration.op, tuple(storages), tuple(arguments))
