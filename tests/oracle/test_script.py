"""Scripts of a user's provider: exit 1 and the place with the fault, 0 once it is gone."""

import ctypes
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracle.finding import Finding, Source
from oracle.script import ScriptError, render
from oracle.verdict import Place
from reference.declaration import Refusal
from reference.expectation import Expectation, expect
from reference.legal import DECLARATIONS
from reference.model import Argument, OpCase, Storage, View

HEADER = """\
import torch
from torch import Tensor

from ir import ops


@ops.rms_norm.register_impl("mine"{options})
def mine(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    xf = x.float()
    part = xf if variance_size is None else xf[..., :variance_size]
    t = xf * torch.rsqrt(part.square().mean(-1, keepdim=True) + epsilon)
    y = t.to(x.dtype) if weight is None else (t.to(weight.dtype) * weight).to(x.dtype)
    # the fault
    return y
"""
MARK = "    # the fault\n"


def _storage(values: list[float], dtype: str = "float32") -> Storage:
    return Storage(dtype, len(values), np.array(values, dtype=dtype).tobytes())


def _case(view: View, *values: float) -> OpCase:
    arguments = (Argument("x", view), Argument("weight", None), Argument("epsilon", 0.125, True))
    return OpCase("rms_norm", (_storage(list(values)),), arguments)


# Two rows of two, the second one a canary between them and after them.
PLAIN = _case(View(0, (1, 2), (2, 1)), 1.0, -2.0)
PADDED = _case(View(0, (2, 2), (3, 1)), 1.0, -2.0, 7.0, 3.0, 4.0, 9.0)
TRANSPOSED = _case(View(0, (2, 2), (1, 2)), 1.0, -2.0, 3.0, 4.0)
NEGATIVE_ZERO = _case(View(0, (2,), (1,)), -0.0, 1.0)
DONATED = replace(PADDED, overload="maybe_inplace")


SOMEWHERE = Place(name="y", observed="?", expected="?")


@dataclass(frozen=True)
class Fault:
    """A kind, the line that breaks the provider, the case, and the line that shows the place."""

    judge: str
    kind: str
    line: str
    case: OpCase
    shown: str
    place: Place = SOMEWHERE
    options: str = ""
    expectation: Expectation | None = None


