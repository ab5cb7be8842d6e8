"""The uuid of a provider changes with everything its result depends on, and with nothing else."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import logging
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ir.errors import RegistrationError
from ir.identity import identity
from ir.op import IrOp, register_op

Names = Callable[[], str]
Load = Callable[..., types.ModuleType]


def _uuid(fn: Callable[..., Any], *depends_on: object) -> str:
    return identity(fn, fixed=(), depends_on=depends_on)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Writes modules and imports the first; called again, it imports all of them anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: set[str] = set()

    def fresh(first: str, **sources: str) -> types.ModuleType:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
            written.add(name)
        for name in written:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(first)

    yield fresh
    for name in written:
        sys.modules.pop(name, None)


_PROVIDER = """
import identity_far, identity_farther
from identity_near import near

def provider(x):
    return near(x) + identity_far.far(x)
"""
_NEAR = """
def near(x):
    return x + 1
"""
_FAR = """
from identity_farther import farther

def far(x):
    return farther(x)
"""
_FARTHER = """
def farther(x):
    return x
"""


def _four(load: Load, **changed: str) -> str:
    sources = {
        "identity_provider": _PROVIDER,
        "identity_near": _NEAR,
        "identity_far": _FAR,
        "identity_farther": _FARTHER,
        **changed,
    }
    return _uuid(load("identity_provider", **sources).provider)


@pytest.mark.parametrize("file", ["identity_provider", "identity_near", "identity_far"])
def test_a_change_of_any_file_it_calls_into_changes_it(load: Load, file: str) -> None:
    before = _four(load)
    assert _four(load) == before
    source = {"identity_provider": _PROVIDER, "identity_near": _NEAR, "identity_far": _FAR}[file]
    assert _four(load, **{file: source + "\nX = 1\n"}) != before
    assert _four(load) == before


def test_a_change_two_files_away_changes_it(load: Load) -> None:
    assert _four(load, identity_farther="def farther(x):\n    return x * 2\n") != _four(load)


def test_functions_that_call_each_other_have_an_identity() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert _uuid(even) == _uuid(even)
    assert _uuid(even) != _uuid(odd)


class _Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class _Tile:
    rows: int
    columns: tuple[int, ...]


_VALUES: list[tuple[Any, Any]] = [
    (1, 2),
    (1, True),
    (1.0, -1.0),
    (0.0, -0.0),
    ("a", "b"),
    (None, False),
    (b"a", b"b"),
    ((1, 2), (2, 1)),
    ([1], (1,)),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    (torch.float32, torch.bfloat16),
    (torch.zeros(2), torch.ones(2)),
    (torch.zeros(2), torch.zeros(2, 1)),
    (_Colour.RED, _Colour.BLUE),
    (_Tile(1, (2,)), _Tile(1, (3,))),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (torch.add, torch.sub),
    (lambda x: x + 1, lambda x: x + 2),
    (Path("a"), Path("b")),
]


def _closing_over(value: Any) -> Callable[..., Any]:
    def provider(x: Any) -> Any:
        return value

    return provider


def _with_default(value: Any) -> Callable[..., Any]:
    def provider(x: Any, default: Any = value) -> Any:
        return x

    return provider


@pytest.mark.parametrize("make", [_closing_over, _with_default])
# Not by repr: an address in a name is another test in every xdist worker.
@pytest.mark.parametrize("pair", _VALUES, ids=range(len(_VALUES)))
def test_closure_values_and_defaults_count(
    make: Callable[[Any], Callable[..., Any]], pair: tuple[Any, Any]
) -> None:
    a, b = pair
    assert _uuid(make(a)) == _uuid(make(a))
    assert _uuid(make(b)) == _uuid(make(b))
    if not callable(a) or getattr(a, "__name__", "") != "<lambda>":
        assert _uuid(make(a)) != _uuid(make(b))


def test_functions_of_no_file_are_told_apart_by_their_code() -> None:
    def made(source: str) -> Callable[..., Any]:
        space: dict[str, Any] = {}
        exec(source, space)
        return space["provider"]

    one = "def provider(x):\n    return [i + 1 for i in x]\n"
    assert _uuid(made(one)) == _uuid(made(one))
    assert _uuid(made(one)) != _uuid(made(one.replace("1", "2")))
    assert _uuid(made(one)) != _uuid(made(one.replace("+", "-")))


class _Stateful:
    pass


@pytest.mark.parametrize("make", [_closing_over, _with_default])
def test_what_cannot_be_hashed_is_refused_unless_declared(
    make: Callable[[Any], Callable[..., Any]],
) -> None:
    value = _Stateful()
    with pytest.raises(RegistrationError, match=r"_Stateful.*cannot be hashed; accepted"):
        _uuid(make(value))
    assert _uuid(make(value), value) == _uuid(make(value), value)


def test_what_cannot_be_hashed_is_refused_at_registration(op_name: Names) -> None:
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)
    value = _Stateful()

    def impl(x: Tensor) -> Tensor:
        return x if value else x + 1

    with pytest.raises(RegistrationError, match=r"provider 'a' depends on closure value 'value'"):
        op.register_impl("a")(impl)
    assert op.register_impl("a", depends_on=[value])(impl).uuid()


def _plain(x: Any) -> Any:
    return x


def test_declared_objects_files_modules_and_distributions_count(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"1")
    seen = [_uuid(_plain), _uuid(_plain, library), _uuid(_plain, (1, 2)), _uuid(_plain, "torch")]
    library.write_bytes(b"2")
    seen.append(_uuid(_plain, library))
    for body in ("A = 1\n", "A = 2\n"):
        seen.append(_uuid(_plain, load("identity_declared", identity_declared=body)))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "999")
    seen.append(_uuid(_plain, "torch"))
    assert len(set(seen)) == len(seen)


def test_a_distribution_that_is_not_installed_is_refused(op_name: Names) -> None:
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)
    with pytest.raises(RegistrationError, match="'no-such-thing', which is not an installed"):
        op.register_impl("a", depends_on=["no-such-thing"])(native)


def test_the_version_of_a_library_stands_for_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from ir import reach

    def provider(x: Tensor) -> Tensor:
        return torch.relu(x)

    before = _uuid(provider)
    monkeypatch.setattr(torch, "__version__", "999")
    reach.installed.cache_clear()
    try:
        assert _uuid(provider) != before
    finally:
        monkeypatch.undo()
        reach.installed.cache_clear()
    assert _uuid(provider) == before


_log = logging.getLogger("test")


def test_a_global_that_cannot_be_hashed_is_no_obstacle() -> None:
    def provider(x: Any) -> Any:
        _log.debug("called")
        return x

    assert _uuid(provider) == _uuid(provider)


@torch.no_grad()
def _decorated(x: Tensor) -> Tensor:
    return x


@functools.lru_cache
def _cached(x: int) -> int:
    return x


def test_wrappers_of_installed_libraries_are_looked_through() -> None:
    for fn in (_decorated, _cached, torch.compile(_plain, backend="eager")):
        assert _uuid(_closing_over(fn)) == _uuid(_closing_over(fn))
    assert _uuid(_closing_over(_decorated)) != _uuid(_closing_over(torch.no_grad()(_plain)))


def test_the_source_of_a_triton_kernel_counts(load: Load) -> None:
    pytest.importorskip("triton")
    source = """
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(p, n: tl.constexpr):
        tl.store(p, n + 1)
    """
    provider = """
    from identity_kernel import kernel

    def provider(x):
        kernel[(1,)](x, 1)
    """
    seen = {
        _uuid(load("identity_uses", identity_kernel=text, identity_uses=provider).provider)
        for text in (source, source, source.replace("n + 1", "n + 2"))
    }
    assert len(seen) == 2


def test_the_providers_of_an_op_it_calls_count(op_name: Names) -> None:
    def native(x: Tensor) -> Tensor:
        return x + 1

    called: IrOp = register_op(name=op_name())(native)
    provider = _closing_over(called)
    before = _uuid(provider)
    called.register_impl("a")(native)
    assert _uuid(provider) != before


def test_the_uuid_is_kept_until_the_generation_changes(
    op_name: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ir import provider as module

    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)
    calls: list[int] = []
    real = module.identity

    def counting(*args: Any, **kwargs: Any) -> str:
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "identity", counting)
    first = op.impls["native"].uuid()
    assert (op.impls["native"].uuid(), len(calls)) == (first, 1)
    assert len(first) == 64
    op.register_impl("a")(native)
    assert (op.impls["native"].uuid(), len(calls)) == (first, 2)
    assert op.impls["a"].uuid() != first
    contract = op.register_impl("a", replace=True, contract="other/1")(native)
    assert contract.uuid() not in (first, op.impls["native"].uuid())


_PRINT_UUIDS = """
import ir
from ir.identity import identity
space = {}
exec("def f(x):\\n    return x in {'a', 'b', 'c', 'd'}", space)
print(identity(space["f"], fixed=(), depends_on=({"x", "y", "z"},)))
print([i.uuid() for i in ir.ops.rms_norm.impls.values()])
"""


def test_it_is_the_same_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_UUIDS],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
