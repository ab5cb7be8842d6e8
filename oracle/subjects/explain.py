"""A model or a graph taken through the passes of ``ir.compilation``, with what each did to it."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from oracle.errors import UsageError
from oracle.explanation import Explanation, PassDone
from reference.model import ProgramCase, case_from_json

from .explain_source import source_of
from .user_code import import_user_code

_ACCEPTED = "accepted: FILE.py[:NAME], MODULE:NAME, or a program case's .json"


def explain(
    item: str, *, imports: Sequence[str] = (), providers: Sequence[str] = (), warm: bool = False
) -> Explanation:
    """Take ``item`` through the passes, the cache new to it, or with ``warm`` having seen it once.

    ``providers``: the priority of every op that has one of them. Raises ``UsageError`` where the
    item cannot be found, called or compiled.
    """
    importlib.import_module("ir.ops")
    for registrations in imports:
        import_user_code(registrations)
    from ir.compilation import ReplacementCache, Report

    cache = ReplacementCache()
    # A model's file may register providers of its own.
    case = _case(Path(item)) if item.endswith(".json") else None
    model, inputs = (None, ()) if case is not None else _found(item)
    graphs: list[tuple[str, str, int]] = []

    def watch(stage: str, graph: Any) -> None:
        graphs.append((stage, source_of(graph, stage), len(graph.nodes)))

    report = Report(watch=watch)
    with _priority(providers):
        if case is not None:
            if warm:
                _program(case, cache, Report())
            _program(case, cache, report)
        else:
            if warm:
                _compile(item, model, inputs, cache, Report())
            _compile(item, model, inputs, cache, report)
    sizes = iter([size for stage, _, size in graphs if stage == "functionalize"])
    return Explanation(
        item=item,
        inputs=tuple(_described(t) for t in inputs),
        passes=tuple(_done(p, sizes) for p in report.passes),
        graphs=tuple((stage, text) for stage, text, _ in graphs),
    )


@contextmanager
def _priority(providers: Sequence[str]) -> Iterator[None]:
    from ir.op import IrOp

    known = {p for op in IrOp.registry.values() for p in op.impls}
    unknown = [p for p in providers if p not in known]
    if unknown:
        raise UsageError(f"provider {unknown[0]!r}; accepted: {', '.join(sorted(known))}")
    with ExitStack() as stack:
        for op in IrOp.registry.values():
            wanted = [p for p in providers if p in op.impls]
            if wanted:
                stack.enter_context(op.set_priority(wanted))
        yield


def _case(path: Path) -> ProgramCase:
    try:
        data = json.loads(path.read_text())
        case = case_from_json(data.get("case", data))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {type(error).__name__}: {error}; {_ACCEPTED}") from error
    if not isinstance(case, ProgramCase):
        raise UsageError(f"{path}: a case of {type(case).__name__}; accepted: a program case")
    return case


def _program(case: ProgramCase, cache: Any, report: Any) -> None:
    from ir.compilation import eliminate_clones, functionalize, lower

    from .programs.graph import program_graph

    graph = program_graph(case).module.graph
    report.seen("captured", graph)
    report.passes.append(functionalize(graph))
    report.seen("functionalize", graph)
    report.passes.append(lower(graph, cache=cache))
    report.seen("lower", graph)
    report.passes.append(eliminate_clones(graph, donated=case.donated))
    report.seen("clones", graph)


def _compile(item: str, model: Any, inputs: Sequence[Any], cache: Any, report: Any) -> None:
    """Compile and call a user's model."""
    import torch

    import ir.compilation

    torch._dynamo.reset()
    options = {"run": "fx", "cache": cache, "report": report}
    # Stubs of torch do not know that a backend may be a function with options.
    compiled = torch.compile(
        model,
        fullgraph=True,
        backend=ir.compilation.backend,
        options=options,  # type: ignore[arg-type]
    )
    try:
        with torch.no_grad():
            compiled(*inputs)
    except Exception as error:  # a model may raise anything, and Dynamo wraps what a pass raises
        text = " ".join(str(error).split("\n\n")[0].split())
        raise UsageError(f"{item} cannot be compiled: {type(error).__name__}: {text}") from error
    if not report.passes:
        raise UsageError(f"{item}: nothing was compiled; accepted: a model that calls torch")


def _found(item: str) -> tuple[Any, tuple[Any, ...]]:
    path, _, name = item.partition(":")
    name = name or "model"
    if not path.endswith(".py") and ":" not in item:
        raise UsageError(f"{item!r}; {_ACCEPTED}")
    try:
        file = import_user_code(path)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("--import ")) from error
    modules = [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file]
    module = modules[-1] if modules else sys.modules[path]
    model = getattr(module, name, None)
    if not callable(model):
        raise UsageError(f"{item}: {name} is {model!r}; accepted: a function or an nn.Module")
    inputs = getattr(module, f"{name}_inputs", getattr(module, "inputs", None))
    if callable(inputs):
        inputs = inputs()
    if not isinstance(inputs, tuple | list):
        raise UsageError(
            f"{item}: {name}_inputs, or inputs, is {inputs!r}; accepted: a tuple of the arguments "
            f"that {name} is called with, or a function that returns one"
        )
    return model, tuple(inputs)


def _described(value: Any) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def _done(done: Any, sizes: Iterator[int]) -> PassDone:
    from ir.compilation.report import Clones, Functionalized, Lowered

    match done:
        case Functionalized():
            size = next(sizes)
            donated = ", ".join(map(str, done.donated_inputs))
            return PassDone(
                name="functionalize",
                before=size,
                after=size,
                said=f"{len(done.nodes)} maybe_inplace made default, input {donated} given away"
                if done.donated_inputs
                else f"{len(done.nodes)} maybe_inplace made default, no input given away",
                columns=("node", "op", "given away") if done.nodes else (),
                rows=tuple((n.node, n.op, ", ".join(n.donated)) for n in done.nodes),
            )
        case Lowered():
            counts = Counter(n.source for n in done.nodes)
            return PassDone(
                name="lower",
                before=done.before,
                after=done.after,
                said=", ".join(f"{n} {_many(s, n)}" for s, n in sorted(counts.items()))
                or "nothing to do",
                columns=("node", "op", "provider", "replacement") if done.nodes else (),
                rows=tuple((n.node, n.op, n.provider, n.source) for n in done.nodes),
                notes=tuple(
                    [
                        f"{n.node}: sizes do not settle whether {p} supports this"
                        for n in done.nodes
                        for p in n.declined
                    ]
                    + [f"{n.node}: assumes {g}" for n in done.nodes for g in n.guards]
                ),
            )
        case Clones():
            return _clones(done)
    raise TypeError(f"no such pass: {type(done).__name__}")


def _many(source: str, count: int) -> str:
    if count == 1:
        return source
    return {"hit": "hits", "miss": "misses"}.get(source, source)


def _clones(done: Any) -> PassDone:
    from ir.compilation.report import WHY_KEPT

    rows = [(name, "removed", "") for name in done.removed]
    for k in done.kept:
        by = f" ({k.detail})" if k.detail else ""
        rows.append((k.node, "kept", f"{k.reason}: {WHY_KEPT.get(k.reason, '')}{by}"))
    return PassDone(
        name="clones",
        before=done.before,
        after=done.after,
        said=f"{len(done.removed)} removed, {len(done.kept)} kept",
        columns=("clone", "", "why") if rows else (),
        rows=tuple(rows),
    )
