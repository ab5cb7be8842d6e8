"""Which captured functions are cases: owners that can hold what they hold, events that fit."""

from __future__ import annotations

from collections.abc import Iterator

from ..model import ProgramCase, Storage, Value
from ..model.capture import CaptureCase, CaptureEvent, Create, Move, Replay, Seal, Write
from ..model.storage import contiguous_strides
from ..programs.stateful import STATEFUL
from .traps import TRAPS

ANY = ("buffer", "attribute", "item")
"""Owners that can hold any tensor, and the very one that another owner holds."""

IN_PLACE = ("data", "resize", "transpose")
"""Moves of the very tensor, in whatever places it is held."""

STATES = ("state", "kv_cache")
"""Owners that the registry of states is."""

_FLOATS = ("float32", "bfloat16", "float16")


def owner_kinds(body: ProgramCase, position: int) -> tuple[str, ...]:
    """The kinds of owner that input number ``position`` may have."""
    if body.inputs.count(body.inputs[position]) > 1:
        return ANY
    view = body.input_view(position)
    dtype = body.storages[view.storage].dtype
    kinds = [*ANY, "given"]
    if dtype in _FLOATS:
        kinds.append("parameter")
    if view.numel:
        kinds.append("state")
    if view.storage not in _other_storages(body, position):
        kinds.append("unnamed")
        packed = view.strides == contiguous_strides(view.shape)
        if packed and len(view.shape) == 5 and view.shape[0] == 2 and dtype in _FLOATS:
            kinds.append("kv_cache")
    return tuple(kinds)


def _other_storages(body: ProgramCase, position: int) -> set[int]:
    return {body.input_view(k).storage for k in range(len(body.inputs)) if k != position}


def ways_to_move(case: CaptureCase, position: int) -> tuple[str, ...]:
    """What may happen to an input's memory; ``back`` is for whoever is away."""
    body = case.body
    view = body.input_view(position)
    if not view.numel:
        # Memory without a byte has no address.
        return ()
    if position < case.static:
        return () if case.sizes else ("data",)
    owner = case.owner(position)
    twice = body.inputs.count(body.inputs[position]) > 1
    ways = ["replace", "view", "data"]
    if owner not in ("kv_cache", "parameter"):
        ways.append("drop")
    dtype = body.storages[view.storage].dtype
    if dtype == "float32" and owner not in ("parameter", "kv_cache", "unnamed"):
        ways.append("dtype")
    alone = view.storage not in _other_storages(body, position)
    if not twice and alone and owner != "kv_cache":
        ways.append("resize")
    if len(view.shape) == 2 and min(view.shape) > 1 and not twice:
        ways.append("transpose")
    if owner == "state" and len(view.shape) == 1:
        ways.append("grow")
    return tuple(ways)


def is_legal(case: CaptureCase) -> bool:
    """Whether the owners can be made, the events done, and the batches given."""
    body = case.body
    if body.donated or (case.trap and case.trap not in TRAPS):
        return False
    if not 0 <= case.at <= len(body.steps):
        return False
    owned = range(case.static, len(body.inputs))
    if any(case.owner(i) not in owner_kinds(body, i) for i in owned):
        return False
    states = [body.input_view(i).storage for i in owned if case.owner(i) == "state"]
    if len(set(states)) < len(states) or not _caches_are_owned(case):
        return False
    if case.sizes and not _batches_fit(case):
        return False
    return all(_fits(case, event) for event in case.events) and _comes_back(case)


def _caches_are_owned(case: CaptureCase) -> bool:
    """What an op finds in the registry is what the registry holds."""
    for step in case.body.steps:
        if step.target not in STATEFUL:
            continue
        cache = step.operands[0] if step.operands else None
        if not isinstance(cache, Value) or cache.number >= len(case.body.inputs):
            return False
        if case.owner(cache.number) != "kv_cache":
            return False
        slots = step.operands[-1]
        if case.sizes and not (isinstance(slots, Value) and _is_nowhere(case, slots.number)):
            return False
    return True


