"""``irverify``: run, replay, plan, list. No torch here; workers import what is judged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="irverify",
    help="Does this kernel still mean what it should? Runs it beside a slow, obvious reference.",
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain text: boxes squeeze what they frame, and a log shows them as noise.
    rich_markup_mode=None,
)
Many = list[str] | None
WrongUse: type[Exception] = typer.BadParameter.__bases__[0]
"""click's UsageError, which typer brings with it under a name that depends on its version."""


@app.command()
def run(
    subject: Annotated[
        Many, typer.Option(help="Who is judged (repeatable).", metavar="SUBJECT")
    ] = None,
    prop: Annotated[
        Many, typer.Option("--property", help="Which claims (repeatable).", metavar="PROPERTY")
    ] = None,
    op: Annotated[Many, typer.Option(help="Which ops (repeatable).", metavar="OP")] = None,
    provider: Annotated[
        Many, typer.Option(help="Which providers (repeatable).", metavar="PROVIDER")
    ] = None,
    route: Annotated[
        Many, typer.Option(help="How they are driven (repeatable).", metavar="ROUTE")
    ] = None,
    dtype: Annotated[
        Many, typer.Option(help="Dtypes of the activations (repeatable).", metavar="DTYPE")
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option(
            help="Judge its op against this contract instead of its own.", metavar="CONTRACT"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", metavar="DEVICE")] = "cpu",
    imports: Annotated[
        Many,
        typer.Option(
            "--import",
            help="A file or module with your registrations (repeatable).",
            metavar="FILE_OR_MODULE",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="quick, full, or a number of cases.", metavar="BUDGET")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="The same seed gives the same cases.", metavar="N")] = 0,
    workers: Annotated[
        int, typer.Option(help="Worker processes; 0: one per core.", metavar="N")
    ] = 0,
    case_timeout: Annotated[
        float, typer.Option(help="Seconds one call may take.", metavar="S")
    ] = 120.0,
    shard: Annotated[
        str, typer.Option(help="Only the I-th of N parts of the run.", metavar="I/N")
    ] = "1/1",
    ndjson: Annotated[
        Path | None, typer.Option(help="Also write one event a line to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Judge providers against the reference.

    Cases are generated, illegal on purpose, and of the shapes of real models.

    Exit 0: all agree, but for what is known; 1: a disagreement, or a claim about the run that does
    not hold; 2: wrong use or a fault of ours; 3: nothing was decided for something that was
    selected.
    """
    from oracle.plan import Selection
    from oracle.running import run_to_reports

    selection = Selection(
        subjects=tuple(subject or ("ir",)),
        properties=tuple(prop or ()),
        ops=tuple(op or ()),
        providers=tuple(provider or ()),
        routes=tuple(route or ()),
        dtypes=tuple(dtype or ()),
        contract=contract,
        device="cuda:0" if device == "cuda" else device,
        imports=tuple(imports or ()),
        budget=int(budget) if budget.isdecimal() else budget,
        seed=seed,
        workers=workers or os.cpu_count() or 1,
        case_timeout=case_timeout,
        shard=_shard(shard),
    )
    raise typer.Exit(code=run_to_reports(selection, ndjson))


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise WrongUse(f"shard {text!r}; accepted: I/N, for example 1/4")
    return int(index), int(count)


@app.command()
def replay(
    case: Annotated[
        str, typer.Argument(help="A case file, a finding's folder, or a fingerprint's beginning.")
    ],
    imports: Annotated[
        Many,
        typer.Option(
            "--import",
            help="Your registrations as they are now, instead of those kept.",
            metavar="FILE_OR_MODULE",
        ),
    ] = None,
) -> None:
    """Run one finding again.

    Exit 0: it is gone; 1: it is still there; 2: it cannot be run; 3: its judge decides nothing now,
    or the case was never wrong by itself.
    """
    from oracle.replay import replay_to_text

    raise typer.Exit(code=replay_to_text(case, tuple(imports or ())))


@app.command()
def plan(
    model: Annotated[
        str, typer.Option(help="A model of the catalogue, in any spelling.", metavar="NAME")
    ],
    prefill_tp: Annotated[int, typer.Option(help="Ranks that hold the cache.", metavar="N")],
    decode_tp: Annotated[int, typer.Option(help="Ranks that read it.", metavar="N")],
    prefill_pp: Annotated[int, typer.Option(help="Pipeline stages.", metavar="N")] = 1,
    decode_pp: Annotated[int, typer.Option(help="Pipeline stages.", metavar="N")] = 1,
    prefill_layout: Annotated[str, typer.Option(help="HND or NHD.", metavar="LAYOUT")] = "HND",
    decode_layout: Annotated[str, typer.Option(help="HND or NHD.", metavar="LAYOUT")] = "HND",
    prefill_placement: Annotated[
        str,
        typer.Option(
            help="apart or blocks-first; by default as the model needs.", metavar="PLACEMENT"
        ),
    ] = "",
    decode_placement: Annotated[
        str,
        typer.Option(
            help="apart or blocks-first; by default as the model needs.", metavar="PLACEMENT"
        ),
    ] = "",
    prefill_block_tokens: Annotated[
        int, typer.Option(help="Tokens of a block; 0: a kernel block, or a state.", metavar="N")
    ] = 0,
    decode_block_tokens: Annotated[
        int, typer.Option(help="Tokens of a block; 0: a kernel block, or a state.", metavar="N")
    ] = 0,
    prefill_kernel_tokens: Annotated[
        int, typer.Option(help="Tokens of a kernel block.", metavar="N")
    ] = 16,
    decode_kernel_tokens: Annotated[
        int, typer.Option(help="Tokens of a kernel block.", metavar="N")
    ] = 16,
    prefill_num_blocks: Annotated[
        int, typer.Option(help="Blocks on a rank; 0: 4,096, or more if need be.", metavar="N")
    ] = 0,
    decode_num_blocks: Annotated[
        int, typer.Option(help="Blocks on a rank; 0: 4,096, or more if need be.", metavar="N")
    ] = 0,
    tokens: Annotated[int, typer.Option(help="Tokens of the request.", metavar="N")] = 1024,
    cached: Annotated[
        int, typer.Option(help="How many of them decode has already.", metavar="N")
    ] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Also draw the plan to this file.", metavar="FILE")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--json", help="Also write it to this file.", metavar="FILE")
    ] = None,
) -> None:
    """Show how a KV cache moves between two engines.

    Exit 0, or 2 with a line that says why the two cannot exchange a cache.
    """
    from oracle.errors import UsageError
    from oracle.planning.options import EngineOptions, PlanOptions
    from oracle.planning.running import plan_to_reports

    try:
        options = PlanOptions(
            model=model,
            prefill=EngineOptions(
                name="prefill",
                tp=prefill_tp,
                pp=prefill_pp,
                layout=prefill_layout,
                placement=prefill_placement,
                block_tokens=prefill_block_tokens,
                kernel_tokens=prefill_kernel_tokens,
                num_blocks=prefill_num_blocks,
            ),
            decode=EngineOptions(
                name="decode",
                tp=decode_tp,
                pp=decode_pp,
                layout=decode_layout,
                placement=decode_placement,
                block_tokens=decode_block_tokens,
                kernel_tokens=decode_kernel_tokens,
                num_blocks=decode_num_blocks,
            ),
            prompt_tokens=tokens,
            cached_tokens=cached,
        )
    except UsageError as error:
        raise WrongUse(str(error)) from None
    raise typer.Exit(code=plan_to_reports(options, html, data))


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="subjects, properties, ops, contracts, providers or judges.")
    ],
    imports: Annotated[
        Many,
        typer.Option(
            "--import", help="A file or module with your registrations.", metavar="FILE_OR_MODULE"
        ),
    ] = None,
) -> None:
    """Show what there is to select, and what each judge sees."""
    from oracle.reports.listing import list_to_text

    raise typer.Exit(code=list_to_text(what, tuple(imports or ())))


@app.command()
def explain(
    item: Annotated[
        str,
        typer.Argument(
            help="FILE.py[:NAME] or MODULE:NAME of a function or nn.Module (NAME is `model` where "
            "none is given) beside its arguments, a tuple `NAME_inputs` or `inputs`; a graph "
            "written with --write; or a program case's .json.",
            metavar="MODEL_OR_GRAPH",
        ),
    ],
    provider: Annotated[
        Many,
        typer.Option(help="Prefer this provider where it is one (repeatable).", metavar="PROVIDER"),
    ] = None,
    imports: Annotated[
        Many,
        typer.Option(
            "--import", help="A file or module with your registrations.", metavar="FILE_OR_MODULE"
        ),
    ] = None,
    warm: Annotated[
        bool, typer.Option("--warm", help="Show a second compilation, the cache filled by one.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the graph after each pass here.", metavar="FOLDER")
    ] = None,
) -> None:
    """Show what the compilation passes do to a model: providers chosen, cache hits, clones kept.

    Exit 0, or 2 where it cannot be found or compiled.
    """
    from oracle.explain import explain_to_text

    code = explain_to_text(
        item,
        imports=tuple(imports or ()),
        providers=tuple(provider or ()),
        warm=warm,
        write=write,
    )
    raise typer.Exit(code=code)


@app.command()
def bench(
    rounds: Annotated[
        int, typer.Option(help="The best of so many rounds counts.", metavar="N")
    ] = 9,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the timings here.", metavar="FILE")
    ] = None,
) -> None:
    """Time dispatch, lowering, clone elimination and transfer plans on this machine.

    What is paired runs in turns; the ratios are what compares between machines.
    """
    from oracle.bench import bench_to_text

    raise typer.Exit(code=bench_to_text(rounds, json_file))


def main() -> None:
    """Entry point: wrong use exits 2 with one line on stderr."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="irverify", standalone_mode=False)
    except WrongUse as error:
        # The message alone would not say which parameter it is about.
        said = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        text = " ".join(said.split())
        print(f"irverify: {text} (see irverify --help)", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
