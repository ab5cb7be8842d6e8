"""Loading a user's own registrations: a file or an importable module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from oracle.errors import UsageError

_folders: set[Path] = set()
"""Where loaded files lie, they and the neighbours that they import."""


def is_user_code(filename: str) -> bool:
    """Whether a source file is one that was loaded here, or lies beside one."""
    return Path(filename).parent in _folders


def import_user_code(item: str) -> str:
    """Import ``item`` (a path to a ``.py`` file, or a module name) and return its file's path.

    The file's folder is importable while it loads, so that it can import its neighbours. Raises
    ``UsageError`` naming the item where it cannot be found or fails to import.
    """
    path = Path(item)
    if path.is_dir():
        raise UsageError(f"--import {path}: is a folder; accepted: a .py file or a module name")
    if path.suffix == ".py":
        return _import_file(path)
    try:
        module = importlib.import_module(item)
    except Exception as error:  # a user's module may raise anything while it loads
        raise UsageError(f"--import {item}: {_why(error)}") from error
    found = getattr(module, "__file__", None) or item
    _folders.add(Path(found).parent)
    return found


def _why(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "vllm":
        text += "; a file written for vllm.ir imports ir instead: `import ir`"
    return text


def _import_file(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"--import {path}: no such file; accepted: a .py file or a module name")
    name = f"irverify_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--import {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _folders.add(path.parent.resolve())
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        del sys.modules[name]
        raise UsageError(f"--import {path}: {_why(error)}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return str(path.resolve())
