"""What cannot be repeated is refused when it is captured, with the reason."""

import copy
import ctypes
import pickle
import random
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ir.capture import REASONS, CaptureRefused, capture
from ir.op import register_op


class Owner:
    """Memory that outlives a call, and views of it that dispatch never sees."""

    def __init__(self) -> None:
        self.workspace = torch.zeros(16)
        self.buffer = torch.ones(4)
        self.other = torch.zeros(4)
        self.small = torch.zeros(2)
        self.kept: list[Tensor] = []
        self.storage = self.workspace.untyped_storage()
        self.array = self.buffer.numpy()
        self.address = self.workspace.data_ptr()
        self.generator = torch.Generator()
        self.flag = torch.tensor(True)
        self.late: Tensor | None = None


def same(a: object, b: Tensor) -> bool:
    return isinstance(a, Tensor) and torch.equal(a, b)


WHOLE = torch.compile(lambda x: x + 1, backend="eager", fullgraph=True)
Body = Callable[[Owner, Tensor], object]
CASES: list[tuple[str, str, Body]] = []


def case(name: str, reason: str) -> Callable[[Body], Body]:
    def add(body: Body) -> Body:
        CASES.append((name, reason, body))
        return body

    return add


case("item", "host-sync")(lambda o, x: x * x.sum().item())
case("bool", "host-sync")(lambda o, x: x + 1 if x.sum() > 0 else x)
case("int", "host-sync")(lambda o, x: x[int(x[0])])
case("float", "host-sync")(lambda o, x: x * float(x[0]))
case("index", "host-sync")(lambda o, x: [1, 2, 3, 4][x[0].long()] + x)
case("tolist", "host-sync")(lambda o, x: x * x.tolist()[0])
case("numpy", "host-sync")(lambda o, x: x * x.numpy()[0])
case("asarray", "host-sync")(lambda o, x: x * float(np.asarray(x)[0]))
case("repr", "host-sync")(lambda o, x: (repr(x), x)[1] + 1)
case("format", "host-sync")(lambda o, x: (f"{x[0]:.1f}", x)[1] + 1)
case("from-dlpack", "host-sync")(lambda o, x: torch.from_dlpack(x) + 1)
case("to-dlpack", "host-sync")(lambda o, x: (torch.to_dlpack(x), x)[1] + 1)
case("data-ptr", "host-sync")(lambda o, x: x + x.data_ptr())
case("storage-data-ptr", "host-sync")(lambda o, x: x + o.storage.data_ptr())
case("untyped-storage", "host-sync")(lambda o, x: x + bytes(x.untyped_storage())[0])
case("equal", "host-sync")(lambda o, x: x * torch.equal(x, x))
case("allclose", "host-sync")(lambda o, x: x * torch.allclose(x, x))
case("in", "host-sync")(lambda o, x: x * (1.0 in x))
case("cpu", "host-sync")(lambda o, x: x.cpu() + 1)
case("pickle", "host-sync")(lambda o, x: (pickle.dumps(x), x)[1] + 1)
case("deepcopy", "host-sync")(lambda o, x: copy.deepcopy(x) + 1)
case("item-overload", "host-sync")(lambda o, x: x * torch.ops.aten._local_scalar_dense(x[0]))
case("nonzero", "data-dependent-shape")(lambda o, x: x.nonzero())
case("mask", "data-dependent-shape")(lambda o, x: x[x > 1])
case("masked-select", "data-dependent-shape")(lambda o, x: x.masked_select(x > 1))
case("unique", "data-dependent-shape")(lambda o, x: x.unique())
case("repeats", "data-dependent-shape")(lambda o, x: torch.repeat_interleave(x, x.long()))
case("rand", "unregistered-generator")(lambda o, x: x + torch.rand(4))
case("rand-in-place", "unregistered-generator")(lambda o, x: o.buffer.uniform_() + x)
case("dropout", "unregistered-generator")(lambda o, x: torch.dropout(x, 0.5, True))
case("multinomial", "unregistered-generator")(lambda o, x: torch.multinomial(x + 1, 2))
case("own-generator", "unregistered-generator")(lambda o, x: torch.rand(4, generator=o.generator))
case("manual-seed", "reseeded")(lambda o, x: (torch.manual_seed(3), x)[1] + 1)
case("generator-seed", "reseeded")(lambda o, x: (torch.default_generator.seed(), x)[1] + 1)
case("python-random", "host-randomness")(lambda o, x: x * random.random())
case("numpy-random", "host-randomness")(lambda o, x: x * np.random.rand())
case("clock", "unrepeatable")(lambda o, x: x * time.perf_counter())
case("tensor", "host-data")(lambda o, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]))
case("from-numpy", "host-data")(lambda o, x: x + torch.from_numpy(np.ones(4, np.float32)))
case("resize", "storage-change")(lambda o, x: (o.workspace.resize_(64), x)[1] + 1)
case("storage-resize", "storage-change")(lambda o, x: (o.storage.resize_(999), x)[1] + 1)
case("data-setter", "storage-change")(lambda o, x: (setattr(o.buffer, "data", x), x)[1] + 1)
case("set", "storage-change")(lambda o, x: (o.buffer.set_(torch.zeros(9)), x)[1] + 1)  # pyright: ignore
case("out-resized", "storage-change")(lambda o, x: torch.add(x, 1, out=o.small))
case("storage-fill", "outside-dispatch")(lambda o, x: (o.storage.__setitem__(0, 3), x)[1] + 1)
case("nested", "nested")(lambda o, x: (capture(lambda y: y + 1, x), x)[1] + 1)
case("not-a-tensor", "outputs")(lambda o, x: o)
case("cond", "opaque-kernel")(lambda o, x: torch.cond(o.flag, torch.sin, torch.cos, (x,)))
case("fullgraph", "opaque-kernel")(lambda o, x: WHOLE(x))
case("sparse", "tensor-kind")(lambda o, x: x[None].to_sparse_csr())


