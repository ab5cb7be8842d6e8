"""The body of a script of actions on state as JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .memory_codec import CaseFormatError
from .state import HOLDS, MAKERS, USES, VERBS, Keys, StateAction, StateCase, StateLayer

_DEFAULTS = {f.name: f.default for f in fields(StateAction)}
_COUNTS = ("context", "made", "of", "model")
_AT_LEAST_1 = ("size", "times")


def state_to_json(case: StateCase) -> dict[str, Any]:
    """What of the script is its own: of each action the fields that say something."""
    data: dict[str, Any] = {"actions": [_action_to_json(action) for action in case.actions]}
    if case.models:
        data["models"] = [[_layer_to_json(layer) for layer in model] for model in case.models]
    return data


def state_from_json(data: dict[str, Any]) -> StateCase:
    """The script of ``data``. Raises ``CaseFormatError`` where an action refers to nothing."""
    case = StateCase(
        actions=tuple(_action_from_json(item) for item in data["actions"]),
        models=tuple(
            tuple(_layer_from_json(layer) for layer in model) for model in data.get("models", ())
        ),
    )
    check_references(case)
    return case


def check_references(case: StateCase) -> None:
    """Refuse a script whose actions refer to what no earlier one made."""
    made: dict[int, str] = {}
    for i, action in enumerate(case.actions):
        listed = VERBS[action.verb]
        if "context" in listed and action.context:
            _check_made(i, "context", action.context, made, MAKERS["context"])
        if "of" in listed:
            _check_made(i, "of", action.of, made, MAKERS[action.verb])
        if action.verb == "run" and action.model >= len(case.models):
            raise CaseFormatError(
                f"action {i} runs model {action.model}; accepted: 0 to {len(case.models) - 1}"
            )
        if "made" in listed:
            if not action.made or action.made in made:
                raise CaseFormatError(
                    f"action {i} makes number {action.made}; accepted: one above 0 of its own"
                )
            made[action.made] = action.verb


def _check_made(
    i: int, what: str, number: int, made: dict[int, str], makers: tuple[str, ...]
) -> None:
    if made.get(number) not in makers:
        accepted = [n for n, verb in made.items() if verb in makers]
        raise CaseFormatError(f"action {i}: {what} is {number}; accepted: one of {accepted}")


def _action_to_json(action: StateAction) -> dict[str, Any]:
    data: dict[str, Any] = {"verb": action.verb}
    for name in VERBS[action.verb]:
        value = getattr(action, name)
        if value != _DEFAULTS[name] or type(value) is not type(_DEFAULTS[name]):
            data[name] = _listed(value)
    return data


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _action_from_json(data: dict[str, Any]) -> StateAction:
    verb = data["verb"]
    if verb not in VERBS:
        raise CaseFormatError(f"action {verb!r}; accepted: {', '.join(VERBS)}")
    others = {name: _tupled(value) for name, value in data.items() if name != "verb"}
    extra = sorted(set(others) - set(VERBS[verb]))
    if extra:
        raise CaseFormatError(f"action {verb!r} has {extra}; accepted: {list(VERBS[verb])}")
    action = StateAction(verb=verb, **others)
    for name in (*_COUNTS, *_AT_LEAST_1):
        value = getattr(action, name)
        # The input of an op may be empty.
        least = int(name in _AT_LEAST_1 and (verb, name) != ("call", "size"))
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise CaseFormatError(f"action {verb!r}: {name} is {value!r}; accepted: >= {least}")
    if action.holds not in HOLDS:
        raise CaseFormatError(f"holds {action.holds!r}; accepted: {', '.join(HOLDS)}")
    for keys in (action.keys, *action.scopes):
        _check_keys(keys)
    return action


def _check_keys(keys: Keys) -> None:
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in keys):
        raise CaseFormatError(f"scope keys {keys!r}; accepted: pairs of a key and a value")


def _layer_to_json(layer: StateLayer) -> dict[str, Any]:
    return {"name": layer.name, "keys": _listed(layer.keys), "use": layer.use}


def _layer_from_json(data: dict[str, Any]) -> StateLayer:
    layer = StateLayer(name=data["name"], keys=_tupled(data["keys"]), use=data["use"])
    _check_keys(layer.keys)
    if layer.use not in USES:
        raise CaseFormatError(f"layer {layer.use!r}; accepted: {', '.join(USES)}")
    return layer