FAULTS = [
    Fault(
        "values",
        "value",
        "y = xf / (xf.square().mean(-1, keepdim=True).sqrt() + epsilon)",
        PLAIN,
        "y[0, 1]: observed -1.172237515449524, expected (-1.23442685604095",
        place=Place(name="y", index=(0, 1), observed="?", expected="?"),
    ),
    Fault("values", "arity", "return (y, y)", PLAIN, "outputs: observed 2, expected 1"),
    Fault(
        "values",
        "dtype",
        "y = y.double()",
        PLAIN,
        "y: observed torch.float64 (1, 2), expected torch.float32 (1, 2)",
    ),
    Fault(
        "values",
        "shape",
        "y = y[0]",
        PLAIN,
        "y: observed torch.float32 (2,), expected torch.float32 (1, 2)",
    ),
    Fault("values", "nan", "y[0, 0] = float('nan')", PLAIN, "y[0, 0]: observed nan, expected"),
    Fault("values", "zero-sign", "y = y + 0.0", NEGATIVE_ZERO, "y[0]: observed 0.0, expected -0.0"),
    Fault(
        "layout",
        "stride",
        "y = y.contiguous()",
        TRANSPOSED,
        "y: observed strides (2, 1), expected strides (1, 2) for shape (2, 2)",
    ),
    Fault(
        "layout",
        "offset",
        "y = torch.cat([y, y])[1:]",
        PLAIN,
        "y: observed offset 2, expected offset 0",
    ),
    Fault("layout", "stride", "return (y, y)", PLAIN, "outputs: observed 2, expected 1"),
    Fault("layout", "stride", "y = y[0]", PLAIN, "y: observed (2,), expected (1, 2)"),
    Fault(
        "fake",
        "fake-stride",
        "y = y.contiguous()",
        TRANSPOSED,
        "y: observed fake stride (1, 2), expected real (2, 1)",
        place=Place(name="y", observed="fake strides (1, 2)", expected="real (2, 1)"),
    ),
    Fault(
        "fake",
        "fake-dtype",
        "y = y.double()",
        PLAIN,
        "y: observed fake dtype torch.float32, expected real torch.float64",
        place=Place(name="y", observed="fake float32", expected="real float64"),
    ),
    Fault(
        "fake",
        "fake-shape",
        "y = y[0]",
        PLAIN,
        "output 0: observed fake shape (1, 2), expected real torch.Size([2])",
        place=Place(name="output 0", observed="fake (1, 2)", expected="real (2,)"),
    ),
    Fault(
        "fake",
        "fake-arity",
        "return (y, y)",
        PLAIN,
        "fake: observed fake arity 1, expected real 2",
        place=Place(name="fake", observed="1 outputs", expected="2"),
    ),
    Fault(
        "mutation",
        "input-written",
        "x[1, 0] = 5",
        PADDED,
        "x[1, 0]: observed 5.0, expected 3.0",
        place=Place(name="x", index=(1, 0), observed="5.0", expected="3.0"),
    ),
    Fault(
        "mutation",
        "canary-written",
        "x.as_strided((1,), (1,), 2).zero_()",
        PADDED,
        "storage 0[2]: observed 0.0, expected 7.0",
        place=Place(name="storage 0", index=(2,), observed="0.0", expected="7.0"),
    ),
    Fault(
        "mutation",
        "canary-written",
        "x.copy_(y); x.as_strided((1,), (1,), 5).zero_()",
        DONATED,
        "storage 0[5]: observed 0.0, expected 9.0",
    ),
    Fault(
        "aliasing",
        "output-aliases-input",
        "y = x.view(x.shape)",
        PLAIN,
        "y: observed shares storage with x, expected its own",
    ),
    Fault(
        "uninitialized",
        "uninitialized-read",
        "y = torch.empty_like(y)",
        PLAIN,
        "over two fills of fresh memory, expected one value",
    ),
    Fault("completion", "raised", "raise KeyError('k')", PLAIN, "call: observed KeyError: 'k', "),
    Fault(
        "completion",
        "refused-legal",
        "raise ValueError('no')",
        PLAIN,
        "call: observed ValueError: no, expected outputs",
    ),
]


def _finding(fault: Fault, line: str | None = None) -> Finding:
    text = HEADER.format(options=fault.options)
    text = text.replace(MARK, f"    {line}\n" if line else MARK)
    return Finding(
        fingerprint="0123456789ab",
        property="contract",
        subject="ir",
        op="rms_norm",
        provider="mine",
        route="eager",
        judge=fault.judge,
        kind=fault.kind,
        contract="rms_norm/1",
        device="cpu",
        case=fault.case,
        place=fault.place,
        source=Source(name="mine.py", text=text),
    )


def _expected(fault: Fault) -> Expectation:
    return fault.expectation or expect(DECLARATIONS["rms_norm"], fault.case)


def _render(fault: Fault, *, broken: bool) -> str:
    return render(_finding(fault, fault.line if broken else None), _expected(fault))


@pytest.fixture
def run(monkeypatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run a script's main in this process: its exit status and what it printed."""
    for name in ("ir", "ir.ops", "ir.op", "ir.errors", "ir.ops.layernorm", "user_file"):
        # Set and then deleted: monkeypatch puts back what was there, or takes away what is new.
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name, sys))
    for name in ("vllm", "vllm.ir", "vllm.ir.ops", "vllm.ir.op", "vllm.ir.errors"):
        monkeypatch.setitem(sys.modules, name, sys)

    def main(script: str) -> tuple[int | str | None, str]:
        namespace: dict[str, Any] = {"__name__": "script"}
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
            # As the process had it: what follows in it allocates as if nothing had been.
            ctypes.CDLL(None).mallopt(-6, 0)
        return status, capsys.readouterr().out

    return main


