"""Sizes known only as expressions: their canonical form, and stand-ins that show no example.

A symbol of a graph has a hint, the size it had in the call that was traced. What decides about
every size must not see it. `Unhinted` therefore replaces each symbol by an unbacked one of the
same range: a comparison that the range alone settles is answered, any other raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def is_symbolic(value: Any) -> bool:
    """Whether a value, or a size, stride or offset of a tensor in it, is an expression."""
    if isinstance(value, torch.Tensor):
        sizes = (*value.shape, *value.stride(), value.storage_offset())
        return any(type(s) is not int for s in sizes)
    if isinstance(value, list | tuple):
        return any(is_symbolic(v) for v in value)
    return isinstance(value, SYMBOLIC)


def same_number(a: Any, b: Any) -> bool:
    """Whether two sizes are provably equal, without a guard."""
    if type(a) is int and type(b) is int:
        return a == b
    return expression(a) == expression(b)


def same_numbers(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(same_number(x, y) for x, y in zip(a, b, strict=True))


def expression(value: Any) -> Any:
    return value.node.expr if isinstance(value, SYMBOLIC) else value


def shape_env_of(values: Any) -> ShapeEnv | None:
    """The environment of the first symbolic size in these values."""
    if isinstance(values, torch.Tensor):
        return shape_env_of((*values.shape, *values.stride(), values.storage_offset()))
    if isinstance(values, list | tuple):
        return next((e for e in map(shape_env_of, values) if e is not None), None)
    return values.node.shape_env if isinstance(values, SYMBOLIC) else None


def guard_count(env: ShapeEnv | None) -> int:
    """Grows with everything that an environment has assumed about its symbols."""
    return 0 if env is None else len(env.guards) + len(env.replacements) + len(env.divisible)


class Canonical:
    """Names symbols in the order in which a key meets them, and tells what is known of them."""

    def __init__(self) -> None:
        self.names: dict[Any, Any] = {}
        self.env: ShapeEnv | None = None

    def number(self, value: Any) -> Any:
        """An int as it is; an expression as its form under the canonical names."""
        if type(value) is int:
            return value
        self.env = value.node.shape_env
        return ("symbolic", str(self._renamed(value.node.expr)))

    def _renamed(self, expr: Any) -> Any:
        for symbol in sorted(expr.free_symbols - self.names.keys(), key=str):
            self.names[symbol] = type(symbol)(f"n{len(self.names)}", integer=True)
        return expr.xreplace(self.names)

    def assumptions(self) -> tuple[Any, ...]:
        """Ranges and guards about the symbols met: a trace may be decided by them."""
        env = self.env
        if env is None:
            return ()
        met = dict(self.names)
        ranges = [
            (str(name), str(env.var_to_range.get(symbol)), symbol in env.backed_var_to_val)
            for symbol, name in met.items()
        ]
        known = [g.expr for g in env.guards]
        known += [a.expr for held in env.deferred_runtime_asserts.values() for a in held]
        facts = [str(self._renamed(e)) for e in known if e.free_symbols & met.keys()]
        return (*ranges, *sorted(set(facts)))


class Unhinted:
    """Copies of values in an environment of their own, whose sizes have no hint."""

    def __init__(self) -> None:
        self.env = ShapeEnv()
        self.mode = FakeTensorMode(shape_env=self.env)
        self._symbols: dict[Any, Any] = {}

    def copy(self, value: Any) -> Any:
        """A value with the same metadata. The same tensor gives the same copy."""
        return self._copy(value, {})

    def copies(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: dict[int, Any] = {}
        return tuple(self._copy(v, seen) for v in values)

    def _copy(self, value: Any, seen: dict[int, Any]) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in seen:
                seen[id(value)] = self._tensor(value)
            return seen[id(value)]
        if isinstance(value, list | tuple):
            return type(value)(self._copy(v, seen) for v in value)
        return self._number(value)

    def _number(self, value: Any) -> Any:
        if not isinstance(value, SYMBOLIC):
            return value
        source = value.node.shape_env
        expr = value.node.expr
        for symbol in expr.free_symbols - self._symbols.keys():
            stand_in = self.env.create_unbacked_symint()
            known = source.var_to_range.get(symbol)
            if known is not None:
                self.env.constrain_symbol_range(
                    stand_in.node.expr,
                    compiler_min=known.lower if known.lower.is_finite else 0,
                    compiler_max=known.upper,
                )
            self._symbols[symbol] = stand_in.node.expr
        make: dict[type, Callable[..., Any]] = {
            torch.SymInt: self.env.create_symintnode,
            torch.SymBool: self.env.create_symboolnode,
        }
        found = make.get(type(value))
        if found is None:
            return value
        replaced = expr.xreplace(self._symbols)
        return found(replaced, hint=None) if type(value) is torch.SymInt else found(replaced)

    def _tensor(self, t: torch.Tensor) -> torch.Tensor:
        shape = [self._number(s) for s in t.shape]
        strides = [self._number(s) for s in t.stride()]
        with torch._C._DisableTorchDispatch():
            meta = torch.empty_strided(shape, strides, dtype=t.dtype, device="meta")
        return FakeTensor(self.mode, meta, t.device)
