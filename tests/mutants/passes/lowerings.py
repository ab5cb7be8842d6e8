"""Faults that lowering and its caches really had, and replacements that were wrong, planted."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

import ir.compilation
from ir.compilation import register_pass
from ir.ops.layernorm import rms_norm

Patch = pytest.MonkeyPatch
# `ir.compilation.lower` is the function, not the module.
LOWER, KEY, SPLICE = (
    importlib.import_module(f"ir.compilation.{name}") for name in ("lower", "key", "splice")
)
aten = torch.ops.aten


def _key_without(edit: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        whole = KEY.make_key

        def weak(*args: Any, **kwargs: Any) -> Any:
            return edit(whole(*args, **kwargs))

        patch.setattr(LOWER, "make_key", weak)

    return apply


def _tensors(edit: Callable[[Any], Any]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    def walk(part: Any) -> Any:
        return edit(part) if isinstance(part, tuple) and len(part) == 6 else part

    return lambda key: (*key[:6], tuple(walk(p) for p in key[6]), *key[7:])


def _plain(key: tuple[Any, ...]) -> tuple[Any, ...]:
    kept = tuple(p if len(p) == 6 or p[0] == "again" else p[0] for p in key[6])
    return (*key[:6], kept, *key[7:])


def _by_equality(key: tuple[Any, ...]) -> tuple[Any, ...]:
    def value(part: Any) -> Any:
        if len(part) != 2 or part[0] not in (int, bool, float):
            return part
        import struct

        return struct.unpack("<d", part[1])[0] if part[0] is float else part[1]

    return (*key[:6], tuple(value(p) for p in key[6]), *key[7:])


# Replacements that go wrong.


def _one_value_for_all(patch: Patch) -> None:
    real = LOWER.splice

    def spliced(graph: fx.Graph, node: fx.Node, *rest: Any, **options: Any) -> list[fx.Node]:
        value = node.meta["val"]
        made = real(graph, node, *rest, **options)
        for new in made:
            new.meta["val"] = value
        return made

    patch.setattr(LOWER, "splice", spliced)


def _no_origin(patch: Patch) -> None:
    real = LOWER.splice

    def spliced(*args: Any, **options: Any) -> list[fx.Node]:
        made = real(*args, **options)
        for new in made:
            new.meta.pop("ir_origin")
        return made

    patch.setattr(LOWER, "splice", spliced)


def _too_late(patch: Patch) -> None:
    """The last node of a replacement is put behind its first user."""
    real = LOWER.splice

    def spliced(graph: fx.Graph, *rest: Any, **options: Any) -> list[fx.Node]:
        made = real(graph, *rest, **options)
        if made and made[-1].users:
            next(iter(made[-1].users)).append(made[-1])
        return made

    patch.setattr(LOWER, "splice", spliced)


def _drop_the_unused(patch: Patch) -> None:
    """What nobody uses goes, and with it what only writes."""
    real = LOWER.lower

    def lowered(graph: fx.Graph, **options: Any) -> Any:
        done = real(graph, **options)
        for node in reversed(list(graph.nodes)):
            if node.op == "call_function" and not node.users:
                graph.erase_node(node)
        return done

    patch.setattr(ir.compilation, "lower", lowered)


def _only_the_whole_form(patch: Patch) -> None:
    """A pattern with every argument written out does not meet calls that leave one out."""
    real = LOWER.ir_call

    def called(node: fx.Node) -> Any:
        found = real(node)
        if found is not None and len(node.args) < len(found[0].parameters.names):
            return None
        return found

    patch.setattr(LOWER, "ir_call", called)
    patch.setattr(LOWER, "_refuse_leftovers", lambda *_: None)


def _one_result_only(patch: Patch) -> None:
    real = SPLICE._hand_over

    def handed(node: fx.Node, outputs: list[Any], users: list[fx.Node], *, single: bool) -> None:
        if len(outputs) > 1:
            raise RuntimeError(f"{node.name} has {len(outputs)} results, 1 expected")
        real(node, outputs, users, single=single)

    patch.setattr(SPLICE, "_hand_over", handed)


def _provider(fn: Callable[..., Any]) -> Callable[[Patch], None]:
    """A wrong provider of rms_norm, selected wherever a graph is lowered."""

    def apply(patch: Patch) -> None:
        real = LOWER.select
        native = rms_norm.impls["native"]

        def select(op: Any, args: Any) -> Any:
            found = real(op, args)
            return found if op is not rms_norm else (_Like(native, fn), ())

        patch.setattr(LOWER, "select", select)

    return apply


class _Like:
    """A provider like another one, which runs another function."""

    def __init__(self, impl: Any, fn: Callable[..., Any]) -> None:
        self._impl, self.impl_fn, self.func_impl_fn = impl, fn, fn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._impl, name)

    def uuid(self) -> str:
        return f"{self._impl.uuid()} {id(self.impl_fn)}"


def _wrong_epsilon(x: Any, weight: Any, epsilon: float, variance_size: Any = None) -> Any:
    return rms_norm.impls["native"].impl_fn(x, weight, 1e-6, variance_size)


def _weight_in_its_own_dtype(x: Any, weight: Any, epsilon: float, size: Any = None) -> Any:
    """Takes the weight's bytes for x's dtype, as a kernel does that has one dtype for both."""
    if weight is not None and weight.dtype != x.dtype:
        weight = torch.zeros_like(weight)
    return rms_norm.impls["native"].impl_fn(x, weight, epsilon, size)


def _unfitted(patch: Patch) -> None:
    """Outputs are taken as a provider gives them: views, other strides."""
    patch.setattr(SPLICE._Fit, "output", lambda self, out, *_: out)


def _strided_and_unfitted(patch: Patch) -> None:
    def strided(x: Any, weight: Any, epsilon: float, size: Any = None) -> Any:
        y = rms_norm.impls["native"].impl_fn(x, weight, epsilon, size)
        return y.transpose(-1, 0).contiguous().transpose(-1, 0)

    _unfitted(patch)
    _provider(strided)(patch)


def _padded(x: Any, weight: Any, epsilon: float, size: Any = None) -> Any:
    return torch.nn.functional.pad(
        rms_norm.impls["native"].impl_fn(x, weight, epsilon, size), (0, 1)
    )


def _pass(fn: Callable[[fx.Graph], None]) -> Callable[[Patch], None]:
    return lambda _patch: register_pass("mutant")(fn) and None


def _ends_at_minus_one(graph: fx.Graph) -> None:
    """Takes the end -1 of a slice for "as it is", as reshape does."""
    for node in list(graph.nodes):
        if node.target is aten.slice.Tensor and -1 in node.args[3:4]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _through_keywords_only(graph: fx.Graph) -> None:
    """Gives a call's keywords up."""
    for node in graph.nodes:
        if node.op == "call_function" and "alpha" in node.kwargs:
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "alpha"}


