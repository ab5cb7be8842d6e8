"""Rows that pad a batch change no real row, and write nothing outside their own slots."""

import pytest
import torch
from torch import Tensor

from ir.capture import BucketedGraphs, CaptureRefused, ReplayError, capture_buckets


def padded(layer: torch.nn.Module, dtype: torch.dtype, sizes=(1, 2, 4)) -> BucketedGraphs:
    n = max(sizes)
    largest = (
        torch.zeros(n, 32, dtype=dtype),
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(n, 1, dtype=torch.int64),
    )
    # Position 0 of the null block, and no slot.
    return capture_buckets(layer, *largest, sizes=sizes, padding=(0, 0, -1, 0))


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_padded_batch_gives_what_eager_gives_for_the_padded_rows(
    decoder, step_inputs, dtype, rows: int
):
    eager, captured = decoder(dtype), decoder(dtype)
    graphs = padded(captured, dtype)
    size = graphs.bucket(rows)
    for step in range(3):
        inputs = step_inputs(step, rows, dtype)
        more = size - rows
        by_hand = [
            torch.cat((t, torch.full((more, *t.shape[1:]), pad, dtype=t.dtype)))
            for t, pad in zip(inputs, (0, 0, -1, 0), strict=True)
        ]
        expected = eager(*by_hand)[:rows]
        got = graphs.replay(*inputs)
        assert isinstance(got, Tensor)
        assert torch.equal(got, expected)
        assert torch.equal(captured.kv, eager.kv)


def test_rows_that_pad_write_no_slot_at_all(decoder, step_inputs):
    layer = decoder(torch.float32)
    graphs = padded(layer, torch.float32)
    before = layer.kv.clone()
    inputs = step_inputs(1, 3, torch.float32)
    graphs.replay(*inputs)
    written = {int(s) for s in inputs[2]}
    untouched = [s for s in range(layer.kv.shape[1]) if s not in written]
    assert torch.equal(layer.kv[:, untouched], before[:, untouched])
    assert not torch.equal(layer.kv[:, sorted(written)], before[:, sorted(written)])


def test_the_null_block_stays_zero(decoder, step_inputs):
    layer = decoder(torch.float32)
    graphs = padded(layer, torch.float32)
    for step, rows in enumerate((4, 1, 3)):
        graphs.replay(*step_inputs(step, rows, torch.float32))
    assert torch.equal(layer.kv[:, :4], torch.zeros_like(layer.kv[:, :4]))


def test_rows_of_a_larger_batch_before_are_not_computed_again(decoder, step_inputs):
    layer, alone = decoder(torch.float32), decoder(torch.float32)
    graphs, fresh = padded(layer, torch.float32, (4,)), padded(alone, torch.float32, (4,))
    graphs.replay(*step_inputs(0, 4, torch.float32))
    alone.kv.copy_(layer.kv)
    # Row 3 of the batch before would write its slot again.
    layer.kv[:, 16] = 7.0
    alone.kv[:, 16] = 7.0
    one = step_inputs(1, 1, torch.float32)
    got, expected = graphs.replay(*one), fresh.replay(*one)
    assert isinstance(got, Tensor)
    assert isinstance(expected, Tensor)
    assert torch.equal(got, expected)
    assert torch.equal(layer.kv, alone.kv)


def test_inputs_without_rows_are_copied_whole_and_results_without_rows_kept_whole():
    def step(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        return x + table.sum(), table * 2

    graphs = capture_buckets(
        step,
        torch.zeros(4),
        torch.zeros(3),
        sizes=(2, 4),
        padding=(0, None),
        batched=(True, False),
    )
    got = graphs.replay(torch.ones(1), torch.tensor([1.0, 2.0, 3.0]))
    assert isinstance(got, tuple)
    assert torch.equal(got[0], torch.tensor([7.0]))
    assert torch.equal(got[1], torch.tensor([2.0, 4.0, 6.0]))


def test_results_are_the_callers_own():
    graphs = capture_buckets(lambda x: x + 1, torch.zeros(4), sizes=(4,), padding=(0,))
    first = graphs.replay(torch.zeros(2))
    graphs.replay(torch.full((2,), 5.0))
    assert isinstance(first, Tensor)
    assert torch.equal(first, torch.ones(2))


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.zeros(5, dtype=torch.int64),),
        (torch.zeros(0, dtype=torch.int64),),
        (torch.zeros(2, dtype=torch.int32),),
        (torch.zeros(2, 1, dtype=torch.int64),),
    ],
    ids=["too-many", "none", "32-bit-slots", "rank"],
)
def test_batches_of_another_kind_are_refused(inputs: tuple[Tensor, ...]):
    graphs = capture_buckets(
        lambda s: s + 1, torch.zeros(4, dtype=torch.int64), sizes=(4,), padding=(-1,)
    )
    with pytest.raises(ReplayError, match="accepted: "):
        graphs.replay(*inputs)


def test_unlike_numbers_of_rows_are_refused():
    graphs = capture_buckets(
        lambda x, y: x + y, torch.zeros(4), torch.zeros(4), sizes=(4,), padding=(0, 0)
    )
    with pytest.raises(ReplayError, match="rows of the batched inputs"):
        graphs.replay(torch.zeros(2), torch.zeros(3))


def test_a_result_without_rows_must_be_declared():
    with pytest.raises(CaptureRefused, match="batched="):
        capture_buckets(lambda x: x.sum(), torch.zeros(4), sizes=(4,), padding=(0,))


def test_sizes_must_fit_the_inputs():
    with pytest.raises(CaptureRefused, match="sizes"):
        capture_buckets(lambda x: x, torch.zeros(4), sizes=(2,), padding=(0,))
