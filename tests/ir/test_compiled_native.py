"""Compiled providers: found again, never shared, right for every number of tokens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._inductor.config as inductor_config
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from ir import compiled, ops
from ir.errors import CompileLimitError, IrError, NoCompilerError
from ir.op import IrOp, enable_torch_wrap, register_op

Names = Callable[[], str]
COUNTS = (7, 2, 1, 0, 33)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    compiled.clear()
    yield
    compiled.clear()


@pytest.fixture
def op(op_name: Names) -> IrOp:
    @register_op(name=op_name(), allow_inplace=True)
    def native(x: Tensor, weight: Tensor | None, bias: float, half: bool = False) -> Tensor:
        y = x * 2 if weight is None else x * weight
        return (y + bias).to(x.dtype)

    return native


def _compiles(op: IrOp) -> int:
    found = compiled.statistics().get(op.name)
    return 0 if found is None else found.compiles


def _judge(got: Tensor, want: Tensor) -> None:
    """The same values, up to the order of a sum, in the same places."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.numel():
        sized = [d for d in range(want.dim()) if want.shape[d] > 1]
        assert [got.stride(d) for d in sized] == [want.stride(d) for d in sized]
    torch.testing.assert_close(got.float(), want.float(), rtol=2**-7, atol=2**-7)


def _bits(t: Tensor) -> Tensor:
    return t.contiguous().view(torch.uint8)


def _inputs(op: IrOp, n: int, dtype: torch.dtype, *, three: bool) -> tuple[Any, ...]:
    torch.manual_seed(n)

    def x(width: int) -> Tensor:
        return (
            torch.randn(n, 3, width, dtype=dtype) if three else torch.randn(n, width, dtype=dtype)
        )

    def row(width: int) -> Tensor:
        return torch.randn(width, dtype=dtype)

    return {
        "rms_norm": lambda: (x(16), row(16), 1e-5),
        "fused_add_rms_norm": lambda: (x(16), x(16), None, 1e-5, 8),
        "gelu_and_mul_sparse": lambda: (x(32), 1.5),
        "silu_and_mul": lambda: (x(32),),
        "gelu_and_mul": lambda: (x(32), "tanh"),
        "rotary_embedding": lambda: (
            torch.randint(9, (n,)),
            x(8) if three else x(24),
            None if three else x(8),
            8,
            torch.randn(9, 6, dtype=dtype),
            True,
            6,
        ),
        "static_quant_fp8": lambda: (x(16), torch.tensor(0.3)),
        "dynamic_per_token_quant_fp8": lambda: (x(16), None),
        "per_token_group_quant_fp8": lambda: (x(16), 8),
    }[op.name]()


OPS = [
    ops.rms_norm,
    ops.fused_add_rms_norm,
    ops.gelu_and_mul_sparse,
    ops.silu_and_mul,
    ops.gelu_and_mul,
    ops.rotary_embedding,
    ops.static_quant_fp8,
    ops.dynamic_per_token_quant_fp8,
    ops.per_token_group_quant_fp8,
]


# The order of a sum is free, and another one may round a result differently.
_SUMMING = (ops.rms_norm, ops.fused_add_rms_norm, ops.gelu_and_mul_sparse)


def _one_compile(op: IrOp, mode: bool | str, *, three: bool, order: tuple[int, ...]) -> None:
    for n in order:
        # Stock code may leave out roundings to bfloat16; float32 has none to leave out.
        dtype = torch.bfloat16 if mode == "exact" else torch.float32
        args = _inputs(op, n, dtype, three=three)
        want = op(*args)
        with op.set_priority(["native"], compile=mode):  # type: ignore[arg-type]
            got = op(*args)
        for g, w in zip(*((o,) if isinstance(o, Tensor) else o for o in (got, want)), strict=True):
            _judge(g, w)
            if mode == "exact" and op not in _SUMMING:
                assert torch.equal(_bits(g), _bits(w))
    assert _compiles(op) == 1
    assert compiled.statistics()[op.name].hits == len(order) - 1


@pytest.mark.parametrize("mode", [True, "exact"])
def test_one_compilation_serves_every_token_count(mode: bool | str) -> None:
    _one_compile(ops.rms_norm, mode, three=False, order=COUNTS)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("mode", [True, "exact"])
@pytest.mark.parametrize("three", [False, True])
def test_one_compilation_serves_every_token_count_of_every_op(
    op: IrOp, mode: bool | str, three: bool
) -> None:
    order = list(COUNTS)
    random.Random(f"{op.name} {mode} {three}").shuffle(order)
    _one_compile(op, mode, three=three, order=tuple(order))


