"""Legal cases are legal, whatever was drawn; fixed signatures hold fixed what they name."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.chooser import SeededChooser
from fuzz.profiles import examples
from fuzz.strategies import Signature, fixed_signatures, free_signature, legal_case
from fuzz.strategies.contents import RICH
from fuzz.strategies.hypothesis import legal_cases
from reference.declaration import FLOATS, REQUIRED, Binding
from reference.dtypes import decode
from reference.legal import DECLARATIONS
from reference.model import (
    Fill,
    OpCase,
    Storage,
    case_from_json,
    case_to_json,
    digest,
    is_self_overlapping,
    touched_elements,
)

OPS = sorted(DECLARATIONS)


def _cases(op: str, signature: Signature, count: int) -> list[OpCase]:
    declaration = DECLARATIONS[op]
    return [
        legal_case(declaration, signature, SeededChooser(5, op, signature, i)) for i in range(count)
    ]


def _free(op: str, count: int = 120) -> list[OpCase]:
    return [c for t in FLOATS for c in _cases(op, free_signature(DECLARATIONS[op], t), count)]


@pytest.mark.parametrize("op", OPS)
def test_every_drawn_case_binds_fits_its_storages_and_survives_json(op: str):
    for case in _free(op):
        binding = DECLARATIONS[op].bind(case)
        assert isinstance(binding, Binding), (binding, case)
        assert [s.numel for s in case.storages] == [len(a) for a in case.arrays()]
        for view in case.views().values():
            assert view.offset >= 0
            assert view.extent <= case.storages[view.storage].numel
        assert digest(case_from_json(case_to_json(case))) == digest(case)


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=examples(30))
@given(data=st.data())
def test_hypothesis_draws_from_the_same_builder(op: str, data: st.DataObject):
    assert isinstance(DECLARATIONS[op].bind(data.draw(legal_cases(op))), Binding)


@settings(max_examples=examples(10))
@given(data=st.data())
def test_hypothesis_keeps_a_signature(data: st.DataObject):
    signature = fixed_signatures(DECLARATIONS["rms_norm"], "float16")[1]
    case = data.draw(legal_cases("rms_norm", signature=signature))
    assert case.views()["x"].shape[-1] == dict(signature.sizes)["d"]


@pytest.mark.parametrize("op", OPS)
def test_case_i_is_a_function_of_seed_and_labels_alone(op: str):
    forward = [digest(case) for case in _free(op, 8)]
    assert forward == [digest(case) for case in _free(op, 8)]
    assert len(set(forward)) == len(forward)


@pytest.mark.parametrize("op", OPS)
def test_positional_arguments_are_a_prefix_and_left_out_ones_have_defaults(op: str):
    declaration = DECLARATIONS[op]
    names = [p.name for p in declaration.parameters]
    for case in _free(op):
        given = [a.name for a in case.arguments]
        positional = [a.name for a in case.arguments if not a.keyword]
        assert positional == names[: len(positional)] == given[: len(positional)]
        assert given == sorted(given, key=names.index)
        for spec in declaration.parameters:
            assert spec.name in given or spec.default is not REQUIRED


@pytest.mark.parametrize("op", OPS)
def test_calls_come_in_every_form(op: str):
    forms = [case.form for case in _free(op)]
    names = {p.name for p in DECLARATIONS[op].parameters}
    assert () in [form.keywords for form in forms]
    assert any(set(form.keywords) == names for form in forms)
    overloads = {form.overload for form in forms}
    donating = {"maybe_inplace"} if DECLARATIONS[op].allow_inplace else set()
    assert overloads == {"default"} | donating


def _layouts(case: OpCase) -> set[str]:
    """Which kinds of layout the case's first activation has, and whether memory is shared."""
    view = case.views()[DECLARATIONS[case.op].dtype_parameter]
    sized = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1]
    strides = [s for _, s in sized]
    found = set()
    if view.numel > 1:
        if 0 in strides:
            found.add("expanded")
        elif is_self_overlapping(view):
            found.add("overlapping")
        elif strides != sorted(strides, reverse=True):
            found.add("transposed")
        elif strides and strides[-1] > 1 and len(strides) == len(view.shape):
            found.add("stepped")
        elif len(touched_elements(view)) < view.extent - view.offset:
            found.add("padded")
        elif view.is_contiguous:
            found.add("contiguous")
        if view.offset:
            found.add("offset")
        if case.storages[view.storage].numel > view.extent:
            found.add("canaries after")
    if len(case.storages) < len(case.views()):
        found.add("shared")
    return found