@case("late-workspace", "state-created")
def _(o: Owner, x: Tensor) -> object:
    if o.late is None:
        o.late = torch.zeros(4)
    return o.late + x


@case("grown-workspace", "state-replaced")
def _(o: Owner, x: Tensor) -> object:
    if o.workspace.numel() < 32:
        o.workspace = torch.zeros(32)
    return o.workspace[:4] + x


@case("buffer-to", "state-replaced")
def _(o: Owner, x: Tensor) -> object:
    o.buffer = o.buffer.to(torch.float64)
    return o.buffer + x


@case("swapped", "state-replaced")
def _(o: Owner, x: Tensor) -> object:
    o.buffer, o.other = o.other, o.buffer
    return o.buffer + x


@case("appended", "state-created")
def _(o: Owner, x: Tensor) -> object:
    o.kept.append(x * 2)
    return x + 1


@case("numpy-write", "outside-dispatch")
def _(o: Owner, x: Tensor) -> object:
    o.array[0] += 5
    return x + 1


@case("address-write", "outside-dispatch")
def _(o: Owner, x: Tensor) -> object:
    (ctypes.c_float * 4).from_address(o.address)[1] += 3
    return x + 1


@case("other-thread", "not-replayable")
def _(o: Owner, x: Tensor) -> object:
    y = torch.empty_like(x)
    thread = threading.Thread(target=lambda: y.copy_(x * 2))
    thread.start()
    thread.join()
    return y + 1


