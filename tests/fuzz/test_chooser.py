"""The counter-based chooser: a pure function of its labels."""

import pytest

from fuzz.chooser import SeededChooser


def _answers(*labels: object) -> list[object]:
    chooser = SeededChooser(*labels)  # type: ignore[arg-type]
    return [chooser.integer(0, 999), chooser.choose("abc"), chooser.chance(0.5)] + [
        chooser.integer(0, 1 << 40) for _ in range(8)
    ]


def test_equal_labels_give_equal_answers_and_any_other_label_gives_others():
    first = _answers(1, "numerics", "rms_norm", 7)
    assert first == _answers(1, "numerics", "rms_norm", 7)
    others = [
        _answers(2, "numerics", "rms_norm", 7),
        _answers(1, "contract", "rms_norm", 7),
        _answers(1, "numerics", "rms_norm", 8),
        _answers(1, "numerics", "rms_norm7"),
    ]
    assert all(other != first for other in others)


def test_answers_are_those_of_this_generator_on_every_platform():
    chooser = SeededChooser(0, "pinned")
    assert [chooser.integer(0, 99) for _ in range(8)] == [18, 24, 31, 31, 64, 24, 52, 4]


def test_every_answer_lies_where_it_was_asked_for():
    chooser = SeededChooser(3)
    integers = [chooser.integer(-2, 2) for _ in range(300)]
    assert set(integers) == {-2, -1, 0, 1, 2}
    assert {chooser.choose((1, 5)) for _ in range(50)} == {1, 5}
    assert not any(chooser.chance(0.0) for _ in range(50))
    assert all(chooser.chance(1.0) for _ in range(50))
    assert 200 < sum(chooser.chance(0.25) for _ in range(1000)) < 300


def test_questions_without_an_answer_are_refused():
    chooser = SeededChooser(0)
    with pytest.raises(ValueError, match="empty"):
        chooser.choose(())
    with pytest.raises(ValueError, match=r"no integer in \[3, 2\]"):
        chooser.integer(3, 2)
