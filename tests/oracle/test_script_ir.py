"""Scripts of the subject ``ir`` itself: its own providers on their routes, refusals, fake runs."""

import ctypes
import itertools
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracle.finding import Finding, Source
from oracle.script import render
from oracle.verdict import Place
from reference.declaration import Refusal
from reference.expectation import Expected, expect
from reference.interval import point
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Storage, View

NUMBERS = itertools.count()
CASE = OpCase(
    "rms_norm",
    (Storage("float32", 3, np.array([1.0, -2.0, 7.0], np.float32).tobytes()),),
    (
        Argument("x", View(0, (1, 2), (2, 1))),
        Argument("weight", None),
        Argument("epsilon", 0.125, keyword=True),
    ),
)
ILLEGAL = CASE.with_argument("epsilon", -1.0)
MINE = """\
from torch import Tensor
from ir import ops
@ops.rms_norm.register_impl("mine")
def mine(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return ops.rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)
"""


def _finding(**changes) -> Finding:
    given = Finding(
        fingerprint="0123456789ab",
        property="contract",
        subject="ir",
        op="rms_norm",
        provider="native",
        route="eager",
        judge="values",
        kind="value",
        contract="rms_norm/1",
        device="cpu",
        case=CASE,
        place=Place(name="y", index=(0, 1), observed="?", expected="?"),
    )
    return replace(given, **changes)


def _expected(case: OpCase = CASE) -> Expected:
    found = expect(DECLARATIONS["rms_norm"], case)
    assert isinstance(found, Expected)
    return found


def _zeros(expected: Expected) -> Expected:
    """The same outputs with other values, as a contract that ``ir`` breaks would have them."""
    outputs = tuple(replace(o, interval=point(np.zeros(o.shape))) for o in expected.outputs)
    return replace(expected, outputs=outputs)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a script's main in this process: its exit status and what it printed."""

    def main(script: str) -> tuple[int | str | None, str]:
        namespace: dict[str, Any] = {"__name__": "script"}
        # A process has each operator once; a script by itself never meets another one's.
        own = f"script_ir_{next(NUMBERS)}"
        script = script.replace('Library("finding"', f'Library("{own}"')
        script = script.replace("torch.ops.finding.", f"torch.ops.{own}.")
        exec(compile(script, "script.py", "exec"), namespace)
        try:
            if "load" in namespace:
                # A folder of its own: another file of this name, size and second would be
                # taken for the same one by Python's bytecode cache.
                namespace["load"](tempfile.mkdtemp(dir=tmp_path))
            status = namespace["main"]()
        except SystemExit as stop:
            status = stop.code
        finally:
            ctypes.CDLL(None).mallopt(-6, 0)
        return status, capsys.readouterr().out

    yield main
    import ir

    if "mine" in ir.ops.rms_norm.impls:
        ir.ops.rms_norm.unregister_impl("mine")
        sys.modules.pop("user_file", None)


def _isolated(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8", newline="")
    return subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=240, cwd=folder
    )


@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
@pytest.mark.parametrize("route", ["eager", "eager-unwrapped", "opaque"])
def test_a_script_of_a_route_tells_right_from_wrong(run, route: str, overload):
    finding = _finding(route=route, case=replace(CASE, overload=overload))
    assert run(render(finding, _expected(finding.case))) == (0, "no fault\n")
    status, printed = run(render(finding, _zeros(_expected(finding.case))))
    assert status == 1
    assert printed.splitlines()[0].startswith("y[0, 1]: observed -1.23442")
    assert printed.splitlines()[0].endswith(", expected 0.0")


@pytest.mark.slow
@pytest.mark.parametrize("route", ["compiled-exact", "compiled-stock", "caller"])
def test_a_script_of_a_compiled_route_runs_alone(tmp_path: Path, route: str):
    case = replace(CASE, storages=(Storage("float32", 5000, Fill("normal", 3)),))
    case = case.with_argument("x", View(0, (50, 100), (100, 1)))
    expected = expect(
        DECLARATIONS["rms_norm"],
        case,
        rounding="optional" if route == "compiled-stock" else "strict",
    )
    finding = _finding(route=route, case=case, place=Place(name="y", observed="", expected=""))
    done = _isolated(render(finding, expected), tmp_path)
    assert (done.returncode, done.stdout) == (0, "no fault\n"), done


@pytest.mark.slow
def test_a_script_of_a_triton_provider_runs_in_the_interpreter(tmp_path: Path):
    pytest.importorskip("triton")
    done = _isolated(render(_finding(provider="triton"), _expected()), tmp_path)
    assert (done.returncode, done.stdout) == (0, "no fault\n"), done


def test_a_triton_provider_is_interpreted_where_there_is_no_gpu():
    script = render(_finding(provider="triton"), _expected())
    assert 'os.environ.setdefault("TRITON_INTERPRET", "1")\n\ntry:\n' in script
    assert "    ir.kernels.load()\n" in script
    on_gpu = render(_finding(provider="triton", device="cuda:0"), _expected())
    assert "TRITON_INTERPRET" not in on_gpu