def _isolated(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8", newline="")
    return subprocess.run(
        [sys.executable, "-I", path], capture_output=True, text=True, timeout=120, cwd=folder
    )


def _name(fault: Fault) -> str:
    return f"{fault.kind}-{FAULTS.index(fault)}"


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_script_shows_the_fault_and_its_place(run, fault: Fault):
    status, printed = run(_render(fault, broken=True))
    assert (status, fault.shown in printed) == (1, True), printed
    assert printed.splitlines()[-1].endswith(" differ")


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_script_without_the_fault_ends_with_0(run, fault: Fault):
    assert run(_render(fault, broken=False)) == (0, "no fault\n")


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_script_needs_torch_alone(tmp_path: Path, fault: Fault):
    done = _isolated(_render(fault, broken=True), tmp_path)
    assert (done.returncode, fault.shown in done.stdout, done.stderr) == (1, True, "")
    done = _isolated(_render(fault, broken=False), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no fault\n", "")


def test_a_script_runs_in_a_fresh_interpreter(tmp_path: Path):
    # The one that starts itself again, so that glibc gives every block afresh.
    fault = next(each for each in FAULTS if each.judge == "uninitialized")
    done = _isolated(_render(fault, broken=True), tmp_path)
    assert (done.returncode, fault.shown in done.stdout, done.stderr) == (1, True, "")


DIES = Fault("completion", "crash", "import os; os.abort()", PLAIN, "observed SIGABRT, expected")
HANGS = Fault("completion", "timeout", "while True: pass", PLAIN, "observed no end within 6 s")
LEAVES = Fault("completion", "crash", "import os; os._exit(0)", PLAIN, "observed exit 0, expected")


@pytest.mark.parametrize(
    "fault",
    [DIES, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (HANGS, LEAVES))],
    ids=lambda f: f.line,
)
def test_a_script_outlives_what_takes_its_process_down(tmp_path: Path, fault: Fault):
    script = _render(fault, broken=True)
    if fault is HANGS:
        script = script.replace("SECONDS, NO_FAULT = 120,", "SECONDS, NO_FAULT = 6,")
    done = _isolated(script, tmp_path)
    assert (done.returncode, f"process: {fault.shown}" in done.stdout) == (1, True), done


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "status"), [("", 0), ("import nowhere_at_all\n", 2)])
def test_a_guarded_script_says_how_its_child_ended(tmp_path: Path, extra: str, status: int):
    finding = _finding(DIES)
    source = Source(name="mine.py", text=extra + (finding.source.text if finding.source else ""))
    done = _isolated(render(replace(finding, source=source), None), tmp_path)
    assert done.returncode == status, done


def test_a_provider_that_declines_the_case_is_no_fault(run):
    fault = replace(FAULTS[0], options=", supports_args=lambda *_, **__: False")
    text = "no fault: the provider declines these arguments\n"
    assert run(_render(fault, broken=True)) == (0, text)


def test_a_provider_that_takes_the_case_is_judged(run):
    fault = replace(FAULTS[0], options=", supports_args=lambda *_, **__: True")
    assert run(_render(fault, broken=True))[0] == 1


@pytest.mark.parametrize(
    ("options", "case", "status"),
    [(", inplace=True", PADDED, 0), ("", PADDED, 1), (", inplace=True", DONATED, 0)],
    ids=["copied", "not-declared", "donated"],
)
def test_an_inplace_provider_is_given_copies_by_the_default_overload(run, options, case, status):
    fault = Fault("mutation", "input-written", "x.copy_(y)", case, "", options=options)
    assert run(_render(fault, broken=True))[0] == status


def test_an_output_may_take_the_storage_that_was_donated(run):
    fault = Fault("aliasing", "output-aliases-input", "return x.copy_(y)", DONATED, "")
    assert run(_render(fault, broken=True))[0] == 0
    default = replace(fault, case=PADDED)
    assert run(_render(default, broken=True))[0] == 1


def test_outputs_that_share_one_storage_are_shown(run):
    source = """\
from ir import ops
@ops.fused_add_rms_norm.register_impl("mine")
def mine(x, x_residual, weight, epsilon, variance_size=None):
    s = x + x_residual
    y = s * (s.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return s, s
"""
    case = OpCase(
        "fused_add_rms_norm",
        (_storage([1.0, 2.0]), _storage([0.5, 0.5])),
        (
            Argument("x", View(0, (2,), (1,))),
            Argument("x_residual", View(1, (2,), (1,))),
            Argument("weight", None),
            Argument("epsilon", 0.5),
        ),
    )
    base = _finding(Fault("aliasing", "outputs-share-storage", "", case, ""))
    finding = replace(base, op="fused_add_rms_norm", source=Source(name="mine.py", text=source))
    expected = expect(DECLARATIONS["fused_add_rms_norm"], case)
    text = "residual: observed shares storage with output y, expected its own\n1 differ\n"
    assert run(render(finding, expected)) == (1, text)
    fixed = replace(finding, source=Source(name="mine.py", text=source.replace("s, s", "y, s")))
    assert run(render(fixed, expected)) == (0, "no fault\n")


