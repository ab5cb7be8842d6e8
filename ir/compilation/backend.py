"""`torch.compile(model, backend=ir.compilation.backend)`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import fx

from ir.compilation.cache import ReplacementCache
from ir.compilation.clones import eliminate_clones
from ir.compilation.errors import CompilationError
from ir.compilation.functionalize import functionalize
from ir.compilation.lower import CACHE, lower
from ir.compilation.passes import LoweringPass, donated_positions
from ir.compilation.report import Report
from ir.compilation.states import state_positions

_OPTIONS = ("run", "cache", "report")


def backend(
    gm: fx.GraphModule, example_inputs: list[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile a graph that Dynamo captured.

    options, as given to torch.compile:
        run: "inductor" (the default) generates code; "fx" runs the lowered graph node by node.
        cache: a ReplacementCache of one's own; None traces every node afresh.
        report: a Report that is filled with what the passes did.
        Any other goes to Inductor.
    Raises CompilationError, LoweringError, DonationError.
    """
    given = dict(options or {})
    run = given.pop("run", "inductor")
    cache = given.pop("cache", CACHE)
    report = given.pop("report", None)
    if not (report is None or isinstance(report, Report)):
        raise CompilationError(f"option report is {report!r}; accepted: a Report")
    if not (cache is None or isinstance(cache, ReplacementCache)):
        raise CompilationError(f"option cache is {cache!r}; accepted: a ReplacementCache or None")
    if run not in ("inductor", "fx"):
        raise CompilationError(f'option run is {run!r}; accepted: "inductor" or "fx"')
    if run == "fx" and given:
        raise CompilationError(f"options {sorted(given)} are for Inductor; accepted: {_OPTIONS}")
    if report is not None:
        report.seen("captured", gm.graph)
    done = functionalize(gm.graph)
    if done.nodes:
        gm.recompile()
    if report is not None:
        report.passes.append(done)
        report.seen("functionalize", gm.graph)
    if run == "fx":
        return _run_graph(gm, example_inputs, done.donated_inputs, cache, report)
    return _run_inductor(gm, example_inputs, done.donated_inputs, cache, report, given)


def _run_inductor(
    gm: fx.GraphModule,
    example_inputs: list[Any],
    donated: tuple[int, ...],
    cache: ReplacementCache | None,
    report: Report | None,
    given: dict[str, Any],
) -> Callable[..., Any]:
    config = importlib.import_module("torch._inductor.config")
    compile_fx = importlib.import_module("torch._inductor.compile_fx").compile_fx
    hook = "post_grad_custom_post_pass"
    others = given.pop(hook, getattr(config, hook))
    passes: list[Any] = [LoweringPass(donated=donated, cache=cache, report=report)]
    if others is not None:
        passes += others if isinstance(others, list | tuple) else [others]
    return compile_fx(gm, example_inputs, config_patches={**given, hook: passes})


def _run_graph(
    gm: fx.GraphModule,
    example_inputs: list[Any],
    donated: tuple[int, ...],
    cache: ReplacementCache | None,
    report: Report | None,
) -> Callable[..., Any]:
    aot = importlib.import_module("torch._functorch.aot_autograd")

    def compile_graph(lowered: fx.GraphModule, _: Any) -> Callable[..., Any]:
        if report is not None:
            report.seen("traced", lowered.graph)
        done = lower(lowered.graph, cache=cache)
        if report is not None:
            report.passes.append(done)
            report.seen("lower", lowered.graph)
        given = donated_positions(lowered.graph, donated)
        states = state_positions(lowered.graph)
        clones = eliminate_clones(lowered.graph, donated=given, states=states)
        if report is not None:
            report.passes.append(clones)
            report.seen("clones", lowered.graph)
        lowered.recompile()

        def call(args: list[Any]) -> Any:
            owned = list(args)
            # AOTAutograd hands its arguments over, so that they can be freed on the way.
            args.clear()
            return lowered(*owned)

        call._boxed_call = True  # type: ignore[attr-defined]
        return call

    return aot.aot_module_simplified(
        gm,
        example_inputs,
        fw_compiler=compile_graph,
        bw_compiler=compile_graph,
        inference_compiler=compile_graph,
        keep_inference_input_mutations=True,
    )
