"""Clones go where nobody can tell, and stay, with the reason, where somebody could."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator

from ir.compilation.clones import eliminate_clones

aten = torch.ops.aten


def x_of() -> Tensor:
    return torch.arange(8.0).view(2, 4)


def tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def observe(f: Callable[..., Any], *args: Tensor) -> tuple[Any, ...]:
    """Outputs, strides and offsets, arguments after the call, and who shares memory."""
    outputs = tensors(f(*args))
    storages = [t.untyped_storage().data_ptr() for t in (*outputs, *args)]
    return (
        [t.tolist() for t in outputs],
        [(t.stride(), t.storage_offset()) for t in outputs],
        [t.tolist() for t in args],
        [storages.index(s) for s in storages],
    )


def check(
    traced: Any, run: Any, f: Callable[..., Any], *args: Tensor, donated: tuple[int, ...] = ()
) -> Any:
    graph = traced(f, *args)
    want = observe(f, *[a.clone() for a in args])
    done = eliminate_clones(graph.graph, donated=donated)
    check_values(graph.graph)
    got = observe(lambda *a: run(graph, *a), *[a.clone() for a in args])
    if donated:
        assert got[0] == want[0]
    else:
        assert got == want
    return done


def check_values(graph: fx.Graph) -> None:
    """Each node's value is that of a fake run anew, and as many values share each storage."""
    made: dict[fx.Node, Any] = {}
    of: dict[int, int] = {}
    back: dict[int, int] = {}
    for node in graph.nodes:
        told = node.meta.get("val")
        if node.op == "output":
            continue
        if node.op != "call_function" or isinstance(node.target, HigherOrderOperator):
            made[node] = told
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), made.__getitem__)
            with next(iter(graph.nodes)).meta["val"].fake_mode:
                made[node] = node.target(*args, **kwargs)
        if told is None or node.op == "get_attr":
            continue
        for one, other in zip(tensors(told), tensors(made[node]), strict=True):
            assert (one.stride(), one.storage_offset()) == (other.stride(), other.storage_offset())
            a, b = one.untyped_storage()._cdata, other.untyped_storage()._cdata
            assert of.setdefault(a, b) == b, node.name
            assert back.setdefault(b, a) == a, node.name


def input_clone_written_through_a_view(x: Tensor) -> Any:
    c = x.clone()
    c.view(-1).add_(1)
    return x + c


def input_written_after_its_clone(x: Tensor) -> Any:
    c = x.clone()
    x.add_(1)
    return c * 2


def input_written_through_a_view_after_its_clone(x: Tensor) -> Any:
    c = x.clone()
    x[0].add_(1)
    return c * 2


def view_of_the_original_read_later(x: Tensor) -> Any:
    v = x.view(-1)
    c = x.clone()
    c.add_(1)
    return v * 2, c


def clone_written_by_out(x: Tensor) -> Any:
    c = x.clone()
    torch.add(x, 1, out=c)
    return x, c * 1


def view_of_an_input_clone_written(x: Tensor) -> Any:
    c = x.clone()
    c[0].add_(1)
    return c * 1


def view_of_a_temporary_read_later(x: Tensor) -> Any:
    y = x * 2
    v = y.view(-1)
    c = y.clone()
    c.add_(1)
    return v + c.view(-1)


