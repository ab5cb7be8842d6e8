"""torch.compile with this backend, and with the same passes on stock Inductor."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import ir.compilation
from ir.compilation import LoweringPass, ReplacementCache, Report
from ir.compilation.errors import CompilationError
from ir.op import IrOp, register_op
from ir.ops.layernorm import rms_norm

X = torch.linspace(-2, 2, 24).view(3, 8)
Y = X.flip(0) + 1
W = torch.linspace(0.5, 1.5, 8)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def toy(op_name: Callable[[], str]) -> IrOp:
    def native(x: Tensor, scale: float = 2.0) -> Tensor:
        return x * scale + 1

    op = register_op(name=op_name(), allow_inplace=True)(native)

    @op.register_impl("inplace", inplace=True)
    def inplace(x: Tensor, scale: float = 2.0) -> Tensor:
        x.mul_(scale)
        x.add_(1)
        return x

    return op


def compiled(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return torch.compile(f, backend=ir.compilation.backend, fullgraph=True, options=options)


def by_number(x: Tensor) -> Tensor:
    return x.clone().as_strided((2,), (1,), 0) * 2


def overwritten(x: Tensor) -> Tensor:
    y = x.clone()
    y.copy_(x * 2)
    return y


@torch.library.custom_op("irverify_test::increment", mutates_args=("x",))
def increment(x: Tensor) -> None:
    x.add_(torch.arange(1.0, x.numel() + 1).view(x.shape))


def written_by_another_op(x: Tensor) -> Tensor:
    y = x.clone()
    increment(y)
    return y


def written_through_views(x: Tensor) -> Tensor:
    y = x.clone()
    increment(y.view(2, 3).t()[1:])
    increment(y.as_strided((2,), (2,), 1))
    return y * 1


@pytest.mark.parametrize(
    "f", [by_number, overwritten, written_by_another_op, written_through_views]
)
def test_the_next_input_may_begin_elsewhere(f: Callable[[Tensor], Tensor]):
    """torch guards sizes and strides of inputs, not where they begin: compiled code is reused."""
    base, call = torch.arange(11.0), compiled(f, run="fx", cache=None)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for x in (base[0:6], base[3:9]):
            got, wanted = call(x), f(x)
            assert (got.tolist(), got.storage_offset()) == (wanted.tolist(), 0)


@pytest.mark.parametrize("wrap", [True, False])
def test_the_fx_run_is_bit_equal_to_eager(wrap: bool):
    def f(x: Tensor, w: Tensor) -> Any:
        y = rms_norm(x, w, 1e-5)
        return rms_norm.maybe_inplace(y * 2, w, 1e-5), y

    with ir.enable_torch_wrap(wrap):
        got = compiled(f, run="fx", cache=ReplacementCache())(X, W)
    assert all(torch.equal(a, b) for a, b in zip(got, f(X, W), strict=True))


def test_one_compilation_serves_other_sizes():
    report = Report()
    options: Any = {"run": "fx", "report": report}
    f = torch.compile(
        lambda x, w: rms_norm(x, w, 1e-5) + 1,
        backend=ir.compilation.backend, fullgraph=True, dynamic=True, options=options,
    )  # fmt: skip
    for rows in (3, 5, 17):
        x = torch.randn(rows, 8)
        assert torch.equal(f(x, W), rms_norm(x, W, 1e-5) + 1)
    assert len(report.passes) == 3


@pytest.mark.parametrize("donate", [True, False])
def test_a_donated_input_is_written_and_no_other(toy: IrOp, donate: bool):
    def f(x: Tensor, y: Tensor) -> Any:
        given = toy.maybe_inplace(x) if donate else toy(x)
        return given * 1, toy(y) * 1

    report = Report()
    x, y = X.clone(), Y.clone()
    with toy.set_priority(["inplace"]):
        got = compiled(f, run="fx", report=report)(x, y)
    assert torch.equal(got[0], X * 2 + 1)
    assert torch.equal(got[1], Y * 2 + 1)
    assert torch.equal(y, Y)
    assert torch.equal(x, X) is not donate
    assert sum("input-written" in line for line in report.lines()) == (1 if donate else 2)


def test_a_use_after_donation_is_refused(toy: IrOp):
    def f(x: Tensor) -> Any:
        return toy.maybe_inplace(x) + x.view(-1).sum()

    with pytest.raises(Exception, match=r"was given to .* and is used by"):
        compiled(f, run="fx")(X.clone())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "c"}, '"inductor" or "fx"'),
        ({"cache": 1}, "a ReplacementCache or None"),
        ({"report": 1}, "accepted: a Report"),
        ({"run": "fx", "max_autotune": True}, "are for Inductor"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(CompilationError, match=message):
        ir.compilation.backend(torch.fx.symbolic_trace(lambda x: x), [X], options=options)


def test_the_uuid_follows_priorities_providers_and_donation(toy: IrOp):
    plain = LoweringPass(donated=()).uuid()
    assert LoweringPass(donated=()).uuid() == plain
    assert LoweringPass(donated=(0,)).uuid() != plain
    with toy.set_priority(["inplace"]):
        chosen = LoweringPass(donated=()).uuid()
        assert chosen != plain

        @toy.register_impl("inplace", replace=True)
        def other(x: Tensor, scale: float = 2.0) -> Tensor:
            return x * scale + 1.0

        assert LoweringPass(donated=()).uuid() not in (chosen, plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LoweringPass(donated=()).uuid() != plain


def test_importing_ir_imports_no_compilation():
    code = "import sys, ir; sys.exit('ir.compilation' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor_compiles_what_was_lowered(toy: IrOp, dynamic: bool):
    def f(x: Tensor, y: Tensor) -> Any:
        return toy.maybe_inplace(x) * 1, toy(y, 3.0)

    report = Report()
    options: Any = {"report": report}
    g = torch.compile(
        f, backend=ir.compilation.backend, fullgraph=True, dynamic=dynamic, options=options
    )
    x, y = X.clone(), Y.clone()
    with toy.set_priority(["inplace"]):
        got = g(x, y)
    assert torch.allclose(got[0], X * 2 + 1)
    assert torch.allclose(got[1], Y * 3 + 1)
    assert torch.equal(y, Y)
    assert sum("by inplace" in line for line in report.lines()) == 2


@pytest.mark.slow
def test_a_graph_kept_by_inductor_is_not_used_for_other_donations(toy: IrOp):
    def gives(x: Tensor) -> Any:
        return toy.maybe_inplace(x) * 1

    def keeps(x: Tensor) -> Any:
        return toy(x) * 1

    with toy.set_priority(["inplace"]):
        for f in (gives, keeps):
            torch._dynamo.reset()
            x = X.clone()
            assert torch.allclose(compiled(f)(x), X * 2 + 1)
    assert torch.equal(x, X)


@pytest.mark.slow
def test_the_passes_work_on_stock_inductor(toy: IrOp):
    from torch._inductor import config

    def f(x: Tensor, y: Tensor) -> Any:
        return toy.maybe_inplace(x) * 1, toy(y, 3.0)

    report = Report()
    x, y = X.clone(), Y.clone()
    with (
        toy.set_priority(["inplace"]),
        config.patch(
            pre_grad_custom_pass=ir.compilation.FunctionalizationPass(report=report),
            post_grad_custom_post_pass=LoweringPass(report=report),
        ),
    ):
        got = torch.compile(f, fullgraph=True)(x, y)
    assert torch.allclose(got[0], X * 2 + 1)
    assert torch.allclose(got[1], Y * 3 + 1)
    assert torch.equal(y, Y)
    assert [type(p).__name__ for p in report.passes] == ["Functionalized", "Lowered", "Clones"]
