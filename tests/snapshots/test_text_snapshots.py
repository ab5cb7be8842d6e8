"""What people see: the report of a run, the lists, the help, at fixed widths."""

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from oracle import cli
from oracle.checking import CheckResult, UlpHistogram
from oracle.engine import run
from oracle.events import (
    CaseDone,
    Checked,
    Counts,
    Event,
    Finished,
    Found,
    Row,
    Shrinking,
    Started,
)
from oracle.finding import AlsoOn, Finding
from oracle.plan import Selection
from oracle.reports import listing
from oracle.reports.text import TextReport, finding_lines
from oracle.store import Store
from oracle.subject import Provider
from oracle.verdict import Place, disagrees
from reference.model import Argument, Fill, OpCase, Storage, View

KERNEL = """
from torch import Tensor
from ir.ops import rms_norm

@rms_norm.register_impl("mine")
def mine(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)
    return y * 2
"""
CASE = OpCase(
    "rms_norm",
    (Storage("bfloat16", 40, Fill("normal", 5)), Storage("float32", 2, bytes(8))),
    (
        Argument("x", View(0, (2, 16), (20, 1))),
        Argument("weight", View(1, (2,), (1,))),
        Argument("epsilon", 1e-05, keyword=True),
    ),
    "maybe_inplace",
)
FINDING = Finding(
    fingerprint="0123456789ab",
    property="numerics",
    subject="ir",
    op="rms_norm",
    provider="mine",
    route="eager",
    judge="values",
    kind="value",
    contract="rms_norm/1",
    device="cpu",
    case=CASE,
    place=Place(name="y", index=(1, 15), observed="2.0", expected="[0.9921875, 1.0]"),
    differing=32,
    also_on=(AlsoOn("opaque", "a" * 12), AlsoOn("caller", "b" * 12)),
)
HISTOGRAM = UlpHistogram(
    counts={
        ("rms_norm", "bfloat16"): [99_000, 900, 99, 0, 1, 0],
        ("per_token_group_quant_fp8", "float8_e4m3fn"): [1_000_000, 1, 0, 0, 0, 0],
        ("silu_and_mul", "float32"): [12, 0, 0, 0, 0, 0],
        ("gelu_and_mul", "float32"): [0, 0, 0, 0, 0, 0],
    },
    signed={("rms_norm", "bfloat16"): -120, ("per_token_group_quant_fp8", "float8_e4m3fn"): 1},
)
FINISHED = Finished(
    cases=4_139,
    counts=Counts(cases=4_138, checks=122_374, agrees=115_856, undecided=218, not_applicable=6_300),
    rows=(
        Row(
            subject="ir",
            prop="contract",
            counts=Counts(cases=1_654, checks=15_750, agrees=9_450, not_applicable=6_300),
            undecided={},
            not_applicable={"no-outputs": 4_800, "provider-declines": 1_500},
            seconds=13.4,
        ),
        Row(
            subject="reference",
            prop="numerics",
            counts=Counts(cases=2_484, checks=106_624, agrees=106_406, undecided=218),
            undecided={"bound-too-wide": 200, "interpreter-casts": 18},
            not_applicable={},
            seconds=1_221.6,
        ),
    ),
    nothing_decided=(),
    thin=("ir rms_norm native float16 caller: 3 telling cases",),
    unexcused=0,
    unreproduced=(),
    unshrunk=(),
    notes=("ir lowering: 3,100 programs, 310 through Inductor",),
    unmet=(),
    skipped=("rms_norm triton: triton is not installed; pip install 'irverify[triton]'",),
    histogram=HISTOGRAM,
    seconds=634.5,
    exit_code=0,
)
STARTED = Started(
    seed=0,
    budget="quick",
    workers=2,
    planned_cases=4_139,
    versions={"ir": "torch 2.13.0+cpu"},
    unavailable=(),
)


