"""Sharing of memory is decided as an enumeration of all addresses decides it."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fuzz.profiles import examples
from ir.donation import overlaps_itself, share_memory
from ir.errors import InputError
from ir.op import enable_torch_wrap, register_op

_BUFFER = torch.zeros(400)
_DTYPES = (torch.float32, torch.float16, torch.uint8)


@st.composite
def _views(draw: st.DrawFn) -> Tensor:
    rank = draw(st.integers(0, 3))
    sizes = draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank))
    strides = draw(
        st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 12]), min_size=rank, max_size=rank)
    )
    dtype = draw(st.sampled_from(_DTYPES))
    return _BUFFER.view(dtype).as_strided(sizes, strides, draw(st.integers(0, 24)))


def _addresses(t: Tensor) -> list[int]:
    steps = itertools.product(*(range(n) for n in t.shape))
    return [
        t.data_ptr() + t.element_size() * sum(i * s for i, s in zip(at, t.stride(), strict=True))
        for at in steps
        if t.numel()
    ]


def _bytes(t: Tensor) -> set[int]:
    return {a + i for a in _addresses(t) for i in range(t.element_size())}


@settings(max_examples=examples(1500))
@given(_views())
def test_self_overlap_is_two_elements_at_one_address(t: Tensor) -> None:
    addresses = _addresses(t)
    assert overlaps_itself(t) == (len(set(addresses)) < len(addresses))


@settings(max_examples=examples(1500))
@given(_views(), _views())
def test_sharing_is_one_byte_in_both(a: Tensor, b: Tensor) -> None:
    assert share_memory(a, b) == bool(_bytes(a) & _bytes(b))


def test_column_slices_of_one_projection_share_nothing_at_model_size() -> None:
    qkv = torch.empty(4096, 6144, dtype=torch.bfloat16)
    query, key, value = qkv.split((4096, 1024, 1024), dim=-1)
    assert not share_memory(query, key)
    assert not share_memory(value, key)
    assert share_memory(qkv[:, :4097], key)


def test_storages_over_the_same_bytes_share_memory() -> None:
    a = torch.zeros(8)
    b = torch.from_numpy(a.numpy())
    assert a.untyped_storage()._cdata != b.untyped_storage()._cdata
    assert share_memory(a, b)
    assert not share_memory(a[:4], b[4:])


def _refused() -> dict[str, tuple[tuple[Tensor, Tensor, Tensor], str]]:
    x = torch.zeros(4, 6)
    y, w = torch.zeros(4, 6), torch.zeros(6)
    return {
        "expanded": ((torch.zeros(1, 6).expand(4, 6), y, w), "x is of shape"),
        "overlapping windows": ((torch.zeros(9).as_strided((4, 6), (1, 1)), y, w), "x is of shape"),
        "second overlaps itself": ((y, torch.zeros(1, 6).expand(4, 6), w), "x_b is of shape"),
        "the same twice": ((x, x, w), "x is sharing memory with x_b"),
        "memory of their own": ((x, y, w), ""),
        "weight is a row of x": ((x, y, x[1]), "x is sharing memory with w"),
        "weight is a row of x_b": ((y, x, x[1]), "x_b is sharing memory with w"),
    }


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("fake", [True, False])
def test_donated_aliases_are_refused_in_every_mode(
    wrap: bool, fake: bool, op_name: Callable[[], str]
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    def native(x: Tensor, x_b: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return x + w, x_b + w

    op = register_op(name=op_name(), allow_inplace=True)(native)
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    for args, message in _refused().values():
        if fake:
            with mode:
                args = tuple(mode.from_tensor(a, static_shapes=True) for a in args)
        with enable_torch_wrap(wrap):
            if not message:
                op.maybe_inplace(*args)
                continue
            with pytest.raises(InputError, match=message) as refused:
                op.maybe_inplace(*args)
            assert refused.value.op == f"{op.name}.maybe_inplace"
        # What is not donated may alias.
        op(*args)


def test_neighbours_in_one_storage_may_be_donated(op_name: Callable[[], str]) -> None:
    def native(x: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x_b + 2

    op = register_op(name=op_name(), allow_inplace=True)(native)
    both = torch.zeros(3, 8)
    left, right = op.maybe_inplace(both[:, :4], both[:, 4:])
    assert torch.equal(left, torch.full((3, 4), 1.0))
    assert torch.equal(right, torch.full((3, 4), 2.0))


def test_an_argument_before_the_donated_one_may_not_share_it(op_name: Callable[[], str]) -> None:
    def native(w: Tensor, x: Tensor) -> Tensor:
        return x + w

    op = register_op(name=op_name(), allow_inplace=True)(native)
    x = torch.zeros(4, 6)
    with pytest.raises(InputError, match="x is sharing memory with w"):
        op.maybe_inplace(x[1], x)
    assert torch.equal(op.maybe_inplace(torch.ones(6), x), torch.ones(4, 6))