@pytest.mark.parametrize("op", OPS)
def test_layouts_of_every_kind_occur(op: str):
    seen = Counter(kind for case in _free(op) for kind in _layouts(case))
    wanted = {"contiguous", "transposed", "padded", "stepped", "expanded", "overlapping"}
    wanted |= {"offset", "canaries after"}
    if sum(spec.activation for spec in DECLARATIONS[op].tensors) > 1:
        wanted.add("shared")
    assert wanted <= set(seen), seen


def test_sharing_covers_the_same_tensor_twice_packed_rows_and_rows_of_another():
    same = packed = weights = 0
    for case in _free("fused_add_rms_norm"):
        views = case.views()
        x, residual, weight = (views.get(n) for n in ("x", "x_residual", "weight"))
        assert x is not None
        assert residual is not None
        same += x == residual
        if x.storage == residual.storage and x.numel and x != residual:
            shared = set(touched_elements(x).tolist()) & set(touched_elements(residual).tolist())
            packed += not shared
        weights += weight is not None and weight.storage == x.storage
    assert same > 2
    assert packed > 2
    assert weights > 2


def test_query_and_key_are_column_slices_of_one_row_buffer():
    found = [
        case
        for case in _free("rotary_embedding")
        if (views := case.views()).keys() >= {"x_query", "x_key"}
        and views["x_query"].storage == views["x_key"].storage
        and views["x_query"].strides[0] == views["x_key"].strides[0]
        and views["x_query"].shape[0] > 1
    ]
    assert {case.overload for case in found} == {"default", "maybe_inplace"}


@pytest.mark.parametrize("op", OPS)
def test_scalars_are_samples_and_sometimes_doubles_that_fp32_cannot_hold(op: str):
    for spec in DECLARATIONS[op].scalars:
        values = [v for case in _free(op) if (v := case.plain().get(spec.name)) is not None]
        if spec.kind == "float":
            assert set(spec.samples) <= set(values)
            drawn = [v for v in values if v not in spec.samples and isinstance(v, float)]
            assert len(drawn) > 5
            assert any(float(np.float32(v)) != v for v in drawn)
        elif spec.choices:
            assert set(values) == set(spec.choices)
        elif spec.kind == "bool":
            assert set(values) == {False, True}
        else:
            assert len(set(values)) > 3


@pytest.mark.parametrize("op", OPS)
def test_token_counts_and_widths_reach_the_edges(op: str):
    declaration = DECLARATIONS[op]
    bindings = [b for case in _free(op) if isinstance(b := declaration.bind(case), Binding)]
    tokens = {
        b.sizes["n"] if "n" in b.sizes else b.batch[0]
        for b in bindings
        if b.batch or "n" in b.sizes
    }
    few = any(dim.few for dim in declaration.dims)
    assert ({0, 1, 2, 3, 5} if few else {0, 1, 2, 3, 5, 7, 8, 16, 33}) <= tokens
    if "d" in bindings[0].sizes:
        assert {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33} <= {b.sizes["d"] for b in bindings}


@pytest.mark.parametrize("op", OPS)
def test_literal_contents_occur_and_special_values_among_them(op: str):
    literal = [s for case in _free(op) for s in case.storages if isinstance(s.content, bytes)]
    assert len(literal) > 5
    values = np.concatenate([decode(s.array(), s.dtype) for s in literal])
    assert np.isnan(values).any()
    assert np.isinf(values).any()
    assert (np.signbit(values) & (values == 0)).any()


def _signatures(op: str) -> list[Signature]:
    return [s for t in FLOATS for s in fixed_signatures(DECLARATIONS[op], t)]


