"""Scripts of actions on implementation state: legal ones, and actions that must be refused.

A script is drawn action by action beside the reference's own run of it, so that most actions find
something to do; those to which the reference gives no meaning are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fuzz.chooser import Chooser
from reference.model import StateAction, StateCase, StateLayer
from reference.model.state import Explicit, Keys
from reference.state import ScriptModel

NAMES = ("a", "b", "c")
KEYS = ("layer", "layer", "rank")
VALUES = ("x", "x", "y", "y", 1)
PER = (None, (), ("layer",), ("layer",), ("layer",), ("layer", "rank"))
KINDS = ("tensor", "tensor", "tree", "handle", "nested")
ODD_KINDS = (*KINDS, *KINDS, "parameter", "shared", "shared", "fails-once")
COMPILED_KINDS = ("tensor", "tree", "handle", "handle", "handle", "nested")
"""A compiled graph may keep hold of a handle, so that there must be some to take others' places."""
GRAPHS = ("g", "g", "h")
CONTEXTS = 5
"""How many threads and tasks a script has at most."""
_PARALLEL = ("thread", "task", "copy")
_EAGER = (
    "get", "get", "get", "get", "get", "exists", "add", "add", "call", "call", "call", "call",
    "run", "run", "run", "run", "set", "set", "set", "enter", "enter", "get-scope", "get-scope",
    "thread", "task", "copy", "register", "unregister", "override", "override", "plan",
    "preallocate", "describe", "replace", "grow", "discard", "race", "seal", "seal", "resize",
    "move", "sneak",
)  # fmt: skip
_COMPILED = (
    "run", "run", "run", "run", "run", "run", "get", "add", "add", "call", "set", "set", "enter",
    "thread", "task", "override", "override", "override", "preallocate", "replace", "grow",
    "discard", "seal", "seal", "seal", "forget", "forget", "register", "unregister", "race",
)  # fmt: skip
_ONCE_SEALED = (
    "unseal", "verify", "verify", "verify", "verify", "get", "get", "discard", "override",
    "resize", "move",
)  # fmt: skip
_ONCE_OVERRIDDEN = ("exists", "exists", "plan", "get", "get", "seal", "seal")


def state_case(chooser: Chooser, *, compiled: bool = False) -> StateCase:
    """A script. With `compiled` it is about models: at least one runs, twice where it can."""
    return _Builder(chooser, compiled).case()