def _is_nowhere(case: CaptureCase, slots: int) -> bool:
    """Whether the rows that pad are given no slot."""
    pad = case.padding[slots] if slots < len(case.padding) else None
    return pad is not None and pad < 0


def _batches_fit(case: CaptureCase) -> bool:
    body = case.body
    if len(case.padding) != case.static or len(case.batched) != len(body.outputs):
        return False
    rows = [body.input_view(i).shape[:1] for i, p in enumerate(case.padding) if p is not None]
    packed = all(
        body.input_view(i).strides == contiguous_strides(body.input_view(i).shape)
        and body.input_view(i).offset == 0
        for i in range(case.static)
    )
    return (
        bool(rows)
        and set(rows) == {(max(case.sizes),)}
        and min(case.sizes) >= 1
        and packed
        and case.padding[0] is not None
        and len(body.input_view(0).shape) == 2
    )


def _fits(case: CaptureCase, event: CaptureEvent) -> bool:
    match event:
        case Replay():
            return _inputs_fit(case, event)
        case Write():
            if case.sizes and event.position < case.static:
                return False
            return _content_fits(case, event.position, event.content, rows=None)
        case Move():
            return event.how in (*ways_to_move(case, event.position), "back")
        case Create():
            return case.owner(event.position) == "state"
    return True


def _inputs_fit(case: CaptureCase, event: Replay) -> bool:
    if not event.given and not case.sizes:
        return True
    if len(event.given) != case.static or (case.sizes and event.how != "copied"):
        return False
    found = set(_rows(case, event))
    if len(found) > 1 or not all(1 <= rows <= max(case.sizes) for rows in found):
        return False
    rows = next(iter(found), None)
    for i, content in enumerate(event.given):
        if isinstance(content, int):
            if case.sizes or not _alike(case, i, content):
                return False
        elif not _content_fits(case, i, content, rows=rows):
            return False
    return True


def _rows(case: CaptureCase, event: Replay) -> Iterator[int]:
    for i, pad in enumerate(case.padding):
        content = event.given[i]
        if pad is not None and isinstance(content, Storage):
            view = case.body.input_view(i)
            yield content.numel * view.shape[0] // max(view.numel, 1)


def _alike(case: CaptureCase, one: int, other: int) -> bool:
    if other >= case.static:
        return False
    views = case.body.input_view(one), case.body.input_view(other)
    dtypes = [case.body.storages[v.storage].dtype for v in views]
    return views[0].shape == views[1].shape and dtypes[0] == dtypes[1]


def _content_fits(case: CaptureCase, position: int, content: Storage, *, rows: int | None) -> bool:
    view = case.body.input_view(position)
    wanted = view.numel
    if rows is not None and case.padding[position] is not None:
        wanted = view.numel // max(view.shape[0], 1) * rows
    dtype = case.body.storages[view.storage].dtype
    return content.dtype == dtype and content.numel == wanted


def _comes_back(case: CaptureCase) -> bool:
    """Whoever is away comes back before it goes again, if it can."""
    away: dict[int, str] = {}
    sealed = False
    for event in case.events:
        if isinstance(event, Seal):
            sealed = event.on
        if not isinstance(event, Move):
            continue
        now = away.get(event.position)
        lasts = now is None or now == "resize" or _is_gone(case, event.position, now)
        if (event.how == "back" and lasts) or (event.how != "back" and now is not None):
            return False
        if sealed and refuses_sealed(case.owner(event.position), event.how, now):
            continue
        if event.how == "back":
            del away[event.position]
        else:
            away[event.position] = event.how
    return True


def refuses_sealed(owner: str, how: str, away: str | None) -> bool:
    """Whether the registry, sealed, refuses this of an owner; ``away``: how it went before."""
    by_registry = (away or "data") not in IN_PLACE if how == "back" else how not in IN_PLACE
    return owner in STATES and by_registry


def _is_gone(case: CaptureCase, position: int, how: str) -> bool:
    return how == "drop" and case.owner(position) == "unnamed"
