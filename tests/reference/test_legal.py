"""The declarations of the ops hang together: names, defaults and outputs refer to what exists."""

import pytest

from reference.declaration import REQUIRED, OpDeclaration, ScalarSpec, TensorSpec
from reference.dtypes import FORMATS
from reference.legal import DECLARATIONS
from reference.model import PATTERNS

ALL = list(DECLARATIONS.values())
by_op = pytest.mark.parametrize("declaration", ALL, ids=lambda d: d.op)


def test_every_op_is_declared_under_its_own_name():
    assert set(DECLARATIONS) == {
        "rms_norm", "fused_add_rms_norm", "gelu_and_mul_sparse", "silu_and_mul", "gelu_and_mul",
        "rotary_embedding", "static_quant_fp8", "dynamic_per_token_quant_fp8",
        "per_token_group_quant_fp8", "quant_fp8_delayed", "reshape_and_cache",
        "paged_decode_attention",
    }  # fmt: skip
    assert all(op == declaration.op for op, declaration in DECLARATIONS.items())


@by_op
def test_axes_dims_and_scalars_name_each_other(declaration: OpDeclaration):
    names = [p.name for p in declaration.parameters]
    assert len(set(names)) == len(names)
    parts = {
        part
        for spec in declaration.tensors
        for axes in spec.shapes
        for axis in axes
        if axis != "..."
        for part in axis.split("*")
        if not part.isdigit()
    }
    sizes = {dim.name for dim in declaration.dims} | set(declaration.scalar_names)
    assert parts <= sizes
    assert set(declaration.scalar_names.values()) <= {s.name for s in declaration.scalars}
    assert set(declaration.scalar_defaults.values()) <= sizes
    for spec in declaration.scalars:
        assert spec.at_most is None or spec.at_most in sizes
    for spec in declaration.tensors:
        assert spec.index_below is None or spec.index_below in sizes
        assert set(spec.fills) <= set(PATTERNS)
        assert all(d in FORMATS or d[1:] in names for d in spec.dtypes)


@by_op
def test_outputs_name_inputs_that_exist(declaration: OpDeclaration):
    names = {spec.name for spec in declaration.tensors}
    for output in declaration.outputs:
        assert output.dtype in FORMATS or output.dtype[1:] in names
        assert not isinstance(output.shape, str) or output.shape[1:] in names
        assert output.layout in ("contiguous", "swapped") or output.layout[5:] in names
        assert output.may_alias is None or output.may_alias in declaration.activations
        assert output.empty_without is None or output.empty_without in names
        flags = {spec.name for spec in declaration.scalars if spec.kind == "bool"}
        assert output.swapped_if is None or output.swapped_if in flags
    assert declaration.allow_inplace == any(o.may_alias for o in declaration.outputs)


@by_op
def test_parameters_with_defaults_come_last_and_their_samples_are_legal(declaration: OpDeclaration):
    defaults = [spec.default is not REQUIRED for spec in declaration.parameters]
    assert defaults == sorted(defaults)
    for spec in declaration.parameters:
        if isinstance(spec, ScalarSpec):
            for sample in spec.samples:
                assert isinstance(sample, float)
                assert spec.minimum is None or sample >= spec.minimum
            assert spec.default in (REQUIRED, None, False, *spec.choices)


def test_optional_weights_must_be_given_as_none():
    weight = DECLARATIONS["rms_norm"].parameter("weight")
    assert isinstance(weight, TensorSpec)
    assert weight.optional
    assert weight.default is REQUIRED
