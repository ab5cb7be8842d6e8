"""What a function reaches: the values it holds or names, the files of their code, and versions."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_INSTALLED = tuple(
    {
        str(Path(sysconfig.get_path(name)).resolve())
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


def closure_values(fn: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    cells = getattr(fn, "__closure__", None) or ()
    for name, cell in zip(names, cells, strict=True):
        try:
            yield f"closure value {name!r}", cell.cell_contents
        except ValueError:  # an empty cell
            continue


def default_values(fn: Any) -> Iterator[tuple[str, Any]]:
    for i, v in enumerate(getattr(fn, "__defaults__", None) or ()):
        yield f"default {i}", v
    for name, v in (getattr(fn, "__kwdefaults__", None) or {}).items():
        yield f"default {name!r}", v


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def globals_read(f: FunctionType) -> Iterator[tuple[str, Any]]:
    """The global values that the code of `f` names, and the attributes it names of modules."""
    names = sorted(set(_names(f.__code__)))
    for name in names:
        if name not in f.__globals__:
            continue
        v = f.__globals__[name]
        yield name, v
        if isinstance(v, ModuleType) and installed(v.__name__) is None:
            for attribute in names:
                if attribute != name and hasattr(v, attribute):
                    yield f"{name}.{attribute}", getattr(v, attribute)


def is_installed(cls: type) -> bool:
    return installed(cls.__module__) is not None


@functools.cache
def installed(module: str | None, file: str | None = None) -> str | None:
    """The distribution and version that stand for a module; None where its code counts."""
    if module is None:
        return None
    top = module.partition(".")[0]
    if file is None:
        file = getattr(sys.modules.get(module), "__file__", None)
    if top in sys.stdlib_module_names or top == "builtins":
        return f"python {sys.version}"
    if file is None or not str(Path(file).resolve()).startswith(_INSTALLED):
        return None
    version = getattr(sys.modules.get(top), "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(top)
        except importlib.metadata.PackageNotFoundError:
            # A distribution of another name: its own code counts.
            return None
    return f"{top} {version}"


def module_hash(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return module.__name__ if file is None else f"{module.__name__} {file_hash(Path(file))}"


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_hash(v: Any) -> str:
    """Of the file that holds a function or class; of its byte code where there is no file."""
    try:
        path = Path(inspect.getfile(v))
        return f"{path.name} {file_hash(path)}"
    except (OSError, TypeError):
        pass
    if isinstance(v, FunctionType):
        return _code_hash(v.__code__)
    methods = sorted((n, m) for n, m in vars(v).items() if isinstance(m, FunctionType))
    return " ".join(f"{n} {_code_hash(m.__code__)}" for n, m in methods)


def _code_hash(code: CodeType) -> str:
    constants: list[str] = []
    for c in code.co_consts:
        # The order of a set differs between processes.
        shown = sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
        constants.append(_code_hash(c) if isinstance(c, CodeType) else f"{type(c)} {shown}")
    text = f"{code.co_code.hex()} {code.co_names} {constants}"
    return hashlib.sha256(text.encode()).hexdigest()