def test_an_infinity_that_only_another_output_must_be_is_known_by_name(run):
    source = """\
from ir import ops
@ops.fused_add_rms_norm.register_impl("mine")
def mine(x, x_residual, weight, epsilon, variance_size=None):
    s = (x + x_residual).float()
    return (s * (s.square().mean(-1, keepdim=True) + epsilon).rsqrt()).to(x.dtype), s.to(x.dtype)
"""
    case = OpCase(
        "fused_add_rms_norm",
        (_storage([60000.0], "float16"), _storage([60000.0], "float16")),
        (
            Argument("x", View(0, (1,), (1,))),
            Argument("x_residual", View(1, (1,), (1,))),
            Argument("weight", None),
            Argument("epsilon", 0.5),
        ),
    )
    base = _finding(
        Fault(
            "values",
            "nan",
            "",
            case,
            "",
            Place(name="y", index=(0,), observed="nan", expected="1.0"),
        )
    )
    finding = replace(base, op="fused_add_rms_norm", source=Source(name="mine.py", text=source))
    expected = expect(DECLARATIONS["fused_add_rms_norm"], case)
    status, printed = run(render(finding, expected))
    assert (status, printed.partition(":")[0]) == (1, "y[0]")
    mended = source.replace("x + x_residual).float()", "x.float() + x_residual.float())")
    fixed = replace(finding, source=Source(name="mine.py", text=mended))
    assert run(render(fixed, expected)) == (0, "no fault\n")


IMPORTS = [
    "from ir import ops",
    "import ir\nops = ir.ops",
    "from ir.ops import rms_norm\nclass ops: rms_norm = rms_norm",
    "from ir.ops.layernorm import rms_norm\nclass ops: rms_norm = rms_norm",
    "from vllm.ir import ops",
    "from vllm import ir\nops = ir.ops",
    "import vllm.ir.ops as ops",
    "import ir\nfrom ir.op import register_op, IrOp, set_default_torch_wrap\n"
    "set_default_torch_wrap(False)\nfrom ir import ops\n"
    "with ir.enable_torch_wrap(False): pass\n"
    "@register_op\ndef own(x): return x\n"
    "@register_op(name='second', allow_inplace=True)\ndef other(x): return x\n"
    "@own.register_fake\ndef fake(x): return x\n"
    "assert own.impls['native'].impl_fn(3) == ops.second.impls['native'].impl_fn(3)\n",
    "from ir import ops\nfrom ir.errors import InputError\n"
    "assert issubclass(InputError, ValueError)",
]


@pytest.mark.parametrize("imports", IMPORTS)
def test_the_stand_in_serves_every_way_to_import_ir(run, imports: str):
    finding = _finding(FAULTS[0])
    text = (finding.source.text if finding.source else "").replace("from ir import ops", imports)
    found = replace(finding, source=Source(name="mine.py", text=text))
    assert run(render(found, _expected(FAULTS[0]))) == (0, "no fault\n")


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        (
            "ops.silu_and_mul(x)",
            "cannot run: mine.py: no call of an op without ir; irverify replay 0123456789ab\n",
        ),
        (
            "ops.rms_norm.dispatch(x)",
            "cannot run: mine.py: no dispatch without ir; irverify replay 0123456789ab\n",
        ),
    ],
)
def test_a_file_that_needs_more_of_ir_is_told_so(run, line: str, printed: str):
    assert run(render(_finding(FAULTS[0], line), _expected(FAULTS[0]))) == (2, printed)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("import nowhere_at_all\n", "cannot run: mine.py: ModuleNotFoundError: No module named "),
        ("from ir import kernels\n", "cannot run: mine.py: no kernels without ir; irverify replay"),
        ("x = 1\n", "cannot run: mine.py: no provider 'mine' of rms_norm without ir"),
    ],
)
def test_a_file_that_does_not_load_cannot_run(run, text: str, printed: str):
    finding = replace(_finding(FAULTS[0]), source=Source(name="mine.py", text=text))
    status, said = run(render(finding, _expected(FAULTS[0])))
    assert (status, said[: len(printed)]) == (2, printed)