def _shown(*events: Event, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    report = TextReport(console, bar=False)
    for event in events:
        report.handle(event)
    report.close()
    return _masked(console.file.getvalue())  # type: ignore[attr-defined]


def _masked(text: str) -> str:
    text = re.sub(r"torch \d\S*(?=\))", "torch VERSION", text)
    text = re.sub(r"numpy \d\S*(?=\))", "numpy VERSION", text)
    text = re.sub(r"(in|\.) +[\d,]+ s$", r"\1 TIME", text, flags=re.MULTILINE)
    text = re.sub(r" +[\d,]+ s$", " TIME", text, flags=re.MULTILINE)
    # Widths depend on what was masked.
    return re.sub("─+", "─", re.sub(" +$", "", text, flags=re.MULTILINE))


def _ran(tmp_path: Path, **selection) -> str:
    chosen = Selection(workers=1, **selection)
    events = run(chosen, Store(Path("findings")))
    return _shown(*events).replace(str(tmp_path), "FOLDER")


def _wide(text: str, width: int) -> list[str]:
    return [line for line in text.splitlines() if len(line) > width]


@pytest.mark.parametrize("width", [80, 100])
def test_a_whole_run(snapshot, width: int):
    shown = _shown(STARTED, FINISHED, width=width)
    assert shown == snapshot
    assert not [line for line in shown.splitlines() if "…" in line]


def test_a_run_with_a_disagreement(snapshot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kernel = tmp_path / "mine.py"
    kernel.write_text(KERNEL)
    shown = _ran(
        tmp_path,
        imports=(str(kernel),),
        ops=("rms_norm",),
        providers=("mine",),
        routes=("eager", "eager-unwrapped"),
        properties=("numerics",),
        dtypes=("float32",),
        budget=40,
    )
    assert shown == snapshot


def test_a_clean_run(snapshot, tmp_path):
    shown = _ran(tmp_path, subjects=("reference",), ops=("rms_norm", "rotary_embedding"), budget=60)
    assert shown == snapshot


def test_a_run_in_which_nothing_was_decided(snapshot, tmp_path):
    shown = _ran(tmp_path, subjects=("reference",), properties=("numerics", "contract"), budget=1)
    assert shown == snapshot


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``FINDING``, with a script, named as users see it."""
    monkeypatch.chdir(tmp_path)
    folder = Path(".irverify/findings/0123456789ab")
    folder.mkdir(parents=True)
    (folder / "script.py").touch()
    return folder


def test_a_finding_on_many_routes_with_a_large_input(snapshot, kept: Path):
    assert finding_lines(FINDING, kept) == snapshot


def test_a_known_finding_says_why_it_is_excused(snapshot, kept: Path):
    shown = _shown(
        STARTED,
        Found(
            finding=replace(FINDING, differing=1, also_on=()),
            path=str(kept),
            known="[torch] rounds twice",
        ),
        replace(FINISHED, unreproduced=("ba9876543210: gone since 2.14",), exit_code=1),
    )
    assert shown == snapshot


def test_a_long_list_is_cut_and_counted(snapshot):
    missing = tuple(f"ir numerics rms_norm mine route-{n}" for n in range(15))
    counts = Counts(cases=1, checks=1, agrees=1)
    finished = replace(
        FINISHED,
        cases=1,
        counts=counts,
        rows=(),
        thin=(),
        skipped=(),
        histogram=UlpHistogram(),
        nothing_decided=missing,
        exit_code=3,
    )
    assert _shown(replace(STARTED, budget=1, planned_cases=1, workers=1), finished) == snapshot


def test_the_bar_counts_what_disagrees_and_what_is_shrunk():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    report = TextReport(console)
    result = CheckResult(
        prop="numerics",
        subject="ir",
        op="rms_norm",
        dtype="float32",
        provider="mine",
        route="eager",
        contract=None,
        case="0",
        verdict=disagrees("values", "value", Place(name="y", observed="1", expected="2")),
        telling=True,
    )
    for event in (
        STARTED,
        Checked(result),
        CaseDone(1),
        Shrinking(fingerprint="0", tries=7, size=3, unit="elements"),
    ):
        report.handle(event)
    report._progress.refresh()
    report.close()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1/4139 cases 1 disagree" in text
    assert "shrinking, shrunk in 7 steps to 3 elements" in text


@pytest.mark.parametrize("what", ["subjects", "properties", "ops", "contracts", "judges"])
def test_what_there_is_to_select(snapshot, what: str):
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for table in listing.tables(what, ()):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.sub(" +$", "", text, flags=re.MULTILINE) == snapshot
    assert "…" not in text


def test_the_providers_here(snapshot, monkeypatch: pytest.MonkeyPatch):
    routes = ("eager", "eager-unwrapped", "compiled-exact", "compiled-stock", "opaque", "caller")
    providers = (
        Provider(op="rms_norm", name="native", routes=routes),
        Provider(
            op="fused_add_rms_norm",
            name="mine",
            routes=(*routes[:2], *routes[4:]),
            contract="fused_add_rms_norm/fp32-weight",
        ),
        Provider(op="rms_norm", name="triton", routes=(), unavailable="triton is not installed"),
    )
    monkeypatch.setattr(listing.engine, "describe", lambda selection: {"ir": ("", providers)})
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for table in listing.tables("providers", ()):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.sub(" +$", "", text, flags=re.MULTILINE) == snapshot


@pytest.mark.parametrize(
    "arguments", [(), ("run", "--help"), ("replay", "--help"), ("list", "--help")], ids=str
)
def test_the_help(snapshot, capsys, monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["irverify", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main()
    text = capsys.readouterr().out
    assert text == snapshot
    assert _wide(text, 80) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--op", "softmax"),
        ("run", "--bogus"),
        ("run", "--import", "nowhere.py"),
        ("run", "--subject", "reference", "--budget", "none"),
        ("replay", "0123"),
        ("list", "songs"),
    ],
    ids=" ".join,
)
def test_the_error_lines(snapshot, capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["irverify", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == snapshot


def test_histograms_of_two_workers_add_up():
    one, two = UlpHistogram(), UlpHistogram()
    one.counts["op", "float32"] = [1, 2, 0, 0, 0, 0]
    two.counts["op", "float32"] = [1, 0, 0, 0, 0, 5]
    two.signed["op", "float32"] = -5
    one.merge(two)
    assert one.counts == {("op", "float32"): [2, 2, 0, 0, 0, 5]}
    assert Counter(one.signed) == {("op", "float32"): -5}
