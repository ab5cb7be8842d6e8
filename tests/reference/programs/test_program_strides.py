"""Layouts and views follow torch's rules, on shapes and strides of any sort."""

from __future__ import annotations

from itertools import permutations, product

import torch

from fuzz.chooser import SeededChooser
from reference.layout import same_strides
from reference.programs.strides import (
    broadcast_shape,
    elementwise_strides,
    inferred_shape,
    is_contiguous,
    is_dense,
    view_strides,
)


def layouts(chooser: SeededChooser, count: int):
    """Tensors of up to three dimensions: permuted, sliced, expanded, with sizes of 0 and 1."""
    for _ in range(count):
        rank = chooser.integer(0, 3)
        shape = [chooser.choose((0, 1, 1, 2, 2, 3, 4)) for _ in range(rank)]
        order = chooser.choose(list(permutations(range(rank))))
        x = torch.empty([shape[i] * chooser.choose((1, 1, 2)) for i in order])
        x = x.permute([order.index(i) for i in range(rank)])
        for dim in range(rank):
            step = chooser.choose((1, 1, 2)) if x.shape[dim] > shape[dim] else 1
            x = x.narrow(dim, 0, min(x.shape[dim], shape[dim] * step))
            x = x[(slice(None),) * dim + (slice(None, None, step),)]
            if x.shape[dim] == 1 and chooser.chance(0.3):
                x = x.expand([3 if d == dim else -1 for d in range(rank)])
        yield x


def test_contiguous_and_dense_mean_what_torch_means() -> None:
    for x in layouts(SeededChooser(1, "layouts"), 600):
        shape, strides = tuple(x.shape), x.stride()
        assert is_contiguous(shape, strides) == x.is_contiguous()
        dense = torch.ops.aten.is_non_overlapping_and_dense.default(x)
        assert (shape, strides, is_dense(shape, strides)) == (shape, strides, dense)


def test_a_view_exists_where_torch_makes_one() -> None:
    chooser = SeededChooser(2, "views")
    made = refused = 0
    for x in layouts(chooser, 1500):
        for wanted in ((-1,), (x.numel(), 1), (2, -1), (1, -1, 2), tuple(x.shape)[::-1]):
            shape = inferred_shape(wanted, x.numel())
            try:
                expected = x.view(wanted)
            except RuntimeError:
                refused += 1
                found = None if shape is None else view_strides(tuple(x.shape), x.stride(), shape)
                assert (x.shape, x.stride(), wanted, found) == (x.shape, x.stride(), wanted, None)
                continue
            made += 1
            assert shape is not None
            assert shape == tuple(expected.shape)
            strides = view_strides(tuple(x.shape), x.stride(), shape)
            assert strides is not None
            assert same_strides(shape, strides, expected.stride())
    assert min(made, refused) > 1000


def test_pointwise_results_are_laid_out_as_torch_lays_them_out() -> None:
    chooser = SeededChooser(3, "pointwise")
    tensors = list(layouts(chooser, 400))
    decided = 0
    for x in tensors:
        others = [y for y in tensors if y.dim() <= x.dim()]
        for _ in range(4):
            y = chooser.choose(others)
            shape = broadcast_shape([tuple(x.shape), tuple(y.shape)])
            try:
                expected = x + y
            except RuntimeError:
                assert shape is None
                continue
            decided += 1
            found = elementwise_strides(
                tuple(expected.shape),
                [(tuple(x.shape), x.stride()), (tuple(y.shape), y.stride())],
            )
            assert shape is not None
            assert shape == tuple(expected.shape)
            where = (x.shape, x.stride(), y.shape, y.stride(), found)
            assert same_strides(shape, found, expected.stride()), where
    assert decided > 300


def test_one_size_at_most_is_inferred() -> None:
    assert inferred_shape((-1, -1), 4) is None
    assert inferred_shape((-1, 0), 0) is None
    assert inferred_shape((-1, 3), 4) is None
    assert inferred_shape((-2, -2), 4) is None
    assert inferred_shape((-1, 2), 6) == (3, 2)
    assert inferred_shape((), 1) == ()


def test_shapes_broadcast_as_torch_broadcasts_them() -> None:
    sizes = [s for n in range(3) for s in product((1, 2, 3), repeat=n)]
    for a, b in product(sizes, sizes):
        try:
            expected = tuple(torch.broadcast_shapes(a, b))
        except RuntimeError:
            expected = None
        assert (a, b, broadcast_shape([a, b])) == (a, b, expected)