def test_a_caller_leaves_the_token_count_open():
    script = render(_finding(route="caller"), _expected())
    assert '        mark_unbacked(arguments["x"], 0)\n' in script
    assert "from torch._dynamo.decorators import mark_unbacked\n" in script


def test_a_provider_that_is_gone_cannot_run(run):
    script = render(_finding(provider="gone"), _expected())
    status, printed = run(script)
    assert (status, printed[:48]) == (2, "cannot run: rms_norm has no provider 'gone'; it ")


REFUSAL = _finding(
    judge="refusal",
    kind="not-refused",
    case=ILLEGAL,
    place=Place(name="epsilon", observed="outputs", expected="InputError, since epsilon is >= 0"),
)


def test_a_refusal_is_no_fault(run):
    assert run(render(REFUSAL, Refusal("epsilon", "is >= 0"))) == (0, "no fault\n")


def test_what_should_be_refused_and_is_not_is_shown(run):
    script = render(replace(REFUSAL, case=CASE), Refusal("epsilon", "is >= 0"))
    text = "epsilon: observed outputs, expected InputError, since epsilon is >= 0\n1 differ\n"
    assert run(script) == (1, text)


def test_another_error_than_the_documented_one_is_shown(run):
    source = Source(name="mine.py", text=MINE.replace("return", "raise OSError('no')\n    return"))
    finding = replace(REFUSAL, case=CASE, provider="mine", source=source, kind="wrong-error")
    status, printed = run(render(finding, Refusal("epsilon", "is >= 0")))
    assert (status, printed.splitlines()[0]) == (
        1,
        "epsilon: observed OSError: no, expected InputError, since epsilon is >= 0",
    )


FAKE = _finding(judge="fake", kind="fake-stride", place=Place(name="y", observed="", expected=""))


@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
def test_a_fake_run_that_knows_is_no_fault(run, overload):
    finding = replace(FAKE, case=replace(CASE, overload=overload))
    assert run(render(finding, _expected())) == (0, "no fault\n")


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("y.double()", "y: observed fake torch.float32, expected real torch.float64"),
        ("y[0]", "y: observed fake (1, 2), expected real (2,)"),
        ("(y, y)", "fake: observed 1 outputs, expected 2"),
    ],
)
def test_a_fake_run_that_differs_is_shown(run, fault: str, shown: str):
    text = MINE.replace("return", "y =") + f"    return {fault}\n"
    finding = replace(
        FAKE, kind="fake-raises", provider="mine", source=Source(name="mine.py", text=text)
    )
    # Called without the torch op, whose own checks refuse such outputs.
    status, printed = run(render(replace(finding, route="eager-unwrapped"), _expected()))
    assert (status, printed.splitlines()[0]) == (1, shown)


def test_a_fake_run_with_other_strides_is_shown(run):
    case = CASE.with_argument("x", View(0, (2, 1), (1, 2)))
    case = replace(case, storages=(Storage("float32", 6, bytes(24)),))
    case = case.with_argument("x", View(0, (2, 3), (1, 2)))
    text = MINE.replace("return", "y =") + "    return y.contiguous()\n"
    finding = replace(
        FAKE,
        kind="fake-raises",
        case=case,
        route="eager-unwrapped",
        provider="mine",
        source=Source(name="mine.py", text=text),
    )
    status, printed = run(render(finding, _expected(case)))
    assert (status, printed.splitlines()[0]) == (
        1,
        "y: observed fake strides (1, 2), expected real (3, 1)",
    )


def test_a_fake_run_that_raises_is_shown(run, monkeypatch):
    import ir

    def raises(*_, **__):
        raise ZeroDivisionError("fake")

    monkeypatch.setattr(ir.ops.rms_norm, "torch_op", raises)
    finding = replace(FAKE, kind="fake-raises", route="eager-unwrapped")
    status, printed = run(render(finding, None))
    assert (status, printed.splitlines()[0]) == (
        1,
        "fake: observed ZeroDivisionError: fake, expected metadata of outputs",
    )


def test_a_device_is_where_inputs_go_and_outputs_must_be():
    finding = _finding(judge="layout", kind="device", device="cuda:0")
    script = render(finding, _expected())
    assert '    s0 = s0.to("cuda:0")\n' in script
    assert 'DEVICE = "cuda:0"' in script.replace("'", '"')


def test_a_long_message_is_cut_and_stays_on_its_lines():
    place = Place(name="call", observed='a """\n \\' + "x" * 400, expected="outputs")
    script = render(_finding(judge="completion", kind="raised", place=place), None)
    shown = script.split("\n\n")[0]
    assert shown.endswith("...")
    assert 'a \\"\\"\\"\n\\\\x' in shown
    compile(script, "script.py", "exec")


def test_a_kind_without_a_sentence_is_named_by_itself():
    script = render(replace(REFUSAL, kind="odd"), Refusal("epsilon", "is >= 0"))
    assert script.startswith('"""rms_norm, provider \'native\': odd.\n')


def test_the_versions_of_the_run_are_told():
    script = render(_finding(versions={"ir": "torch 2.13.0"}, contract=""), _expected())
    assert "against what is legal, route 'eager', ir torch 2.13.0." in script