def test_the_last_of_two_registrations_counts(run):
    finding = _finding(FAULTS[0])
    text = finding.source.text if finding.source else ""
    twice = text + text.replace(MARK, "    y = y * 2\n")
    found = replace(finding, source=Source(name="mine.py", text=twice))
    assert run(render(found, _expected(FAULTS[0])))[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("route", ["caller", "compiled-exact"])
def test_a_script_calls_the_function_on_the_route_that_showed_the_fault(tmp_path, route: str):
    for broken, status in ((True, 1), (False, 0)):
        finding = replace(_finding(FAULTS[0], FAULTS[0].line if broken else None), route=route)
        done = _isolated(render(finding, _expected(FAULTS[0])), tmp_path)
        assert (done.returncode, done.stderr) == (status, ""), done


@pytest.mark.parametrize(
    ("route", "call"),
    [
        ("compiled-exact", 'fullgraph=True, options={"emulate_precision_casts": True})'),
        ("compiled-stock", "fullgraph=True)"),
        ("caller", 'backend="inductor", fullgraph=True)'),
    ],
)
def test_a_compiled_route_is_compiled_as_the_engine_compiles_it(route: str, call: str):
    script = render(replace(_finding(FAULTS[0]), route=route), _expected(FAULTS[0]))
    assert script.count("torch.compile(") == script.count(call) == 1


def test_a_traced_call_says_what_the_contract_declares(run):
    fault = FAULTS[0]
    finding = replace(_finding(fault), route="opaque", case=TRANSPOSED)
    assert run(render(finding, expect(DECLARATIONS["rms_norm"], TRANSPOSED))) == (0, "no fault\n")


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({"subject": "vllm"}, None, "no script for subject 'vllm'; accepted: ir"),
        ({"op": "none"}, None, "no script for op 'none'; accepted: rms_norm, fused_add"),
        ({"judge": "taste"}, None, "no script for judge 'taste'; accepted: completion, refusal"),
        ({}, None, "judge 'values' with NoneType; accepted: Expected"),
        ({"judge": "refusal"}, None, "judge 'refusal' with NoneType; accepted: Refusal"),
        ({}, Refusal("x", "is"), "judge 'values' with Refusal; accepted: Expected"),
    ],
)
def test_what_no_script_can_show_is_refused(change: dict, expected, message: str):
    with pytest.raises(ScriptError) as caught:
        render(replace(_finding(FAULTS[0]), **change), expected)
    assert str(caught.value)[: len(message)] == message


def test_the_script_of_a_small_case_is_short():
    finding = _finding(FAULTS[0], FAULTS[0].line)
    of_the_user = (finding.source.text if finding.source else "").count("\n")
    assert _render(FAULTS[0], broken=True).count("\n") - of_the_user <= 120


def test_the_text_of_a_script(snapshot):
    assert _render(FAULTS[0], broken=True) == snapshot


TRITON = """\
import torch
import triton
import triton.language as tl
from torch import Tensor
from ir import ops


@triton.jit
def kernel(x, y, d: tl.constexpr, epsilon, n: tl.constexpr):
    i = tl.arange(0, n)
    v = tl.load(x + i, mask=i < d, other=0.0)
    # the fault
    tl.store(y + i, v * tl.rsqrt(tl.sum(v * v) / d + epsilon), mask=i < d)


@ops.rms_norm.register_impl("mine")
def mine(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = torch.empty_like(x)
    kernel[(1,)](x, y, x.shape[-1], epsilon, triton.next_power_of_2(x.shape[-1]))
    return y
"""


@pytest.mark.slow
def test_a_kernel_of_triton_finds_its_source(tmp_path: Path):
    pytest.importorskip("triton")
    fault = replace(FAULTS[0], shown="y[0, 1]: observed ")
    for line, status in (("epsilon = epsilon * 2", 1), ("# none", 0)):
        source = Source(name="mine.py", text=TRITON.replace("# the fault", line))
        done = _isolated(
            render(replace(_finding(fault), source=source), _expected(fault)), tmp_path
        )
        assert (done.returncode, done.stderr) == (status, ""), done
        assert (fault.shown in done.stdout) == bool(status)
