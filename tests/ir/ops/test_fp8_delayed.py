"""The scale of a call follows from the calls before it, of its layer alone."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import ir
import ir.compilation
from ir import ir_state, ops
from ir.errors import InputError
from ir.ops.fp8_delayed import HISTORY, HISTORY_LENGTH


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    torch._dynamo.reset()
    with ir_state.override(HISTORY, ir_state.types[HISTORY].create):
        yield


def expected_scale(maxima: list[float]) -> float:
    """By hand: the last 16 maxima, in float64, rounded once."""
    last = maxima[-HISTORY_LENGTH:]
    return torch.tensor(max(last) / 448.0 if last else 1.0, dtype=torch.float64).float().item()


def test_the_scale_is_the_largest_of_the_last_calls_and_not_of_this_one():
    maxima: list[float] = []
    generator = torch.Generator().manual_seed(3)
    with ir.scope(layer=1):
        for i in range(40):
            x = torch.randn(4, 6, generator=generator) * (50.0 if i % 9 == 4 else 1.0)
            y, scale = ops.quant_fp8_delayed(x)
            assert scale.item() == expected_scale(maxima)
            wanted = (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            assert torch.equal(y.view(torch.uint8), wanted.view(torch.uint8))
            maxima.append(x.abs().max().item())
    assert len(set(maxima)) == 40


def test_layers_have_histories_of_their_own_which_stay_where_they_are():
    with ir.scope(layer=1):
        ops.quant_fp8_delayed(torch.full((1, 2), 448.0))
        held = ir_state.get(HISTORY)
        address = held["amax"].data_ptr()
    with ir.scope(layer=2):
        assert ops.quant_fp8_delayed(torch.ones(1, 2))[1].item() == 1
    with ir.scope(layer=1):
        assert ops.quant_fp8_delayed(torch.full((1, 2), 896.0))[1].item() == 1
        assert ops.quant_fp8_delayed(torch.ones(1, 2))[1].item() == 2
        assert ir_state.get(HISTORY) is held
    assert held["amax"].data_ptr() == address
    assert held["amax"][:4].tolist() == [448, 896, 1, 0]
    assert held["next"].item() == 3


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 0.0])
def test_a_maximum_that_is_no_scale_leaves_the_history_alone(bad: float):
    ops.quant_fp8_delayed(torch.full((1, 2), 448.0))
    ops.quant_fp8_delayed(torch.full((1, 2), bad))
    held = ir_state.get(HISTORY)
    assert held["next"].item() == 1
    assert held["amax"].tolist() == [448.0] + [0.0] * 15
    assert ops.quant_fp8_delayed(torch.ones(1, 2))[1].item() == 1


def test_no_rows_are_a_call_without_a_maximum():
    y, scale = ops.quant_fp8_delayed(torch.zeros(0, 4))
    assert (y.shape, scale.item()) == ((0, 4), 1)
    assert ir_state.get(HISTORY)["next"].item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_fake_and_real_agree(dtype: torch.dtype, shape: tuple[int, ...]):
    x = torch.randn(shape).to(dtype).transpose(0, -1)
    y, scale = ops.quant_fp8_delayed(x)
    meta, meta_scale = ops.quant_fp8_delayed._fake_call(x.to("meta"))
    assert (y.shape, y.dtype, y.stride()) == (meta.shape, meta.dtype, meta.stride())
    assert (scale.shape, scale.dtype) == (meta_scale.shape, meta_scale.dtype)


def test_what_is_refused():
    with pytest.raises(InputError, match="float32, float16 or bfloat16"):
        ops.quant_fp8_delayed(torch.zeros(2, 2, dtype=torch.int32))
    with ir.scope(device="cuda:0"), pytest.raises(InputError, match=r"ir.scope\(device='cpu'\)"):
        ops.quant_fp8_delayed(torch.zeros(2, 2))


def model(x: Tensor) -> list[Tensor]:
    found = []
    for layer in range(3):
        with ir.scope(layer=layer):
            y, scale = ops.quant_fp8_delayed(x * (layer + 1))
            found += [y.view(torch.uint8), scale]
    return found


@pytest.mark.parametrize("run", ["fx", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_steps_equal_eager_steps_and_no_clone_is_left(run: str):
    report = ir.compilation.Report()
    g = torch.compile(
        model, backend=ir.compilation.backend, fullgraph=True,
        options={"run": run, "report": report},  # type: ignore[dict-item]
    )  # fmt: skip
    xs = [torch.full((2, 3), float(2**i)) for i in (3, 1, 7, 2)]
    with torch.no_grad():
        eager = [model(x) for x in xs]
        kept = [ir_state.get(HISTORY, (str(i), None)) for i in range(3)]
        after = [{k: t.clone() for k, t in s.items()} for s in kept]
        for s in kept:
            for t in s.values():
                t.zero_()
        for x, wanted in zip(xs, eager, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(g(x), wanted, strict=True))
    for s, wanted in zip(kept, after, strict=True):
        assert all(torch.equal(t, wanted[k]) for k, t in s.items())
    if run == "fx":
        assert len(report.passes[-1].removed) == 6  # type: ignore[union-attr]
        assert report.passes[-1].kept == ()  # type: ignore[union-attr]
