"""Illegal cases are refused, each for the rule it was made to break."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.chooser import SeededChooser
from fuzz.profiles import examples
from fuzz.strategies import illegal_case, illegal_kinds
from fuzz.strategies.hypothesis import illegal_cases
from reference.declaration import Refusal
from reference.legal import DECLARATIONS

OPS = sorted(DECLARATIONS)


@pytest.mark.parametrize("op", OPS)
def test_every_kind_is_refused_for_every_chooser(op: str):
    declaration = DECLARATIONS[op]
    for kind in illegal_kinds(declaration):
        for i in range(4):
            case = illegal_case(declaration, SeededChooser(i, op, kind), kind=kind)
            refusal = declaration.bind(case)
            assert isinstance(refusal, Refusal), kind
            assert [s.numel for s in case.storages] == [len(a) for a in case.arrays()]
            for view in case.views().values():
                assert view.extent <= case.storages[view.storage].numel


@pytest.mark.parametrize("op", OPS)
def test_every_rule_of_the_declaration_is_broken_by_some_kind(op: str):
    declaration = DECLARATIONS[op]
    kinds = illegal_kinds(declaration)
    broken = set()
    for i, kind in enumerate(kinds * 3):
        refusal = declaration.bind(illegal_case(declaration, SeededChooser(i, op), kind=kind))
        assert isinstance(refusal, Refusal)
        broken.add((refusal.argument, refusal.rule.split()[0:2][-1], refusal.rule))
    rules = {(argument, rule) for argument, _, rule in broken}
    text = {f"{argument} {rule}" for argument, rule in rules}
    for spec in declaration.tensors:
        if spec.state:
            continue
        # A query of another dtype than the cache shows in that.
        typed = any(t.startswith(f"{spec.name} has dtype") for t in text)
        assert typed or spec.name == "query"
        # A key that does not fit the cache, or values, shows in those.
        first = spec.name in ("x", "key")
        assert any(t.startswith(f"{spec.name} has shape") for t in text) or first
        if spec.activation:
            low, high = declaration.ranks
            assert f"{spec.name} has {low} to {high} dimensions" in text
            if declaration.allow_inplace:
                assert f"{spec.name} does not overlap itself: it is donated" in text
    for spec in declaration.scalars:
        if spec.kind == "float":
            assert f"{spec.name} is finite" in text
        if spec.minimum is not None:
            assert f"{spec.name} is at least {spec.minimum}" in text
        if spec.even:
            assert f"{spec.name} is even" in text
        if spec.choices:
            assert f"{spec.name} is one of {spec.choices}" in text


def test_relations_are_broken_too():
    quant = DECLARATIONS["per_token_group_quant_fp8"]
    case = illegal_case(quant, SeededChooser(0), kind="flags-at-least-rank")
    assert quant.bind(case) == Refusal("column_major_scales", "needs x of at least 2 dimensions")
    rotary = DECLARATIONS["rotary_embedding"]
    found = {
        rotary.bind(illegal_case(rotary, SeededChooser(i), kind="x_key-extra-dimension"))
        for i in range(20)
    }
    assert len(found) >= 1


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_hypothesis_draws_illegal_cases_of_any_kind(op: str, data: st.DataObject):
    assert isinstance(DECLARATIONS[op].bind(data.draw(illegal_cases(op))), Refusal)


def test_an_unknown_kind_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="accepted: x-dtype-float64"):
        illegal_case(DECLARATIONS["silu_and_mul"], SeededChooser(0), kind="no-such-rule")