_LAYOUTS: dict[str, Callable[[int], Tensor]] = {
    "row major": lambda n: torch.randn(n, 6, 8),
    "columns sliced": lambda n: torch.randn(n, 6, 16)[..., :8],
    "rows sliced": lambda n: torch.randn(2 * n, 6, 8)[::2],
    "offset": lambda n: torch.randn(n + 3, 6, 8)[3:],
    "tokens inside": lambda n: torch.randn(6, n, 8).transpose(0, 1),
    "tokens innermost": lambda n: torch.randn(8, 6, n).permute(2, 1, 0),
    "middle swapped": lambda n: torch.randn(n, 8, 6).transpose(1, 2),
    "one of size 1": lambda n: torch.randn(n, 1, 8),
    "expanded": lambda n: torch.randn(1, 6, 8).expand(n, 6, 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", _LAYOUTS)
def test_one_compilation_serves_every_layout_and_keeps_eagers(layout: str) -> None:
    weight = torch.randn(8)
    for n in COUNTS:
        x = _LAYOUTS[layout](n)
        want = ops.rms_norm(x, weight, 1e-5)
        with ops.rms_norm.set_priority(["native"], compile=True):
            _judge(ops.rms_norm(x, weight, 1e-5), want)
    assert _compiles(ops.rms_norm) == 1


def test_compiled_code_outlives_the_priority_and_is_found_again(op: IrOp) -> None:
    x, weight = torch.randn(5, 8), torch.randn(8)
    with op.set_priority(["native"], compile=True):
        op(x, weight, 1.0)
    torch._dynamo.reset()
    with torch.compiler.set_stance("fail_on_recompile"):
        for n in (3, 0, 1, 8):
            for wrap in (True, False):
                x = torch.randn(n, 8)
                with op.set_priority(["native"], compile=True), enable_torch_wrap(wrap):
                    _judge(op(x, weight, 1.0), x * weight + 1)
        with (
            op.set_priority(["native"], compile="exact"),
            pytest.raises(CompileLimitError, match="fail_on_recompile"),
        ):
            op(x, weight, 1.0)
    assert _compiles(op) == 1


def test_configurations_never_share(op: IrOp) -> None:
    x = torch.randn(5, 8)

    def run(mode: Any) -> None:
        with op.set_priority(["native"], compile=mode):
            op(x, None, 1.0)

    seen = []
    for _ in range(2):
        run(True)
        seen.append(_compiles(op))
        run("exact")
        seen.append(_compiles(op))
        with inductor_config.patch(max_fusion_size=3):
            run(True)
        seen.append(_compiles(op))
    assert seen == [1, 2, 3, 3, 3, 3]


def test_exact_keeps_roundings_that_stock_elides(op_name: Names) -> None:
    @register_op(name=op_name())
    def native(x: Tensor) -> Tensor:
        # In bfloat16 1 + 2^-9 is 1; kept wider, the 1 cancels and the rest stays.
        return (x + 1) - 1

    x = torch.full((4, 4), 2.0**-9, dtype=torch.bfloat16)
    got = {}
    for mode in (False, True, "exact"):
        with native.set_priority(["native"], compile=mode):
            got[mode] = native(x)
    assert torch.equal(got[False], torch.zeros_like(x))
    assert torch.equal(got["exact"], torch.zeros_like(x))
    assert torch.equal(got[True], x)


@pytest.mark.slow
def test_the_key_tells_calls_apart_that_compile_differently(op: IrOp) -> None:
    x = torch.randn(4, 8)
    calls: list[tuple[Any, ...]] = [
        (x, None, 1.0),
        (x, torch.randn(8), 1.0),
        (x, None, 2.0),
        (x, None, 0.0),
        (x, None, -0.0),
        (x, None, float("nan")),
        (x.double(), None, 1.0),
        (torch.randn(4, 9), None, 1.0),
        (torch.randn(4, 2, 8), None, 1.0),
        (x, None, 1.0, True),
    ]
    for _ in range(2):
        for args in calls:
            want = op(*args)
            with op.set_priority(["native"], compile=True):
                got = op(*args)
            assert got.dtype == want.dtype
            assert torch.equal(torch.nan_to_num(got), torch.nan_to_num(want))
            # -0.0 + -0.0 is -0.0, and + 0.0 is 0.0.
            with op.set_priority(["native"], compile=True):
                zero = op(torch.full((1, 8), -0.0), None, args[2])
            assert torch.signbit(zero[0, 0]) == (str(args[2]) == "-0.0")
    # The row of zeros is one more key: float32, width 8, no weight. All four biases had it.
    assert _compiles(op) == len(calls)


def test_the_state_of_the_thread_costs_no_compilation(op: IrOp) -> None:
    x, weight = torch.randn(4, 8), torch.randn(8)
    with torch.inference_mode():
        inference = torch.randn(4, 8)
    want = x * weight + 1
    outer = torch.library.custom_op(f"test_compiled::{op.name}", mutates_args=())

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return op(x, weight, 1.0)

    def opaque(x: Tensor, weight: Tensor) -> Tensor:
        return op(x, weight, 1.0)

    opaque = outer(opaque)
    opaque.register_fake(lambda x, weight: torch.empty_like(x))
    in_a_graph = torch.compile(lambda x, w: opaque(x * 1, w) * 1, fullgraph=True)
    with op.set_priority(["native"], compile=True):
        _judge(call(x, weight), want)
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            with mode():
                _judge(call(x, weight), want)
                assert torch.is_grad_enabled() == (mode is torch.enable_grad)
                assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        with torch.inference_mode():
            call(inference, weight)
        _judge(call(x.clone().requires_grad_(), weight).detach(), want)
        _judge(call(x, torch.nn.Parameter(weight)).detach(), want)
        _judge(opaque(x, weight), want)
        _judge(in_a_graph(x, weight), want)
        _judge(in_a_graph(torch.cat((x, x)), weight), torch.cat((want, want)))
        thread = threading.Thread(target=lambda: seen.append(_in_thread(op, x, weight)))
        seen: list[Tensor] = []
        thread.start()
        thread.join()
        _judge(seen[0], want)
    assert _compiles(op) == 1


def _in_thread(op: IrOp, x: Tensor, weight: Tensor) -> Tensor:
    with op.set_priority(["native"], compile=True):
        return op(x, weight, 1.0)


def test_gradients_are_those_of_the_provider(op: IrOp) -> None:
    def gradients(mode: bool) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        x = torch.randn(4, 8, requires_grad=True)
        weight = torch.randn(8, requires_grad=True)
        with op.set_priority(["native"], compile=mode), enable_torch_wrap(False):
            y = op(x, weight, 1.0)
        return torch.autograd.grad((y * y).sum(), (x, weight))

    for got, want in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(got, want)
    assert _compiles(op) == 1


@pytest.mark.parametrize("wrap", [True, False])
def test_under_an_outer_trace_the_provider_itself_is_used(op: IrOp, wrap: bool) -> None:
    x = torch.randn(4, 8)

    def run(x: Tensor) -> Tensor:
        return op(x, None, 1.0)

    want = run(x)
    with op.set_priority(["native"], compile=True), enable_torch_wrap(wrap):
        graph = make_fx(run)(x)
        with FakeTensorMode() as mode:
            assert run(mode.from_tensor(x)).shape == (4, 8)
        _judge(torch.func.vmap(run)(x), want)
        _judge(torch.compile(run, fullgraph=True, backend="aot_eager")(x), want)
    targets = [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
    assert targets == (
        [f"ir.{op.name}.default"] if wrap else ["aten.mul.Tensor", "aten.add.Tensor"]
    )
    if not wrap:
        assert _compiles(op) == 0


def test_past_the_limit_the_caller_is_told(op: IrOp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "limit", 2)
    with op.set_priority(["native"], compile=True):
        op(torch.randn(4, 8), None, 1.0)
        op(torch.randn(4, 9), None, 1.0)
        with pytest.raises(CompileLimitError, match=rf"{op.name}: provider 'native' \(stock\).*10"):
            op(torch.randn(4, 10), None, 1.0)
        # What was compiled goes on to serve.
        op(torch.randn(5, 9), None, 1.0)
        monkeypatch.setattr(compiled, "limit", 3)
        op(torch.randn(4, 10), None, 1.0)
    with op.set_priority(["native"], compile="exact"):
        op(torch.randn(4, 10), None, 1.0)
    assert _compiles(op) == 4


def test_without_a_compiler_the_caller_is_told(op: IrOp) -> None:
    assert compiled.has_compiler()
    with inductor_config.patch({"cpp.cxx": ("/nonexistent/g++",)}):
        assert not compiled.has_compiler()
        with (
            op.set_priority(["native"], compile=True),
            pytest.raises(NoCompilerError, match=r"need a C\+\+ compiler"),
        ):
            op(torch.randn(4, 8), None, 1.0)
    assert _compiles(op) == 0


def test_exact_is_refused_where_the_compiler_elides_roundings(
    op: IrOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.11.0")
    assert not compiled.keeps_roundings("cpu")
    assert compiled.keeps_roundings("cuda")
    with (
        op.set_priority(["native"], compile="exact"),
        pytest.raises(NoCompilerError, match=r"torch 2\.11\.0.*accepted: torch 2\.13 or later"),
    ):
        op(torch.randn(4, 8), None, 1.0)
    assert _compiles(op) == 0


def test_only_providers_marked_compilable_are_compiled(op: IrOp) -> None:
    @op.register_impl("eager")
    def eager(x: Tensor, weight: Tensor | None, bias: float, half: bool = False) -> Tensor:
        return x + 10

    x = torch.zeros(4, 8)
    with op.set_priority(["eager"], compile=True):
        assert torch.equal(op(x, None, 1.0), x + 10)
    assert _compiles(op) == 0


@pytest.mark.parametrize("wrap", [True, False])
def test_a_compilable_in_place_provider_writes_only_what_is_donated(op: IrOp, wrap: bool) -> None:
    @op.register_impl("inplace", inplace=True, compilable=True)
    def inplace(x: Tensor, weight: Tensor | None, bias: float, half: bool = False) -> Tensor:
        return x.mul_(2).add_(bias)

    for n in (3, 1, 0, 8):
        x = torch.ones(n, 4)
        with op.set_priority(["inplace"], compile=True), enable_torch_wrap(wrap):
            assert torch.equal(op(x, None, 1.0), torch.full((n, 4), 3.0))
            assert torch.equal(x, torch.ones(n, 4))
            assert torch.equal(op.maybe_inplace(x, None, 1.0), torch.full((n, 4), 3.0))
            assert torch.equal(x, torch.full((n, 4), 3.0))
    assert _compiles(op) == 1


def test_a_replaced_provider_is_compiled_anew(op: IrOp) -> None:
    def provider(addend: int) -> Callable[..., Tensor]:
        def impl(x: Tensor, weight: Tensor | None, bias: float, half: bool = False) -> Tensor:
            return x + addend

        return impl

    x = torch.zeros(4, 8)
    for addend in (10, 20, 30):
        op.register_impl("a", compilable=True, replace=True)(provider(addend))
        with op.set_priority(["a"], compile=True):
            for _ in range(2):
                assert torch.equal(op(x, None, 1.0), x + addend)


def test_a_guard_miss_is_noticed_and_compiled_anew(
    op: IrOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ir.compiled import key

    # A key that sees too little: every tensor looks alike.
    monkeypatch.setattr(
        key, "signature", lambda a: "tensor" if isinstance(a, Tensor) else (type(a), a)
    )
    with op.set_priority(["native"], compile=True):
        for _ in range(2):
            for dtype in (torch.float32, torch.float64):
                for weight in (torch.randn(8, dtype=dtype), torch.randn(1, dtype=dtype)):
                    x = torch.randn(4, 8, dtype=dtype)
                    assert torch.equal(op(x, weight, 1.0), x * weight + 1)
    assert _compiles(op) == 4


def test_an_index_of_one_number_a_token_needs_no_declaration(op_name: Names) -> None:
    def native(x: Tensor, index: Tensor, table: Tensor) -> Tensor:
        return x + table.index_select(0, index)

    inferred = register_op(name=op_name())(native)
    declared = register_op(name=op_name(), token_args=["x", "index"])(native)
    table = torch.randn(9, 8)
    for op in (inferred, declared):
        for n in COUNTS:
            x, index = torch.randn(n, 8), torch.randint(9, (n,))
            with op.set_priority(["native"], compile=True):
                _judge(op(x, index, table), native(x, index, table))
        assert _compiles(op) == 1


def test_a_single_row_has_no_token_dimension(op: IrOp) -> None:
    for width in (8, 9):
        x, weight = torch.randn(width), torch.randn(width)
        with op.set_priority(["native"], compile=True):
            _judge(op(x, weight, 1.0), x * weight + 1)
    assert _compiles(op) == 2


def test_a_weight_as_long_as_the_tokens_are_many_is_no_token_tensor(op: IrOp) -> None:
    weight = torch.randn(8)
    for n in (8, 3, 8, 1):
        x = torch.randn(n, 8)
        with op.set_priority(["native"], compile=True):
            _judge(op(x, weight, 1.0), x * weight + 1)
    assert _compiles(op) == 1


def test_lists_of_tensors_are_refused(op_name: Names) -> None:
    @register_op(name=op_name())
    def native(x: Tensor, others: list[Tensor]) -> Tensor:
        return x + others[0]

    x = torch.randn(2, 3)
    with (
        native.set_priority(["native"], compile=True),
        pytest.raises(IrError, match="compiled providers take single tensors"),
    ):
        native(x, [x])
