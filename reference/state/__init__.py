"""What implementation state means: a model in plain Python, one call at a time.

A state is a number for which object it is, and its content. Whatever a call may not do raises
`StateRefused` and changes nothing, but that a creation function may have run.
"""

from .expected import ExpectedAnswer, ExpectedState, ScriptModel, expect_state
from .held import Call, Held
from .refusals import RULES, StateRefused
from .registry import StateModel
from .scopes import Scopes

__all__ = [
    "RULES",
    "Call",
    "ExpectedAnswer",
    "ExpectedState",
    "Held",
    "Scopes",
    "ScriptModel",
    "StateModel",
    "StateRefused",
    "expect_state",
]
