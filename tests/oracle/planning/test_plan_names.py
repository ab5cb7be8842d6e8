"""How ranks and runs of numbers are written."""

import pytest

from oracle.planning.names import listed_numbers, rank_name, rank_names, span
from oracle.planning.view import EngineView


def _engine(stages: int) -> EngineView:
    return EngineView(
        name="prefill",
        tp=8,
        stage_layers=(1,) * stages,
        layout="HND",
        placement="apart",
        block_tokens=16,
        kernel_tokens=16,
        num_blocks=2,
        shares_tensors=False,
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0, 1"), ((0, 1, 2), "0-2"), ((5, 6, 7, 1, 9), "5-7, 1, 9")],
)
def test_runs_of_three_or_more_are_shortened(numbers: tuple[int, ...], text: str):
    assert listed_numbers(numbers) == text


def test_ranks_carry_their_stage_where_there_are_several():
    ranks = [(0, 0), (0, 1), (0, 2), (1, 5)]
    assert rank_names(_engine(2), ranks) == "0.0-0.2, 1.5"
    assert rank_names(_engine(1), ranks[:3]) == "0-2"
    assert (rank_name(_engine(2), (1, 5)), rank_name(_engine(1), (0, 5))) == ("1.5", "5")


def test_a_span_of_one_is_a_number():
    assert (span(4, 1), span(4, 3)) == ("4", "4-6")