def temporary_clone_written_by_out(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    torch.add(y, 1, out=c)
    return y + c


def temporary_written_through_a_view(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    y[0].add_(1)
    return c * y


def list_argument_written(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    aten._foreach_add_.Scalar([c], 1.0)
    return y + c


def original_in_a_list_written(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    aten._foreach_add_.Scalar([y], 1.0)
    return y + c


def both_given_to_a_product(x: Tensor) -> Any:
    y = x[:, :2] * 2
    c = y.clone()
    torch.mm(y, y, out=c)
    return c * 1


def shifted_by_itself(x: Tensor) -> Any:
    y = x.view(-1) * 2
    c = y.clone()
    c[1:].add_(y[:-1])
    return c * 1


def interleaved_columns_that_meet(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c[:, 1:3].add_(1)
    return c * 2, y[:, 2:] + 1


def overwritten_in_part(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c.add_(1)
    z = c * 2
    y[:, :3].fill_(0)
    return z, y + 1


def copied_back_and_read_between(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c.add_(1)
    z = y + 1
    y.copy_(c)
    return z, y * 2


def copied_back_shifted(x: Tensor) -> Any:
    y = x.view(-1) * 2
    c = y.clone()
    c.add_(1)
    y[1:].copy_(c[:-1])
    return y * 2


def input_half_overwritten_at_the_end(x: Tensor) -> Any:
    c = x.clone()
    c.add_(1)
    z = c * 2
    x[0].fill_(0)
    return z


def input_returned(x: Tensor) -> Any:
    return x.clone()


def view_of_an_input_clone_returned(x: Tensor) -> Any:
    return x.clone().view(-1)


def two_outputs(x: Tensor) -> Any:
    y = x * 2
    return y, y.clone()


def two_clones_returned(x: Tensor) -> Any:
    y = x * 2
    return y.clone(), y.clone()


def row_returned(x: Tensor) -> Any:
    return (x * 2)[1:].clone()


def layout_changed(x: Tensor) -> Any:
    return (x * 2).t().clone(memory_format=torch.contiguous_format) * 1


def places_by_number(x: Tensor) -> Any:
    c = (x * 2)[1:].clone()
    return c.as_strided((2,), (1,), 0) + 1


def item_of_a_split_written(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    a, b = c.split(2, dim=1)
    a.add_(1)
    return b * y[:, 2:] + a * y[:, :2]


def higher_order_write(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    z = torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (c,))
    return z + y


KEPT = [
    (input_clone_written_through_a_view, "original-used-after-write"),
    (input_written_after_its_clone, "original-written-before-use"),
    (input_written_through_a_view_after_its_clone, "original-written-before-use"),
    (view_of_the_original_read_later, "output-aliases-input"),
    (clone_written_by_out, "original-used-after-write"),
    (view_of_an_input_clone_written, "input-written"),
    (view_of_a_temporary_read_later, "original-used-after-write"),
    (temporary_clone_written_by_out, "original-used-after-write"),
    (temporary_written_through_a_view, "original-written-before-use"),
    (list_argument_written, "original-used-after-write"),
    (original_in_a_list_written, "original-written-before-use"),
    (both_given_to_a_product, "original-used-after-write"),
    (shifted_by_itself, "original-used-after-write"),
    (interleaved_columns_that_meet, "original-used-after-write"),
    (overwritten_in_part, "original-used-after-write"),
    (copied_back_and_read_between, "original-used-after-write"),
    (copied_back_shifted, "original-used-after-write"),
    (input_half_overwritten_at_the_end, "input-written"),
    (input_returned, "output-aliases-input"),
    (view_of_an_input_clone_returned, "output-aliases-input"),
    (two_outputs, "outputs-alias"),
    (row_returned, "output-offset"),
    (layout_changed, "layout"),
    (places_by_number, "places-by-number"),
    (item_of_a_split_written, "original-used-after-write"),
    (higher_order_write, "unknown-access"),
]


@pytest.mark.parametrize(("f", "reason"), [pytest.param(f, r, id=f.__name__) for f, r in KEPT])
def test_a_clone_that_somebody_could_tell_is_kept(traced, run, f, reason: str):
    done = check(traced, run, f, x_of())
    assert done.removed == ()
    assert [k.reason for k in done.kept] == [reason]


def written_and_original_dead(x: Tensor) -> Any:
    c = (x * 2).clone()
    c.add_(1)
    return c * 3


def chain_with_views(x: Tensor) -> Any:
    d = (x * 2).clone().clone()
    d[0].add_(1)
    return d.view(-1) * 3


def disjoint_rows(x: Tensor) -> Any:
    y = x * 2
    a = y[0].clone()
    a.add_(1)
    b = y[1].clone()
    b.mul_(3)
    return a * b


def row_with_a_view(x: Tensor) -> Any:
    w = (x * 2)[1:].clone().view(-1)
    w.add_(1)
    return w + 2


def input_only_read(x: Tensor) -> Any:
    return x.clone() + 1


def original_written_before(x: Tensor) -> Any:
    y = x * 2
    y.add_(1)
    return y.clone() * 2


def temporary_returned(x: Tensor) -> Any:
    return (x * 2).clone()


def dead(x: Tensor) -> Any:
    x.clone().clone()
    return x + 1


def both_given_to_one_sum(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c.add_(y)
    return c * 1


def interleaved_columns(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c[:, 1:3].add_(1)
    z = y[:, 3:] + y[:, :1]
    return z, c[:, 1:3] * 2


def columns_of_both_written(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c[:, ::2].add_(1)
    y[:, 1::2].mul_(3)
    return c[:, ::2] * 2, y[:, 1::2] * 2


def overwritten_unread(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c.add_(1)
    z = c * 2
    torch.add(z, 1, out=y)
    return z, y * 2


def view_overwritten_unread(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c[:, :2].add_(1)
    z = c[:, :2] * 2
    y[:, :3].fill_(0)
    return z, y + 1


def copied_back(x: Tensor) -> Any:
    y = x * 2
    c = y.clone()
    c.add_(1)
    y.copy_(c)
    c.mul_(2)
    y.copy_(c)
    return y + 1, c * 2


def input_copied_back(x: Tensor) -> Any:
    c = x.clone()
    c.add_(1)
    x.copy_(c)
    return c * 2


def input_overwritten_at_the_end(x: Tensor) -> Any:
    c = x.clone()
    c.add_(1)
    z = c * 2
    x.copy_(z)
    return z


def clone_of_what_might_have_been_a_view(x: Tensor) -> Any:
    flat = x.t().clone().reshape(-1)
    c = flat.clone()
    v = c.view(2, 4)
    torch.add(flat, 1, out=c)
    return v * 2


def clone_of_a_view_of_a_clone(x: Tensor) -> Any:
    c = (x * 2).clone()[1].clone()
    v = c.view(2, 2)
    return v * 2, c.add_(1) * 2


def clone_split_beside_a_view(x: Tensor) -> Any:
    y = x * 2
    v = y.view(-1)
    a, b = y.clone().split(2, dim=1)
    return a * b + v[0]


def clone_of_one_of_two_results(x: Tensor) -> Any:
    _, high = torch.aminmax(x, dim=0, keepdim=True)
    c = high.clone()
    return c[:, :2], torch.minimum(high, c)


REMOVED = [
    (both_given_to_one_sum, 1),
    (interleaved_columns, 1),
    (columns_of_both_written, 1),
    (overwritten_unread, 1),
    (view_overwritten_unread, 1),
    (copied_back, 1),
    (input_copied_back, 1),
    (input_overwritten_at_the_end, 1),
    (written_and_original_dead, 1),
    (chain_with_views, 2),
    (disjoint_rows, 2),
    (row_with_a_view, 1),
    (clone_of_a_view_of_a_clone, 2),
    (clone_split_beside_a_view, 1),
    (clone_of_one_of_two_results, 1),
    (input_only_read, 1),
    (original_written_before, 1),
    (temporary_returned, 1),
    (dead, 2),
]


@pytest.mark.parametrize(("f", "count"), [pytest.param(f, n, id=f.__name__) for f, n in REMOVED])
def test_a_clone_that_nobody_can_tell_goes(traced, run, f, count: int):
    done = check(traced, run, f, x_of())
    assert (len(done.removed), done.kept) == (count, ())


def test_one_of_two_returned_clones_goes(traced, run):
    done = check(traced, run, two_clones_returned, x_of())
    assert (len(done.removed), [k.reason for k in done.kept]) == (1, ["outputs-alias"])


def test_where_a_removed_clone_lies_counts_for_the_next(traced, run):
    def f(x: Tensor) -> Any:
        c = (x * 2)[1].clone().clone()
        c.add_(1)
        return c.clone()

    done = check(traced, run, f, x_of())
    assert (len(done.removed), [k.reason for k in done.kept]) == (2, ["output-offset"])


def test_the_clone_of_a_donated_input_goes_once(traced, run):
    assert check(traced, run, view_of_an_input_clone_written, x_of(), donated=(0,)).kept == ()

    def returned_twice(x: Tensor) -> Any:
        a = x.clone()
        return a, x.clone()

    done = check(traced, run, returned_twice, x_of(), donated=(0,))
    assert (len(done.removed), [k.reason for k in done.kept]) == (1, ["outputs-alias"])


def test_another_input_that_is_written_may_be_the_same_tensor(traced, run):
    def f(x: Tensor, y: Tensor) -> Any:
        c = x.clone()
        y.add_(1)
        return c * 2

    graph = traced(f, x_of(), x_of())
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["an-input-is-written"]
    x, both = x_of(), x_of()
    assert torch.equal(run(graph, both, both), x * 2)


@pytest.mark.parametrize("which", [0, 1])
def test_missing_metadata_keeps_a_clone(traced, which: int):
    graph = traced(written_and_original_dead, x_of())
    nodes = [n for n in graph.graph.nodes if n.op == "call_function"]
    del nodes[which].meta["val"]
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["missing-metadata"]


def test_an_unknown_function_keeps_a_clone(traced):
    graph = traced(written_and_original_dead, x_of())
    clone = next(n for n in graph.graph.nodes if n.target is aten.clone.default)
    with graph.graph.inserting_after(clone):
        graph.graph.call_function(print, (clone,))
    assert [k.reason for k in eliminate_clones(graph.graph).kept] == ["unknown-access"]


@pytest.mark.parametrize("read_later", [False, True])
def test_a_kernel_writes_the_storages_it_is_given(traced, read_later: bool):
    from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_mutation

    def f(x: Tensor) -> Any:
        y = x * 2
        c = y.clone()
        return (c + 1, y + 1) if read_later else c + 1

    graph = traced(f, x_of()).graph
    clone = next(n for n in graph.nodes if n.target is aten.clone.default)
    with graph.inserting_after(clone):
        graph.call_function(triton_kernel_wrapper_mutation, kwargs={"kwargs": {"out": clone}})
    done = eliminate_clones(graph)
    kept = ["original-used-after-write"] if read_later else []
    assert [k.reason for k in done.kept] == kept


@pytest.mark.parametrize("further", [0, 2])
def test_a_kernel_is_given_a_donated_input_where_it_begins(traced, further: int):
    from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_mutation

    graph = traced(lambda x: x[further:].clone() + 1, torch.arange(6.0)).graph
    clone = next(n for n in graph.nodes if n.target is aten.clone.default)
    with graph.inserting_after(clone):
        graph.call_function(triton_kernel_wrapper_mutation, kwargs={"kwargs": {"out": clone}})
    done = eliminate_clones(graph, donated=(0,))
    # Behind the beginning of a view a kernel reaches what is not there before that of a clone.
    assert [k.reason for k in done.kept] == (["places-by-number"] if further else [])


def test_a_view_of_a_clone_of_a_copy_lies_in_the_copy(traced, run):
    done = check(traced, run, clone_of_what_might_have_been_a_view, x_of())
    assert (len(done.removed), [k.reason for k in done.kept]) == (2, ["layout"])


@pytest.mark.parametrize(
    ("op", "source"),
    [
        ("slice_scatter", lambda c: (c * 2,)),
        ("select_scatter", lambda c: (c[0] * 2, 0, 0)),
        ("diagonal_scatter", lambda c: (c.diagonal() * 2,)),
        ("copy", lambda c: (c * 2,)),
        ("_foreach_copy", lambda c: ([c * 2],)),
    ],
)
def test_what_begins_where_its_argument_does_keeps_the_clone(traced, run, op: str, source):
    def f(x: Tensor) -> Any:
        c = x[1:].clone()
        listed = op.startswith("_foreach")
        found = getattr(aten, op)([c] if listed else c, *source(c))
        return found[0] if listed else found

    done = check(traced, run, f, torch.arange(12.0).view(3, 4))
    assert [k.reason for k in done.kept] == ["places-by-number"]


def test_a_copy_whose_place_nobody_sees_keeps_no_clone(traced, run):
    done = check(traced, run, lambda x: aten.copy(x.clone(), x * 2) + 1, x_of())
    assert (len(done.removed), done.kept) == (1, ())
    done = check(traced, run, lambda x: aten.copy(x.clone(), x * 2), x_of())
    assert [k.reason for k in done.kept] == ["places-by-number"]


def by_number(x: Tensor) -> Tensor:
    return aten.as_strided_copy(x, (2,), (1,), 0)


BEGUN_ELSEWHERE: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: by_number(x.clone()),
    lambda x: aten.copy(x.clone(), x * 2),
    lambda x: aten.copy(x.clone(), x * 2).clone(),
    lambda x: by_number(aten.copy(x.clone(), x * 2).clone()),
    lambda x: by_number(aten.copy(x, x * 2).clone()),
    lambda x: aten.copy(aten.copy(x.clone(), x * 2).clone(), x * 3),
    lambda x: aten._foreach_copy([x.clone()], [x * 2])[0].clone(),
    lambda x: torch.ops.prims.as_strided_scatter(x.clone(), x[:2] * 2, (2,), (1,), 0),
)


@pytest.mark.parametrize("number", range(len(BEGUN_ELSEWHERE)))
@pytest.mark.parametrize("donated", [(), (0,)])
def test_the_next_input_may_begin_elsewhere(traced, run, number: int, donated: tuple[int, ...]):
    f, base = BEGUN_ELSEWHERE[number], torch.arange(11.0)
    graph = traced(f, base[0:6])
    eliminate_clones(graph.graph, donated=donated)
    got, wanted = run(graph, base.clone()[3:9]), f(base[3:9])
    assert got.tolist() == wanted.tolist()
    if not donated:
        assert got.storage_offset() == wanted.storage_offset()


def test_what_an_unknown_function_makes_of_a_copy_is_not_known(traced):
    graph = traced(lambda x: aten.copy(x.clone(), x * 2) + 1, torch.arange(6.0))
    (copy,) = graph.graph.find_nodes(op="call_function", target=aten.copy.default)
    with graph.graph.inserting_after(copy):
        graph.graph.call_function(len, (copy,))
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["places-by-number"]


def test_what_may_be_old_and_has_no_value_may_lie_in_its_arguments(traced):
    def f(x: Tensor) -> Any:
        y = x * 2
        u = aten._unsafe_view(y, [6])
        c = y.clone()
        u.add_(1)
        return c + 0, u + 0

    graph = traced(f, torch.arange(6.0))
    (node,) = graph.graph.find_nodes(op="call_function", target=aten._unsafe_view.default)
    del node.meta["val"]
    assert [k.reason for k in eliminate_clones(graph.graph).kept] == ["unknown-access"]


def test_a_copy_carries_what_its_elements_leave_out(traced, run):
    def f(x: Tensor) -> Any:
        y = x * 2
        c = y.clone()
        y[4:].add_(100)
        return aten.as_strided(aten.copy(c[:2], x[:2] * 3), (6,), (1,), 0) + 0, y + 0

    check(traced, run, f, torch.arange(6.0))


def test_the_clone_of_a_copy_with_a_view_goes(traced, run):
    def f(x: Tensor) -> Any:
        return aten.copy(x * 2, x * 3).clone().view(-1) + 1

    done = check(traced, run, f, x_of())
    assert (len(done.removed), done.kept) == (1, ())


def test_a_copy_of_what_begins_anywhere_does_too(traced, run):
    def f(x: Tensor) -> Any:
        return aten.copy(aten.slice_scatter(x[1:], x[1:] * 2), x[1:] * 3).clone()

    graph = traced(f, torch.arange(12.0).view(3, 4))
    (node,) = graph.graph.find_nodes(op="call_function", target=aten.copy.default)
    value = node.meta["val"]
    with value.fake_mode:
        node.meta["val"] = torch.empty_strided(value.shape, value.stride())
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["output-offset"]
    assert run(graph, torch.arange(12.0).view(3, 4)).storage_offset() == 0


def test_where_the_source_of_a_copy_begins_counts_for_nothing(traced, run):
    def f(x: Tensor) -> Any:
        return aten.copy(torch.zeros(2, 4), x[1:].clone())

    done = check(traced, run, f, torch.arange(12.0).view(3, 4))
    assert (len(done.removed), done.kept) == (1, ())


@pytest.mark.parametrize("name", ["_unsafe_view", "conj_physical", "atleast_1d"])
def test_what_is_new_by_its_schema_alone_shares_memory(traced, run, name: str):
    def f(x: Tensor) -> Any:
        y = x * 2
        c = aten._unsafe_view(y, [2, 3]).clone()
        c.add_(1)
        return y + 0, c

    graph = traced(f, torch.arange(6.0).view(2, 3))
    (node,) = graph.graph.find_nodes(op="call_function", target=aten._unsafe_view.default)
    if name != "_unsafe_view":
        # Composites are not traced.
        node.target, node.args = getattr(aten, name).default, node.args[:1]
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["original-used-after-write"]
    y, c = run(graph, torch.arange(6.0).view(2, 3))
    assert (y + 1).tolist() == c.tolist()


def test_symbolic_sizes_are_compared_without_a_guard(traced, run):
    graph = traced(chain_with_views, x_of(), dynamic=True)
    env = next(iter(graph.graph.nodes)).meta["val"].fake_mode.shape_env
    before = len(env.guards)
    done = eliminate_clones(graph.graph)
    assert len(done.removed) == 2
    assert len(env.guards) == before
    x = torch.arange(15.0).view(5, 3)
    assert torch.equal(run(graph, x), chain_with_views(x))


def random_program(seed: int) -> Callable[..., Any]:
    """Clones, views, writes and reads in an order that the seed decides."""

    def f(x: Tensor, y: Tensor) -> Any:
        pick = random.Random(seed).randrange

        live = [x, y, x * 2]
        for _ in range(9):
            t = live[pick(len(live))]
            kind = pick(9)
            if kind <= 2:
                live.append(t.clone())
            elif kind == 3:
                t.add_(1)
            elif kind == 4 and t.dim() == 2:
                live.append(t[pick(t.shape[0])])
            elif kind == 5 and t.is_contiguous():
                live.append(t.view(-1))
            elif kind == 6:
                live.append(t + 1)
            elif kind == 7:
                torch.mul(t, 2, out=t)
            else:
                t.copy_(t.clone() * 3)
        chosen = [live[pick(len(live))] for _ in range(2)]
        return tuple(t * 1 if pick(2) else t for t in chosen)

    return f


@pytest.mark.parametrize("told", [0, 4])
def test_where_a_scatter_begins_is_not_taken_from_its_value(traced, run, told: int):
    """Fake ones begin at 0 or where real ones do, as the graph was made."""

    def f(x: Tensor) -> Any:
        y = aten.slice_scatter(x[1:], x[1:] * 2)
        return y.clone()

    graph = traced(f, torch.arange(12.0).view(3, 4))
    (node,) = graph.graph.find_nodes(op="call_function", target=aten.slice_scatter.default)
    value = node.meta["val"]
    with value.fake_mode:
        node.meta["val"] = torch.empty(12).as_strided(value.shape, value.stride(), told)
    done = eliminate_clones(graph.graph)
    assert [k.reason for k in done.kept] == ["output-offset"]
    assert run(graph, torch.arange(12.0).view(3, 4)).storage_offset() == 0


@pytest.mark.parametrize("block", range(4))
def test_random_programs_cannot_tell(traced, block: int):
    removed = 0
    for seed in range(block * 60, block * 60 + 60):
        f = random_program(seed)
        graph = traced(f, x_of(), x_of() + 9)
        twin = traced(f, x_of(), x_of() + 9)
        removed += len(eliminate_clones(graph.graph).removed)
        check_values(graph.graph)
        for same in (False, True):
            found = []
            for program in (graph, twin):
                x = x_of()
                program.recompile()
                found.append(observe(program, x, x if same else x_of() + 9))
            assert found[0] == found[1], seed
    assert removed > 40