def _clones_what_is_written(graph: fx.Graph) -> None:
    """Gives a call that writes its operand a row-major copy of it, as if it only read."""
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target).split(".")[1].endswith("_"):
            written = node.args[0] if node.args else None
            if isinstance(written, fx.Node) and not written.meta["val"].is_contiguous():
                with graph.inserting_before(node):
                    copy = graph.call_function(aten.clone.default, (written,))
                copy.meta["val"] = written.meta["val"].clone()
                node.args = (copy, *node.args[1:])


FAULTS: dict[str, Callable[[Patch], None]] = {
    "shape not in the key": _key_without(_tensors(lambda t: (*t[:4], None, t[5]))),
    "strides not in the key": _key_without(_tensors(lambda t: t[:5])),
    "dtype not in the key": _key_without(_tensors(lambda t: t[1:])),
    "state of the process not in the key": _key_without(lambda key: (*key[:5], None, *key[6:])),
    "plain arguments not in the key": _key_without(_plain),
    "plain arguments by equality": _key_without(_by_equality),
    "provider not in the key": _key_without(lambda key: (*key[:2], None, None, *key[4:])),
    "one value for a whole replacement": _one_value_for_all,
    "no origin": _no_origin,
    "a replacement behind its user": _too_late,
    "writers without users dropped": _drop_the_unused,
    "calls with defaults not met": _only_the_whole_form,
    "one result only": _one_result_only,
    "an epsilon of its own": _provider(_wrong_epsilon),
    "one dtype for x and weight": _provider(_weight_in_its_own_dtype),
    "a padded output": _provider(_padded),
    "a provider's own strides": _strided_and_unfitted,
    "slices that end at -1": _pass(_ends_at_minus_one),
    "keywords given up": _pass(_through_keywords_only),
    "a written argument cloned first": _pass(_clones_what_is_written),
}
