"""Each real bug of lowering and of caches that can occur here, made and found.

The rows are those of the first class of known bugs. A row has a mutant, which some judge kills,
or says why it cannot occur.
"""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx

import ir.compilation
from fuzz.strategies.programs import lowering_case, program_case
from ir.compilation import register_pass
from ir.ops.layernorm import rms_norm
from oracle.verdict import Outcome
from reference.model import ProgramCase

Patch = pytest.MonkeyPatch
# `ir.compilation.lower` is the function, not the module.
LOWER, KEY, SPLICE = (
    importlib.import_module(f"ir.compilation.{name}") for name in ("lower", "key", "splice")
)
aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Mutant:
    """How code is broken; the route and draw on which it is looked for; who sees it as what."""

    break_it: Callable[[Patch], None]
    route: str
    judge: str
    kind: str
    draw: Callable[..., ProgramCase] = lowering_case
    tries: int = 60
    provider: str = "passes"


# Keys that leave out a factor.


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


# Passes of other people's kinds.


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


CACHE = ("program-cache", "cache-key-too-weak")
MUTANTS: dict[str, Mutant] = {
    "shape not in the key": Mutant(
        _key_without(_tensors(lambda t: (*t[:4], None, t[5]))), "fx-perturbed", *CACHE, tries=4
    ),
    "strides not in the key": Mutant(
        _key_without(_tensors(lambda t: t[:5])), "fx-perturbed", *CACHE, tries=8
    ),
    "dtype not in the key": Mutant(
        _key_without(_tensors(lambda t: t[1:])), "fx-perturbed", *CACHE, tries=4
    ),
    "state of the process not in the key": Mutant(
        _key_without(lambda key: (*key[:5], None, *key[6:])), "fx-perturbed", *CACHE, tries=4
    ),
    "plain arguments not in the key": Mutant(_key_without(_plain), "fx-perturbed", *CACHE, tries=4),
    "plain arguments by equality": Mutant(
        _key_without(_by_equality), "fx-perturbed", *CACHE, tries=4
    ),
    "provider not in the key": Mutant(
        _key_without(lambda key: (*key[:2], None, None, *key[4:])),
        "fx-perturbed", *CACHE, tries=4,
    ),
    "one value for a whole replacement": Mutant(
        _one_value_for_all, "fx-cold", "program-graph", "value-shared"
    ),
    "no origin": Mutant(_no_origin, "fx-cold", "program-graph", "no-origin"),
    "a replacement behind its user": Mutant(
        _too_late, "fx-cold", "program-graph", "broken-graph"
    ),
    "writers without users dropped": Mutant(
        _drop_the_unused, "fx-cold", "program-values", "value", draw=program_case
    ),
    "calls with defaults not met": Mutant(
        _only_the_whole_form, "fx-cold", "program-graph", "left-over"
    ),
    "one result only": Mutant(_one_result_only, "fx-cold", "program-completion", "raised"),
    "an epsilon of its own": Mutant(
        _provider(_wrong_epsilon), "fx-cold", "program-steps", "value"
    ),
    "one dtype for x and weight": Mutant(
        _provider(_weight_in_its_own_dtype), "fx-cold", "program-steps", "value"
    ),
    "a padded output": Mutant(_provider(_padded), "fx-cold", "program-completion", "raised"),
    "a provider's own strides": Mutant(
        _strided_and_unfitted, "fx-cold", "program-graph", "value-differs"
    ),
    "slices that end at -1": Mutant(
        _pass(_ends_at_minus_one), "fx-pass", "program-values", "shape", draw=program_case,
        tries=600, provider="mutant",
    ),
    "keywords given up": Mutant(
        _pass(_through_keywords_only), "fx-pass", "program-graph", "call-changed",
        draw=program_case, tries=200, provider="mutant",
    ),
    "a written argument cloned first": Mutant(
        _pass(_clones_what_is_written), "fx-pass", "program-inputs", "input-after",
        draw=program_case, tries=200, provider="mutant",
    ),
}  # fmt: skip

ROWS: dict[str, str] = {
    "vllm#53366": "shape not in the key",
    "vllm#25093": "strides not in the key",
    "pytorch#181564": "state of the process not in the key",
    "pytorch#176044": "plain arguments not in the key",
    "pytorch#103453": "cannot occur: the cache keeps templates of graphs, which nothing tears "
    "down, and no compiled callables",
    "pytorch#162019": "a replacement behind its user",
    "pytorch#149879": "writers without users dropped",
    "vllm#40587": "one result only",
    "vllm#41767": "calls with defaults not met",
    "vllm#48324": "one dtype for x and weight",
    "llama.cpp#14545": "an epsilon of its own",
    "TensorRT-LLM#14361": "one value for a whole replacement",
    "pytorch#182328": "a padded output",
    "pytorch#184549": "shape not in the key",
    "vllm#50046": "strides not in the key",
    "vllm#49913": "a provider's own strides",
    "pytorch#137979": "a written argument cloned first",
    "vllm#17078": "slices that end at -1",
    "vllm#25623": "cannot occur in programs, whose sizes are numbers: symbolic ones are those of "
    "tests/ir/compilation, test_symbolic_sizes_are_compared_without_a_guard",
    "vllm#39358": "cannot occur in programs, whose sizes are numbers: symbolic ones are those of "
    "tests/ir/compilation, test_supports_args_neither_guards_nor_sees_a_hint",
}
"""Known bugs of lowering, pattern replacement and caching, by public issue number."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(driven: Any, name: str):
    mutant = MUTANTS[name]
    driven.break_with(mutant)
    assert any(driven.shows(mutant, case) for case in driven.cases(mutant, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_without_its_fault_a_mutants_programs_agree(driven: Any, name: str):
    mutant = dataclasses.replace(MUTANTS[name], provider="passes")
    for case, _ in zip(driven.cases(mutant, name), range(3), strict=False):
        assert driven.verdict(mutant, case).outcome is not Outcome.DISAGREES


def test_every_known_bug_has_a_mutant_or_says_why_it_cannot_occur():
    assert len(ROWS) == 20
    assert [r for r, what in ROWS.items() if what not in MUTANTS and "cannot " not in what] == []


def test_these_judges_kill_mutants_of_lowering():
    assert {m.judge for m in MUTANTS.values()} == {
        "program-cache",
        "program-completion",
        "program-graph",
        "program-inputs",
        "program-steps",
        "program-values",
    }
