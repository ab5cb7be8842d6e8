"""Polynomials in place of numbers: arithmetic, comparisons by bounds, a path for each answer."""

import pytest

from oracle.proofs.paths import MOST_PATHS, Path, UndecidableError, following, paths_through
from oracle.proofs.polynomial import Poly

U, N, W = (Poly.symbol(name) for name in ("u", "n", "w"))
LEAST = {"u": 1, "n": 2}


def _path() -> Path:
    return Path(LEAST)


def test_arithmetic_is_that_of_the_values():
    values = {"u": 3, "n": 5, "w": 7}
    found = (2 * U + 3) * (N - W) - U // 1 + 4
    assert found.at(values) == (2 * 3 + 3) * (5 - 7) - 3 + 4
    assert ((6 * U + 4) // 2).at(values) == (6 * 3 + 4) // 2
    assert ((6 * U) % 3).number() == 0
    assert (U - U).number() == 0
    assert repr(2 * U * N - 1) == "-1 + 2*n*u"


def test_a_number_is_equal_to_its_polynomial_and_hashes_like_it():
    assert Poly.of(5) == 5
    assert hash(Poly.of(5)) == hash(5)
    assert {U + 1: "a"}[1 + U] == "a"
    assert U != N


def test_a_product_is_divided_by_its_factors():
    long, short = 1 + W + 2 * N, 3 + U
    assert long * short * 2 // short == 2 * long
    assert (long * short) // long == short
    assert (long * short) % long == 0
    with pytest.raises(UndecidableError, match="accepted: a divisor"):
        bool((long * short + 1) // short)


def test_a_known_division_is_taken_from_the_path():
    path = Path(LEAST, divisions={("u", "n"): (Poly({}), U), ("n", "u"): (W, Poly({}))})
    with following(path):
        assert (U // N, U % N) == (0, U)
        assert (N // U, N % U) == (W, 0)
    with pytest.raises(UndecidableError, match="accepted: a divisor"):
        bool(N // U)


def test_a_sum_is_0_where_all_its_symbols_are():
    g = Poly.symbol("g")
    found = [(p.zero, answer) for p, answer in paths_through(_path, lambda _: U * W + g * U == 0)]
    assert found == [({"w", "g"}, True), (set(), False)]
    (_, other) = [p.conditions for p, _ in paths_through(_path, lambda _: U * W + g * W + g == 0)]
    assert [repr(c) for c in other] == ["-1 + 1*g + 1*w"]


def test_bounds_decide_what_they_can():
    with following(_path()):
        assert U > 0
        assert N >= 2
        assert N > 1
        assert not N < 2
        assert 2 * U > U
        assert U * N - U > 0
        assert U + W >= 1
        assert bool(U)


def test_an_assumption_decides():
    path = _path()
    path.assumed["b"] = 1_000 - Poly.symbol("b") - U * N
    with following(path):
        assert Poly.symbol("b") + U <= 1_000
        assert not Poly.symbol("b") > 1_000


def test_a_symbol_that_may_be_0_makes_two_paths():
    found = [(path.zero, answer) for path, answer in paths_through(_path, lambda _: W == 0)]
    assert found == [({"w"}, True), (set(), False)]


def test_a_comparison_of_either_sign_makes_two_paths_with_conditions():
    found = {
        answer: [repr(c) for c in path.conditions]
        for path, answer in paths_through(_path, lambda _: W > U)
    }
    assert found == {True: ["-1 + -1*u + 1*w"], False: ["1*u + -1*w"]}


def test_an_equality_of_either_sign_is_asked_of_both():
    found = [
        (answer, [repr(c) for c in path.conditions])
        for path, answer in paths_through(_path, lambda _: W == U)
    ]
    assert found == [
        (False, ["-1 + -1*u + 1*w"]),
        (True, ["1*u + -1*w", "-1*u + 1*w"]),
        (False, ["1*u + -1*w", "-1 + 1*u + -1*w"]),
    ]


def test_a_question_asked_again_has_the_same_answer():
    def asks(_: Path) -> tuple[bool, bool, bool]:
        return W > U, W > U, W - U > 0

    assert [answer for _, answer in paths_through(_path, asks)] == [
        (True, True, True),
        (False, False, False),
    ]


def test_what_has_no_answer_is_refused():
    with following(_path()):
        with pytest.raises(UndecidableError, match=r"1\*u // 2; accepted: a divisor"):
            bool(U // 2)
        with pytest.raises(UndecidableError, match=r"1\*u // 1\*n; accepted: a divisor"):
            bool(U // N)
        with pytest.raises(UndecidableError, match="0; accepted: a divisor"):
            bool(U // Poly({}))


def test_too_many_paths_are_refused():
    def many(_: Path) -> int:
        return sum(Poly.symbol(f"s{i}") > U for i in range(8))

    with pytest.raises(UndecidableError, match=f"more than {MOST_PATHS} paths"):
        list(paths_through(_path, many))