@pytest.mark.parametrize(("reason", "body"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_function_that_a_replay_would_not_repeat_is_refused_with_its_reason(
    reason: str, body: Body
):
    owner = Owner()
    with warnings.catch_warnings():
        # torch itself warns of some of these calls.
        warnings.simplefilter("ignore")
        with pytest.raises(CaptureRefused) as refused:
            capture(lambda x: body(owner, x), torch.arange(4.0))
    assert refused.value.reason == reason
    assert "; accepted: " in str(refused.value)


def test_every_reason_is_met_by_a_test():
    # Inputs are refused below; two results that differ and a kernel that is opaque too.
    assert {reason for _, reason, _ in CASES} | {"inputs"} == set(REASONS)


def test_after_a_refusal_everything_that_was_watched_is_as_before():
    before = (torch.UntypedStorage.__dict__.get("resize_"), torch.manual_seed, torch.to_dlpack)
    with pytest.raises(CaptureRefused):
        capture(lambda x: x.tolist(), torch.ones(2))
    assert (
        torch.UntypedStorage.__dict__.get("resize_"),
        torch.manual_seed,
        torch.to_dlpack,
    ) == before
    t = torch.ones(2)
    t.untyped_storage().resize_(64)
    assert t.tolist() == [1.0, 1.0]


def test_what_a_refused_function_wrote_is_put_back():
    state = torch.zeros(3)

    def step(x: Tensor) -> float:
        state.add_(x)
        return state.sum().item()

    with pytest.raises(CaptureRefused):
        capture(step, torch.ones(3))
    assert torch.equal(state, torch.zeros(3))


def test_other_threads_may_do_anything_during_a_capture():
    done: list[object] = []

    def elsewhere() -> None:
        t = torch.ones(2)
        t.untyped_storage().resize_(64)
        done.append(t.tolist())

    def step(x: Tensor) -> Tensor:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return x + 1

    graph = capture(step, torch.ones(2))
    assert done == [[1.0, 1.0]] * 3
    assert same(graph.replay(), torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ((1,), "x is a int"),
        ((torch.ones(1).expand(4),), "x overlaps itself"),
        ((torch.ones(4).to_sparse(),), "x is a Tensor of layout torch.sparse_coo"),
    ],
)
def test_inputs_that_a_graph_cannot_own_are_refused(inputs: tuple, what: str):
    with pytest.raises(CaptureRefused, match=what):
        capture(lambda x: x, *inputs)


def test_inputs_that_share_memory_are_refused():
    t = torch.zeros(4)
    with pytest.raises(CaptureRefused, match="y shares memory with x"):
        capture(lambda x, y: x + y, t, t[2:])


def test_a_custom_op_is_refused_until_it_is_registered():
    from ir.capture import register_replayable, unregister_replayable

    @torch.library.custom_op("test_capture::doubled", mutates_args=())
    def doubled(x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)

    x = torch.arange(3.0)
    with pytest.raises(CaptureRefused, match="opaque-kernel"):
        capture(lambda x: doubled(x) + 1, x)
    target = torch.ops.test_capture.doubled.default
    register_replayable(target)
    try:
        graph = capture(lambda x: doubled(x) + 1, x)
        assert same(graph.replay(torch.full((3,), 4.0)), torch.full((3,), 9.0))
    finally:
        unregister_replayable(target)


def test_a_provider_outside_dispatch_is_refused_until_it_is_registered(op_name):
    from ir.capture import register_replayable, unregister_replayable

    def native(x: Tensor) -> Tensor:
        return x * 3

    native.__annotations__ = {"x": Tensor, "return": Tensor}
    op = register_op(name=op_name())(native)

    def by_address(x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        # As a launch would: addresses, and no call that dispatch sees.
        with torch._C.DisableTorchFunction():
            source, target = x.data_ptr(), y.data_ptr()
        n = x.numel()
        given = (ctypes.c_float * n).from_address(source)
        (ctypes.c_float * n).from_address(target)[:] = [v * 3 for v in given]
        return y

    impl = op.register_impl("by_address")(by_address)
    x = torch.arange(3.0)
    with op.set_priority(["by_address"]):
        with pytest.raises(CaptureRefused, match="not-replayable"):
            capture(lambda x: op(x) + 1, x)
        register_replayable(impl)
        try:
            graph = capture(lambda x: op(x) + 1, x)
        finally:
            unregister_replayable(impl)
    assert same(graph.replay(torch.full((3,), 4.0)), torch.full((3,), 13.0))


def test_errors_pickle():
    error = CaptureRefused("host-sync", "x.item()", "tensors")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_function_that_computes_otherwise_while_it_is_recorded_is_refused():
    # svdvals asks for the singular vectors too where a dispatch mode is on, by another algorithm.
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(CaptureRefused, match=r"not-replayable.*if nothing is recorded"):
        capture(lambda x: torch.linalg.svdvals(x), x)


def test_a_refused_operator_leaves_nothing_in_the_way_of_a_trace():
    flag, x = torch.tensor(True), torch.ones(2)

    def choose(a: Tensor) -> Tensor:
        return torch.cond(flag, torch.sin, torch.cos, (a,))

    with pytest.raises(CaptureRefused, match=r"torch\.cond; accepted: straight-line code"):
        capture(choose, x)
    traced = make_fx(choose, tracing_mode="fake", _allow_non_fake_inputs=True)(x)
    assert any("cond" in str(node.target) for node in traced.graph.nodes)
