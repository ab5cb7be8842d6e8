"""Errors are typed, say what would be accepted, pickle, and survive `python -O`."""

import pickle
import subprocess
import sys

import pytest

from ir.errors import (
    CompileLimitError,
    InputError,
    IrError,
    NoCompilerError,
    PriorityError,
    RegistrationError,
)


def test_an_input_error_says_what_was_refused_and_what_is_accepted() -> None:
    error = InputError("rms_norm", "epsilon", -1.0, "a finite number >= 0")
    assert str(error) == "rms_norm: epsilon is -1.0; accepted: a finite number >= 0"
    assert (error.op, error.argument, error.got) == ("rms_norm", "epsilon", -1.0)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (InputError("op", "x", 3, "4"), ValueError),
        (RegistrationError("a"), ValueError),
        (PriorityError("a"), ValueError),
        (CompileLimitError("a"), RuntimeError),
        (NoCompilerError("a"), RuntimeError),
    ],
)
def test_every_error_pickles_and_has_both_bases(error: IrError, base: type) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert isinstance(error, IrError)
    assert isinstance(error, base)


_REFUSED = """
import torch
from torch import Tensor
from ir.errors import InputError, PriorityError, RegistrationError
from ir.op import register_op

assert False, "this line is gone under -O"

@register_op(allow_inplace=True)
def optimized(x: Tensor) -> Tensor:
    return x + 1

@optimized.register_impl("a")
def a(x: Tensor) -> Tensor:
    return x + 1

def raised(kind, f):
    try:
        f()
    except kind as e:
        return
    raise SystemExit(f"{kind} was not raised")

raised(RegistrationError, lambda: optimized.register_impl("a")(a.impl_fn))
raised(RegistrationError, lambda: optimized.register_impl("native"))
raised(RegistrationError, lambda: register_op(name="optimized")(a.impl_fn))
raised(RegistrationError, lambda: optimized.unregister_impl("b"))
raised(PriorityError, lambda: optimized.set_priority(["b"]))
raised(InputError, lambda: optimized.maybe_inplace(torch.zeros(1).expand(3)))
"""


def test_refusals_survive_python_O() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-c", _REFUSED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