@pytest.mark.parametrize("op", OPS)
def test_fixed_signatures_are_few_and_cover_every_option(op: str):
    declaration = DECLARATIONS[op]
    signatures = _signatures(op)
    assert len(signatures) == 6
    assert len(set(signatures)) == 6
    assert [s.rank for s in signatures].count(3) == (6 if declaration.ranks == (3, 3) else 1)
    for spec in declaration.tensors:
        if spec.optional:
            assert {spec.name in s.present for s in signatures} == {False, True}
        if spec.name != declaration.dtype_parameter and "float16" in spec.dtypes:
            mixed = {
                dict(s.dtypes)[spec.name] == s.dtype for s in signatures if spec.name in s.present
            }
            assert mixed == {False, True}
    for spec in declaration.scalars:
        values = {dict(s.scalars)[spec.name] for s in signatures}
        if spec.kind == "bool":
            assert values == {False, True}
        if spec.choices:
            assert values == set(spec.choices)
        if spec.optional:
            assert None in values
            assert len(values) > 1
    widths = {dict(s.sizes).get("d", dict(s.sizes).get("group_size", 0)) for s in signatures}
    if {"d", "group_size"} & {dim.name for dim in declaration.dims}:
        assert any(w % 8 == 0 for w in widths)
        assert any(w % 2 for w in widths)


@pytest.mark.parametrize("op", OPS)
def test_a_fixed_signature_varies_tokens_and_values_alone(op: str):
    declaration = DECLARATIONS[op]
    for signature in _signatures(op):
        cases = _cases(op, signature, 24)
        classes = set()
        for case in cases:
            binding = declaration.bind(case)
            assert isinstance(binding, Binding)
            assert all(view.is_contiguous and not view.offset for view in case.views().values())
            assert len(case.storages) == len(case.views())
            arguments = tuple(
                (a.name, a.keyword, case.dtype_of(a.name), len(getattr(a.value, "shape", ())))
                for a in case.arguments
            )
            sizes = {k: v for k, v in binding.sizes.items() if k != "n"}
            assert sizes == {k: dict(signature.sizes).get(k, v) for k, v in sizes.items()}
            classes.add(
                (arguments, tuple(case.plain().items()), tuple(sizes.items()), binding.batch[1:])
            )
        assert len(classes) == 1
        assert len({digest(case) for case in cases}) == len(cases)


def _is_rich(storage: Storage) -> bool:
    if isinstance(storage.content, Fill):
        return storage.content.pattern in RICH
    # One special number among others, or NaN in rows that nobody has: the rest was drawn as a
    # fill, and the only one that is not rich holds 0, 1 and -1.
    values = decode(storage.array(), storage.dtype)
    return len(np.unique(values[np.isfinite(values)])) > 4


@pytest.mark.parametrize("op", OPS)
def test_most_cases_of_a_fixed_signature_have_tokens_and_rich_values(op: str):
    declaration = DECLARATIONS[op]
    cached = any(spec.content == "cache" for spec in declaration.tensors)
    for signature in _signatures(op):
        good = 0
        for case in _cases(op, signature, 120):
            views = case.views()
            lead = views[declaration.dtype_parameter]
            content = case.storages[lead.storage].content
            rich = isinstance(content, Fill) and content.pattern in RICH
            if cached:
                named = (lead, views["kv_cache"])
                rich = all(_is_rich(case.storages[view.storage]) for view in named)
            good += lead.numel > 0 and rich
        # One in 12 cases has no tokens, one in 10 plain values: a case is good with a chance of
        # 0.825, and each of the 72 signatures has fewer than 84 of 120 with one of 0.03 %. Where
        # query and cache count both, in one case of 15 all of the cache is NaN and one in 16 has
        # no sequence, it is 0.71, and 68 have the same chance.
        assert good >= (68 if cached else 84)


def test_a_free_signature_leaves_everything_open():
    signature = free_signature(DECLARATIONS["rms_norm"], "bfloat16")
    assert signature == replace(signature, fixed=False, rank=None, sizes=(), scalars=())
    shapes = {len(case.views()["x"].shape) for case in _cases("rms_norm", signature, 80)}
    assert shapes == {1, 2, 3, 4}
