"""How a script of actions on state gets simpler: fewer actions and layers, plainer ones.

Every candidate costs less and has a meaning, as the reference tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from reference.model import StateAction, StateCase, StateLayer
from reference.model.state import HOLDS, MAKERS, VERBS
from reference.state import expect_state

Pass = Callable[[StateCase], Iterator[StateCase]]
NAMES = ("a", "b", "c")
_PLAINER = {
    "add": "get", "call": "get", "grow": "get", "resize": "get", "move": "get", "race": "get",
    "enter": "set",
}  # fmt: skip
"""What says more to a reader than another action, and may show the same."""
_PLAIN: dict[str, tuple[Any, ...]] = {
    "context": (0,),
    "name": (*NAMES, "g"),
    "names": tuple((name,) for name in NAMES),
    "keys": ((("layer", "x"),), (("layer", "y"),), (("rank", "x"),)),
    "key": ("layer",),
    "scope": (None, "x"),
    "scopes": (((),), ((("layer", "x"),),)),
    "per": ((), ("layer",), None),
    "holds": HOLDS[:3],
    "needs": ("", *NAMES),
    "again": (False,),
    "amount": (1, 2),
    "size": (1, 2),
    "times": (1, 2),
}
"""The plain values of a field, the plainest first."""


def state_cost(case: StateCase) -> tuple[int, ...]:
    """Fewer actions come first, then fewer layers, then plainer ones, then lower numbers."""
    given = [action.given() for action in case.actions]
    return (
        len(case.actions),
        sum(len(model) for model in case.models) + len(case.models),
        sum(action.verb in _PLAINER for action in case.actions),
        sum(_rank(name, value) for fields in given for name, value in fields.items()),
        sum(_layer_cost(layer) for model in case.models for layer in model),
        sum(a.made + a.of + a.model for a in case.actions),
    )


def _rank(name: str, value: Any) -> int:
    plain = _PLAIN.get(name)
    if plain is None:
        return 0
    for i, each in enumerate(plain):
        if each == value and type(each) is type(value):
            return i
    extra = value if isinstance(value, int) else len(repr(value))
    return len(plain) + extra


def _layer_cost(layer: StateLayer) -> int:
    use = ("op", "dead", "read").index(layer.use)
    return len(repr(layer.keys)) + use + NAMES.index(layer.name)


def without_actions(case: StateCase, gone: set[int]) -> StateCase:
    """The script without these actions, and without all that need what they make."""
    lost: set[int] = set()
    kept: list[StateAction] = []
    for i, action in enumerate(case.actions):
        fields = VERBS[action.verb]
        needs = {action.context} if "context" in fields else set()
        needs |= {action.of} if "of" in fields else set()
        if i in gone or needs & lost:
            lost |= {action.made} if "made" in fields else set()
            continue
        kept.append(action)
    return replace(case, actions=tuple(kept))


def _fewer_actions(case: StateCase) -> Iterator[StateCase]:
    """The first ones alone; then without a stretch, the last ones first."""
    count = len(case.actions)
    for kept in dict.fromkeys((count // 2, count - count // 4, count - 1)):
        yield without_actions(case, set(range(kept, count)))
    yield from _fewer_contexts(case)
    for length in (4, 2, 1):
        for first in reversed(range(count - length + 1)):
            yield without_actions(case, set(range(first, first + length)))
    for first in reversed(range(count)):
        for second in reversed(range(first)):
            yield without_actions(case, {first, second})


def _fewer_contexts(case: StateCase) -> Iterator[StateCase]:
    """Without a thread or a task: what it did is done where it began."""
    for maker in case.actions:
        if maker.verb in MAKERS["context"]:
            moved = tuple(
                replace(a, context=maker.context) if a.context == maker.made else a
                for a in case.actions
                if a is not maker
            )
            yield replace(case, actions=moved)


def _fewer_layers(case: StateCase) -> Iterator[StateCase]:
    used = sorted({a.model for a in case.actions if a.verb == "run"})
    numbers = {model: i for i, model in enumerate(used)}
    yield replace(
        case,
        models=tuple(case.models[model] for model in used),
        actions=tuple(
            replace(a, model=numbers[a.model]) if a.verb == "run" else a for a in case.actions
        ),
    )
    if len(case.models) > 1:
        yield replace(case, actions=tuple(replace(a, model=0) for a in case.actions))
    if all(case.models):
        yield replace(case, models=(), actions=tuple(_called(a, case) for a in case.actions))
    for m, model in enumerate(case.models):
        for i in reversed(range(len(model))):
            fewer = model[:i] + model[i + 1 :]
            yield replace(case, models=(*case.models[:m], fewer, *case.models[m + 1 :]))


def _called(action: StateAction, case: StateCase) -> StateAction:
    """In the place of a run a call of the first op of its model."""
    if action.verb != "run":
        return action
    name = case.models[action.model][0].name
    return StateAction(
        verb="call", context=action.context, name=name, amount=action.amount, size=action.size
    )


def _plainer_layers(case: StateCase) -> Iterator[StateCase]:
    for m, model in enumerate(case.models):
        for i, layer in enumerate(model):
            for plain in (
                *(replace(layer, keys=keys) for keys in ((), (("layer", "x"),), layer.keys[:1])),
                *(replace(layer, use=use) for use in ("op", "dead")),
                *(replace(layer, name=name) for name in NAMES),
            ):
                changed = (*model[:i], plain, *model[i + 1 :])
                yield replace(case, models=(*case.models[:m], changed, *case.models[m + 1 :]))


def _plainer_actions(case: StateCase) -> Iterator[StateCase]:
    """One action made a plainer one, or one field of it put to a plain value."""
    for i, action in enumerate(case.actions):
        if action.verb in _PLAINER and (action.verb != "enter" or len(action.keys) == 1):
            verb = _PLAINER[action.verb]
            given = {name: getattr(action, name) for name in VERBS[verb]}
            changed = StateAction(verb=verb, **given)
            # A scope that is set is reset, and not left.
            rest = tuple(
                replace(a, verb="reset") if a.verb == "leave" and a.of == changed.made else a
                for a in case.actions[i + 1 :]
            )
            yield replace(case, actions=(*case.actions[:i], changed, *rest))
        for field in VERBS[action.verb]:
            graph = field == "name" and action.verb in ("seal", "unseal")
            alone = ((pair,) for pair in action.keys) if field == "keys" else ()
            for value in ("g",) if graph else (*_PLAIN.get(field, ()), *alone):
                changed = replace(action, **{field: value})
                yield replace(case, actions=(*case.actions[:i], changed, *case.actions[i + 1 :]))


def _renamed(case: StateCase) -> Iterator[StateCase]:
    """Two kinds of state, scope keys or values change places everywhere; lower numbers."""
    values = (("x", "y"), ("x", 1), ("y", 1))
    for one, other in (("a", "b"), ("a", "c"), ("b", "c"), *values, ("layer", "rank")):
        swap = {one: other, other: one}
        yield _mapped(case, lambda value, swap=swap: _swapped(value, swap))
    made = [a.made for a in case.actions if "made" in VERBS[a.verb]]
    numbers = {0: 0} | {label: i for i, label in enumerate(made, 1)}
    yield replace(
        case,
        actions=tuple(
            replace(a, made=numbers[a.made], of=numbers[a.of], context=numbers[a.context])
            for a in case.actions
        ),
    )


def _swapped(value: Any, swap: dict[Any, Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(_swapped(item, swap) for item in value)
    return swap.get(value, value) if isinstance(value, str) or value == 1 else value


def _mapped(case: StateCase, change: Callable[[Any], Any]) -> StateCase:
    texts = ("name", "names", "key", "keys", "scope", "scopes", "needs")

    def action(found: StateAction) -> StateAction:
        graph = found.verb in ("seal", "unseal")
        fields = {f: change(getattr(found, f)) for f in texts if not (graph and f == "name")}
        return replace(found, **fields)

    def layer(found: StateLayer) -> StateLayer:
        return replace(found, name=change(found.name), keys=change(found.keys))

    return replace(
        case,
        actions=tuple(action(a) for a in case.actions),
        models=tuple(tuple(layer(each) for each in model) for model in case.models),
    )


def _filtered(build: Pass) -> Pass:
    def candidates(case: StateCase) -> Iterator[StateCase]:
        limit = state_cost(case)
        for candidate in build(case):
            if state_cost(candidate) < limit and not expect_state(candidate).illegal:
                yield candidate

    return candidates


STATE_PASSES: tuple[Pass, ...] = tuple(
    _filtered(build)
    for build in (_fewer_actions, _fewer_layers, _plainer_actions, _plainer_layers, _renamed)
)
"""Kinds of simplification, the most rewarding first."""
