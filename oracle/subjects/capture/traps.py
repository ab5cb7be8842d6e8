"""What a captured function may not do, done: by name, of an owner ``o`` and its tensor ``x``.

The text of ``traps`` stands in scripts too, so it needs nothing around it but torch and ir.
"""

from __future__ import annotations

from typing import Any

OF_THE_HOST = frozenset(
    {
        "numpy", "asarray", "cpu", "from-numpy", "numpy-write", "address-write", "storage-fill",
        "contains", "repr", "format", "own-generator",
    }
)  # fmt: skip
"""Traps that are of memory which the host shares, or of a generator on it."""


STATE = "capture_trap"
"""The kind of state that traps make and move."""


def traps(o: Any, device: str) -> dict[str, Any]:
    """The traps, and on ``o`` the tensors that they need."""
    import copy
    import ctypes
    import pickle
    import random
    import threading
    import time

    import numpy as np
    import torch

    from ir.capture import capture
    from ir.state import ir_state

    o.x = torch.arange(4.0, device=device)
    o.workspace = torch.zeros(16, device=device)
    o.scale = torch.ones(4, device=device)
    o.other = torch.zeros(4, device=device)
    o.small = torch.zeros(2, device=device)
    o.flag = torch.tensor(True, device=device)
    o.kept = []
    o.late = None
    o.calls = 0
    storage = o.workspace.untyped_storage()
    generator = torch.Generator()
    # Of the host: on another device these traps are not done.
    shared = o.scale if device == "cpu" else torch.ones(4)
    array, address = shared.numpy(), o.workspace.data_ptr()
    if "capture_trap" not in ir_state.types:
        ir_state.register_type("capture_trap", lambda: torch.zeros(4, device=device), per="layer")
    ir_state.discard("capture_trap")
    ir_state.get("capture_trap", "early")
    inner = capture(lambda y: y + 1, torch.ones(2, device=device))
    if not hasattr(torch.ops.irverify_capture, "doubled"):
        torch.library.custom_op(
            "irverify_capture::doubled",
            lambda x: torch.add(x, x),
            mutates_args=(),
            schema="(Tensor x) -> Tensor",
        )

    def late_workspace(x):
        if o.late is None:
            o.late = torch.zeros(4, device=device)
        return o.late + x

    def grown_workspace(x):
        if o.workspace.numel() < 32:
            o.workspace = torch.zeros(32, device=device)
        return o.workspace[:4] + x

    def buffer_to(x):
        o.scale = o.scale.to(torch.float64)
        return o.scale + x

    def swapped(x):
        o.scale, o.other = o.other, o.scale
        return o.scale + x

    def numpy_write(x):
        array[0] += 5
        return x + 1

    def address_write(x):
        (ctypes.c_float * 4).from_address(address)[1] += 3
        return x + 1

    def other_thread(x):
        y = torch.empty_like(x)
        thread = threading.Thread(target=lambda: y.copy_(x * 2))
        thread.start()
        thread.join()
        return y + 1

    def counter(x):
        o.calls += 1
        return x * o.calls

    def does(act):
        return lambda x: (act(x), x)[1] + 1

    return {
        "item": lambda x: x * x.sum().item(),
        "bool": lambda x: x + 1 if x.sum() > 0 else x,
        "int": lambda x: x[int(x[0])],
        "float": lambda x: x * float(x[0]),
        "index": lambda x: [1, 2, 3, 4][x[0].long()] + x,
        "tolist": lambda x: x * x.tolist()[0],
        "numpy": lambda x: x * x.numpy()[0],
        "asarray": lambda x: x * float(np.asarray(x)[0]),
        "repr": does(repr),
        "format": does(lambda x: f"{x[0]:.1f}"),
        "from-dlpack": lambda x: torch.from_dlpack(x) + 1,
        "to-dlpack": does(lambda x: torch.to_dlpack(x)),
        "data-ptr": lambda x: x + x.data_ptr(),
        "storage-data-ptr": lambda x: x + storage.data_ptr(),
        "equal": lambda x: x * torch.equal(x, x),
        "allclose": lambda x: x * torch.allclose(x, x),
        "contains": lambda x: x * (1.0 in x),
        "cpu": lambda x: x.cpu() + 1,
        "pickle": does(pickle.dumps),
        "deepcopy": lambda x: copy.deepcopy(x) + 1,
        "item-overload": lambda x: x * torch.ops.aten._local_scalar_dense(x[0]),
        "nonzero": lambda x: x.nonzero(),
        "mask": lambda x: x[x > 1],
        "masked-select": lambda x: x.masked_select(x > 1),
        "unique": lambda x: x.unique(),
        "repeats": lambda x: torch.repeat_interleave(x, x.long()),
        "rand": lambda x: x + torch.rand(4, device=device),
        "rand-in-place": lambda x: o.scale.uniform_() + x,
        "dropout": lambda x: torch.dropout(x, 0.5, True),
        "multinomial": lambda x: torch.multinomial(x + 1, 2),
        "own-generator": lambda x: torch.rand(4, generator=generator),
        "manual-seed": does(lambda x: torch.manual_seed(3)),
        "generator-seed": does(lambda x: torch.default_generator.seed()),
        "python-random": lambda x: x * random.random(),
        "numpy-random": lambda x: x * np.random.rand(),
        "clock": lambda x: x * time.perf_counter(),
        "counter": counter,
        "tensor": lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0], device=device),
        "from-numpy": lambda x: x + torch.from_numpy(np.ones(4, np.float32)),
        "resize": does(lambda x: o.workspace.resize_(64)),
        "storage-resize": does(lambda x: storage.resize_(999)),
        "data-setter": does(lambda x: setattr(o.scale, "data", x)),
        "set": does(lambda x: o.scale.set_(torch.zeros(9, device=device))),
        "out-resized": lambda x: torch.add(x, 1, out=o.small),
        "late-workspace": late_workspace,
        "appended": does(lambda x: o.kept.append(x * 2)),
        "late-state": lambda x: x + ir_state.get("capture_trap", "late"),
        "grown-workspace": grown_workspace,
        "buffer-to": buffer_to,
        "swapped": swapped,
        "replaced-state": does(lambda x: ir_state.replace("capture_trap", x * 2, "early")),
        "grown-state": does(lambda x: ir_state.grow("capture_trap", 64, "early")),
        "storage-fill": does(lambda x: storage.__setitem__(0, 3)),
        "numpy-write": numpy_write,
        "address-write": address_write,
        "other-thread": other_thread,
        "cond": lambda x: torch.cond(o.flag, torch.sin, torch.cos, (x,)),
        "while-loop": lambda x: torch.while_loop(lambda a: a.sum() < 9, lambda a: (a + 1,), (x,)),
        "fullgraph": lambda x: torch.compile(lambda y: y + 1, backend="eager", fullgraph=True)(x),
        "opaque-op": lambda x: torch.ops.irverify_capture.doubled(x),
        "nested-capture": does(lambda x: capture(lambda y: y + 1, x)),
        "nested-replay": does(lambda x: inner.replay()),
        "not-a-tensor": lambda x: random,
        "sparse": lambda x: x[None].to_sparse_csr(),
    }
