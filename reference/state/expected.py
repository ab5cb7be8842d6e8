"""What a script of actions on state gives, action by action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reference.model.state import StateAction, StateCase, StateLayer

from .held import Call, Held
from .refusals import StateRefused
from .registry import StateModel

RACED = ("tensor", "tree", "handle", "nested")
"""What threads may race to create: of anything else it is open which of them is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAnswer:
    """What one action gives.

    rule: why it is refused, "" where it is not; `shown`: of each group of words the message must
    have one. objects: which states it hands out, by identity. values: what an op or a model
    returns, flattened. text: a fact, such as the value of a scope key. calls: the creation
    functions that run. changed: the content of states that changed or are new. moved: states
    whose memory may lie elsewhere from here on.
    """

    rule: str = ""
    shown: tuple[tuple[str, ...], ...] = ()
    objects: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    text: str = ""
    calls: tuple[Call, ...] = ()
    changed: Mapping[int, tuple[int, ...]]
    moved: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedState:
    """One answer for each action. `illegal` says why the script means nothing, else ""."""

    answers: tuple[ExpectedAnswer, ...]
    illegal: str = ""


class _Illegal(Exception):
    """An action to which no meaning is given; a slug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    objects: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    text: str = ""
    moved: tuple[int, ...] = ()


def expect_state(case: StateCase) -> ExpectedState:
    """Every answer, from the first action on."""
    run = ScriptModel(case)
    answers: list[ExpectedAnswer] = []
    for action in case.actions:
        try:
            answers.append(run.answer(action))
        except _Illegal as why:
            return ExpectedState(answers=tuple(answers), illegal=str(why))
    return ExpectedState(answers=tuple(answers))


class ScriptModel:
    """A script under way."""

    def __init__(self, case: StateCase) -> None:
        self._case = case
        self.model = StateModel()
        self.contexts: dict[int, int] = {0: 0}
        # By the number of the action that made them: what ends them.
        self.tokens: dict[int, int] = {}
        self.entered: dict[int, tuple[int, ...]] = {}
        self.overrides: dict[int, tuple[str, int]] = {}

    def tried(self, action: StateAction) -> ExpectedAnswer | None:
        """Do one action; None where it has no meaning, and may be half done."""
        try:
            return self.answer(action)
        except _Illegal:
            return None

    def answer(self, action: StateAction) -> ExpectedAnswer:
        """Do one action."""
        model = self.model
        before = [tuple(held.content) for held in model.objects]
        calls = len(model.calls)
        rule, shown, given = "", (), _Given()
        try:
            given = self._done(action)
        except StateRefused as refused:
            rule, shown = refused.rule, refused.shown
        changed = {
            held.identity: tuple(held.content)
            for held in model.objects
            if held.identity >= len(before) or before[held.identity] != tuple(held.content)
        }
        return ExpectedAnswer(
            rule=rule,
            shown=shown,
            objects=given.objects,
            values=given.values,
            text=given.text,
            calls=tuple(model.calls[calls:]),
            changed=changed,
            moved=given.moved,
        )

    def _done(self, action: StateAction) -> _Given:
        if action.verb in _SCOPES:
            return self._scope_done(action)
        if action.verb in _STATES:
            return self._state_done(action)
        return self._kind_done(action)

    def _scope_done(self, a: StateAction) -> _Given:
        scopes = self.model.scopes
        if a.verb == "thread":
            self.contexts[a.made] = scopes.start()
            return _Given()
        context = self.contexts[a.context]
        match a.verb:
            case "task" | "copy":
                self.contexts[a.made] = scopes.copy(context)
            case "set":
                ((key, value),) = a.keys
                self.tokens[a.made] = scopes.set(context, key, value)
            case "reset":
                if a.of not in self.tokens:
                    raise _Illegal("no-such-token")
                scopes.reset(context, self.tokens[a.of])
            case "enter":
                self.entered[a.made] = scopes.enter(context, a.keys)
            case "leave":
                if a.of not in self.entered:
                    raise _Illegal("not-entered")
                scopes.leave(context, self.entered.pop(a.of))
            case "get-scope":
                return _Given(text=scopes.keys(context).get(a.key, "not set"))
        return _Given()

    def _kind_done(self, a: StateAction) -> _Given:
        model = self.model
        match a.verb:
            case "register":
                model.register(a.name, a.per, holds=a.holds, needs=a.needs, again=a.again)
            case "unregister":
                model.unregister(a.name)
            case "override":
                self.overrides[a.made] = (a.name, model.override(a.name, a.holds))
            case "restore":
                if a.of not in self.overrides:
                    raise _Illegal("no-such-override")
                model.end_override(*self.overrides.pop(a.of))
            case "plan":
                found = model.plan(a.names, a.scopes)
                shown = [f"{place_text(*p)}{' exists' if there else ''}" for p, there in found]
                return _Given(text=", ".join(sorted(shown)))
            case "preallocate":
                model.preallocate(a.names, a.scopes)
            case "describe":
                return _Given(text=self._described())
            case "seal":
                model.seal(a.name)
            case "unseal":
                model.unseal(a.name)
            case "verify":
                model.verify()
        return _Given()

    def _state_done(self, a: StateAction) -> _Given:
        model = self.model
        context = self.contexts[a.context]
        match a.verb:
            case "get":
                return _handed(model.get(context, a.name, a.scope))
            case "exists":
                return _Given(text="yes" if model.exists(context, a.name, a.scope) else "no")
            case "add":
                return _handed(model.add(context, a.name, a.amount))
            case "replace":
                model.replace(context, a.name, a.holds, a.amount)
            case "grow":
                return _handed(model.grow(context, a.name, a.size))
            case "discard":
                model.discard(a.name)
            case "race":
                return self._raced(a)
            case "resize" | "move":
                return self._disturbed(a, context)
            case "call":
                return _Given(values=tuple(model.update(context, a.name, a.amount, a.size)[1]))
            case "sneak":
                return _handed(model.get(context, a.name, declared=a.needs))
            case "run":
                return self._ran(a, context)
        return _Given()

    def _raced(self, a: StateAction) -> _Given:
        kind = self.model.kinds.get(a.name)
        if kind is not None and (kind.layers[-1].holds not in RACED or kind.layers[-1].needs):
            raise _Illegal("race-for-what-may-fail")
        held: list[Held] = []
        for _ in range(a.size):
            context = self.model.scopes.start()
            self.model.scopes.enter(context, a.keys)
            held.append(self.model.get(context, a.name))
        return _handed(*held)

    def _disturbed(self, a: StateAction, context: int) -> _Given:
        held = self.model.get(context, a.name)
        if held.kind != "tensor" or held.shared:
            raise _Illegal("nothing-to-disturb")
        held.disturbed += 1
        if a.verb == "resize":
            held.content += [0] * RESIZED
        return _Given(moved=(held.identity,))

    def _ran(self, a: StateAction, context: int) -> _Given:
        values: list[int] = []
        began = False
        for step in range(a.times):
            for i, layer in enumerate(self._case.models[a.model]):
                try:
                    values += self._layer_ran(layer, context, a.amount + step + i, a.size)
                except StateRefused as refused:
                    if began:
                        # Eager layers before the refused one have run, compiled ones have not.
                        raise _Illegal("refused-half-way") from None
                    if refused.rule == "broken-seal":
                        # Code compiled before looks at no seal.
                        raise _Illegal("run-under-a-broken-seal") from None
                    raise
                began = True
        return _Given(values=tuple(values))

    def _layer_ran(self, layer: StateLayer, context: int, amount: int, size: int) -> list[int]:
        scopes = self.model.scopes
        tokens = scopes.enter(context, layer.keys)
        try:
            if layer.use != "read":
                _, out = self.model.update(context, layer.name, amount, size)
                return out if layer.use == "op" else []
            held = self.model.get(context, layer.name)
        finally:
            scopes.leave(context, tokens)
        if held.kind != "tensor":
            raise _Illegal("nothing-to-read")
        return list(held.content)

    def _described(self) -> str:
        entries = self.model.entries()
        size = sum(8 * len(held.content) for _, held in entries if held.tensors)
        names = ", ".join(sorted(place_text(*place) for place, _ in entries))
        return f"{names or 'nothing'}: {size} bytes"


RESIZED = 16
"""How many elements "resize" adds to a tensor, in place, all 0."""

_SCOPES = ("thread", "task", "copy", "set", "reset", "enter", "leave", "get-scope")
_STATES = (
    "get", "exists", "add", "replace", "grow", "discard", "race", "resize", "move", "call",
    "sneak", "run",
)  # fmt: skip


def place_text(name: str, scope: tuple[str | None, ...]) -> str:
    """A state for people: its name, and the values of the keys that it is kept by."""
    return f"{name}({', '.join('not set' if v is None else v for v in scope)})"


def _handed(*held: Held) -> _Given:
    return _Given(objects=tuple(each.identity for each in held))