class _Builder:
    def __init__(self, chooser: Chooser, compiled: bool) -> None:
        self._c = chooser
        self._compiled = compiled
        self._actions: list[StateAction] = []
        self._labels = 0
        self._runs = 0
        self._here = 0
        count = chooser.integer(1, 2) if compiled or chooser.chance(0.4) else 0
        self._models = tuple(self._model() for _ in range(count))
        self._script = self._started()
        self._proposals: dict[str, Callable[[], StateAction | None]] = {
            **{verb: lambda verb=verb: self._context(verb) for verb in _PARALLEL},
            "set": self._set,
            "enter": self._enter,
            "reset": self._reset,
            "leave": lambda: self._ended("leave", list(self._script.entered)),
            "restore": lambda: self._ended("restore", list(self._script.overrides)),
            "get-scope": lambda: self._at("get-scope", key=self._c.choose(KEYS)),
            "register": self._register,
            "unregister": lambda: StateAction(verb="unregister", name=self._name()),
            "override": self._override,
            "plan": lambda: self._planned("plan"),
            "preallocate": lambda: self._planned("preallocate"),
            "describe": lambda: StateAction(verb="describe"),
            "get": lambda: self._asked("get"),
            "exists": lambda: self._asked("exists"),
            "add": lambda: self._at("add", name=self._name(), amount=self._amount()),
            "replace": self._replace,
            "grow": lambda: self._at("grow", name=self._name(), size=self._c.integer(1, 4)),
            "discard": lambda: StateAction(verb="discard", name=self._name()),
            "race": self._race,
            "seal": lambda: StateAction(verb="seal", name=self._c.choose(GRAPHS)),
            "unseal": lambda: StateAction(verb="unseal", name=self._c.choose(GRAPHS)),
            "verify": lambda: StateAction(verb="verify"),
            "resize": lambda: self._disturbed("resize"),
            "move": lambda: self._disturbed("move"),
            "call": self._call,
            "sneak": self._sneak,
            "run": self._run,
            "forget": lambda: StateAction(verb="forget"),
        }

    def case(self) -> StateCase:
        """A few kinds of state, then whatever comes."""
        for name in NAMES[: self._c.integer(2 if self._compiled else 1, 3)]:
            self._try(self._registered(name))
        if self._c.chance(0.5):
            self._try(self._context(self._c.choose(_PARALLEL)))
        if self._compiled:
            self._sure_run()
        wanted = len(self._actions) + self._c.integer(3, 8 if self._compiled else 12)
        # The reference turns away what has no meaning: more tries than actions are needed.
        for _ in range(8 * wanted):
            if len(self._actions) >= wanted:
                break
            self._try(self._proposals[self._c.choose(self._verbs())]())
        if self._compiled and self._runs < 2:
            self._sure_run()
        return StateCase(actions=tuple(self._actions), models=self._models)

    def _sure_run(self) -> None:
        """Run a model, elsewhere too; where seals or kinds forbid it, make it possible."""
        before = self._runs
        for model in range(len(self._models)):
            run = self._at("run", model=model, amount=self._amount(), size=2)
            self._try(run)
            if self._runs > before:
                others = [made for made in self._script.contexts if made != run.context]
                if others:
                    self._try(replace(run, context=self._c.choose(others)))
                return
        for graph in self._script.model.sealed:
            self._try(StateAction(verb="unseal", name=graph))
        for name in NAMES:
            self._try(StateAction(verb="register", name=name, per=("layer",), again=True))
        self._try(StateAction(verb="run", amount=self._amount()))

    def _try(self, action: StateAction | None) -> bool:
        """Take an action that has a meaning, and say whether it had."""
        if action is None:
            return False
        answer = self._script.tried(action)
        if answer is not None:
            self._actions.append(action)
            self._runs += action.verb == "run" and not answer.rule
            return True
        # It may have been half done.
        self._script = self._started()
        for taken in self._actions:
            self._script.answer(taken)
        return False

    def _started(self) -> ScriptModel:
        return ScriptModel(StateCase(actions=(), models=self._models))

    def _verbs(self) -> tuple[str, ...]:
        """What may be drawn: more often what ends something that has begun."""
        script = self._script
        ends = [("reset", script.tokens), ("leave", script.entered), ("restore", script.overrides)]
        verbs = _COMPILED if self._compiled else _EAGER
        verbs += tuple(verb for verb, begun in ends if begun for _ in range(3))
        if script.overrides:
            verbs += 12 * ("run",) if self._compiled else 2 * _ONCE_OVERRIDDEN
        sealed = script.model.sealed and not self._compiled
        return (*verbs, *(3 * _ONCE_SEALED), "register") if sealed else verbs

    # What choices are made of.

    def _model(self) -> tuple[StateLayer, ...]:
        uses = ("op", "op", "op", "op", "dead", "read")
        return tuple(
            StateLayer(
                name=self._c.choose(("a", "a", "b")),
                keys=self._keys(few=True),
                use=self._c.choose(uses),
            )
            for _ in range(self._c.integer(1, 4))
        )

    def _label(self) -> int:
        self._labels += 1
        return self._labels

    def _context_number(self) -> int:
        """Half of the time where the action before was: what one leaves behind the next meets."""
        if self._c.chance(0.5):
            made = [number for number in self._script.contexts if number]
            self._here = self._c.choose(made) if made and self._c.chance(0.65) else 0
        return self._here

    def _at(self, verb: str, **fields: object) -> StateAction:
        return StateAction(verb=verb, context=self._context_number(), **fields)  # type: ignore[arg-type]

    def _name(self) -> str:
        """A kind of state, now and then one that there is not."""
        known = list(self._script.model.kinds)
        return self._c.choose(known) if known and self._c.chance(0.92) else self._c.choose(NAMES)

    def _amount(self) -> int:
        return self._c.integer(1, 5)

    def _keys(self, *, few: bool = False) -> Keys:
        count = self._c.choose((0, 1, 1, 1) if few else (1, 1, 2))
        keys = ("layer", "rank") if count == 2 else (self._c.choose(KEYS),) * count
        return tuple((key, self._c.choose(VALUES)) for key in keys)

    # Proposals.

    def _context(self, verb: str) -> StateAction | None:
        if len(self._script.contexts) >= CONTEXTS:
            return None
        made = self._label()
        if verb == "thread":
            return StateAction(verb=verb, made=made)
        return self._at(verb, made=made)

    def _set(self) -> StateAction:
        key, value = self._c.choose(KEYS), self._c.choose(VALUES)
        if self._c.chance(0.04):
            key, value = self._c.choose((("", "x"), ("layer", True)))
        return self._at("set", keys=((key, value),), made=self._label())

    def _enter(self) -> StateAction:
        keys = self._keys()
        if self._c.chance(0.12):
            keys = (("layer", "x"), ("rank", True))
        return self._at("enter", keys=keys, made=self._label())

    def _reset(self) -> StateAction | None:
        """Most often the last scope that was set where it was."""
        tokens = self._script.tokens
        if not tokens:
            return None
        setters = {action.made: action for action in self._actions if action.made in tokens}
        of = list(setters)[-1] if self._c.chance(0.7) else self._c.choose(list(setters))
        context = setters[of].context if self._c.chance(0.8) else self._context_number()
        return StateAction(verb="reset", context=context, of=of)

    def _ended(self, verb: str, open_ones: list[int]) -> StateAction | None:
        if not open_ones:
            return None
        of = open_ones[-1] if self._c.chance(0.7) else self._c.choose(open_ones)
        if verb == "restore":
            return StateAction(verb=verb, of=of)
        entered = next(action for action in self._actions if action.made == of)
        context = entered.context if self._c.chance(0.85) else self._context_number()
        return StateAction(verb=verb, context=context, of=of)

    def _registered(self, name: str, *, again: bool = False) -> StateAction:
        kinds = COMPILED_KINDS if self._compiled else ODD_KINDS
        needs = "" if self._compiled or self._c.chance(0.9) else self._c.choose(NAMES)
        return StateAction(
            verb="register",
            name=name,
            per=self._c.choose(PER),
            holds=self._c.choose(kinds),
            needs=needs,
            again=again,
        )

    def _register(self) -> StateAction:
        if self._c.chance(0.05):
            return StateAction(verb="register", name=self._c.choose(("", "a@b")))
        if self._script.model.sealed:
            return self._registered(self._name(), again=self._c.chance(0.8))
        return self._registered(self._c.choose(NAMES), again=self._c.chance(0.4))

    def _override(self) -> StateAction:
        holds = self._c.choose(COMPILED_KINDS if self._compiled else ODD_KINDS)
        name = self._name()
        if self._compiled:
            name = self._c.choose(self._c.choose(self._models)).name
        return StateAction(verb="override", name=name, holds=holds, made=self._label())

    def _planned(self, verb: str) -> StateAction:
        known = tuple(self._script.model.kinds)
        names = (self._name(),) if self._c.chance(0.6) or not known else known
        scopes = tuple(self._keys(few=True) for _ in range(self._c.integer(1, 3)))
        return StateAction(verb=verb, names=names, scopes=scopes)

    def _asked(self, verb: str) -> StateAction:
        name = self._name()
        scope = self._explicit(name) if self._c.chance(0.3) else None
        return self._at(verb, name=name, scope=scope)

    def _explicit(self, name: str) -> Explicit:
        """A scope that code gives itself, most often of as many values as the kind has keys."""
        if self._c.chance(0.1):
            return 3
        kind = self._script.model.kinds.get(name)
        per = kind.per if kind is not None else None
        if per is not None and self._c.chance(0.12):
            wrong = ("x", (), ("x", "y"), (None, "y"), ("x", None, "y"), ("x", "y", "x", None))
            return self._c.choose([s for s in wrong if len(s) != len(per)])
        if per == ():
            return None
        if per is None or len(per) == 1:
            return self._c.choose(("x", "y", ("x",), (None,)))
        return self._c.choose((("x", "y"), ("x", None), (None, "x"), (None, None)))

    def _replace(self) -> StateAction:
        kinds = KINDS if self._c.chance(0.9) else ("parameter",)
        name = self._name()
        return self._at("replace", name=name, holds=self._c.choose(kinds), amount=self._amount())

    def _disturbed(self, verb: str) -> StateAction:
        """Most often a state that exists, since a seal looks at no other."""
        script = self._script
        there = [
            (context, name)
            for context, scopes in script.contexts.items()
            for name in script.model.kinds
            if script.model.exists(scopes, name)
        ]
        if there and self._c.chance(0.7):
            context, name = self._c.choose(there)
            return StateAction(verb=verb, context=context, name=name)
        return self._at(verb, name=self._name())

    def _race(self) -> StateAction:
        return StateAction(
            verb="race", name=self._name(), keys=self._keys(few=True), size=self._c.integer(2, 3)
        )

    def _call(self) -> StateAction:
        size = self._c.choose((0, 1, 1, 1, 2))
        return self._at("call", name=self._name(), amount=self._amount(), size=size)

    def _sneak(self) -> StateAction:
        name = self._name()
        needs = self._c.choose(("", name, *NAMES))
        return self._at("sneak", name=name, needs=needs)

    def _run(self) -> StateAction | None:
        if not self._models:
            return None
        return self._at(
            "run",
            model=self._c.integer(0, len(self._models) - 1),
            amount=self._amount(),
            size=self._c.choose((1, 1, 2, 3)),
            times=self._c.choose((1, 1, 2, 3)),
        )
