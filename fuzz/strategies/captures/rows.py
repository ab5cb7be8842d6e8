"""Functions of rows: each row of a result follows from that row of the inputs alone."""

from __future__ import annotations

import numpy as np

from reference.model import ProgramOperand, Storage, Value, View
from reference.model.capture import CaptureCase
from reference.model.storage import contiguous_strides

from ...chooser import Chooser
from ..programs.builder import Builder
from ..programs.data import draw_storage

_SIZES = ((4,), (1, 4), (2, 4), (1, 2, 4), (3,), (2, 3), (5,), (1, 3, 5), (2,), (1, 2))
_BLOCKS, _BLOCK = 3, 4


class _Rows:
    """Inputs as they are added, then steps on values that have rows."""

    def __init__(self, chooser: Chooser, rows: int, width: int, dtype: str) -> None:
        self.chooser, self.rows, self.width, self.dtype = chooser, rows, width, dtype
        self.storages: list[Storage] = []
        self.tensors: list[View] = []
        self.padding: list[int | None] = []
        self.owners: list[str] = []

    def input(self, storage: Storage, shape: tuple[int, ...]) -> int:
        self.tensors.append(View(len(self.storages), shape, contiguous_strides(shape)))
        self.storages.append(storage)
        return len(self.tensors) - 1

    def floats(self, shape: tuple[int, ...]) -> Storage:
        return draw_storage(self.dtype, int(np.prod(shape)), self.chooser)


def _whole(values: list[int]) -> Storage:
    return Storage("int64", len(values), np.array(values, np.int64).tobytes())


def padded_body(chooser: Chooser) -> CaptureCase:
    """A case without events, captured for some batch sizes."""
    sizes = chooser.choose(_SIZES)
    rows, heads = max(sizes), chooser.choose((1, 2))
    width = heads * chooser.choose((1, 2))
    r = _Rows(chooser, rows, width, chooser.choose(("float32", "float32", "bfloat16")))
    x = r.input(r.floats((rows, width)), (rows, width))
    r.padding.append(chooser.choose((0, 0, 3)))
    second = gathered = slots = None
    if chooser.chance(0.4):
        second = r.input(r.floats((rows, width)), (rows, width))
        r.padding.append(chooser.choose((0, 1)))
    if chooser.chance(0.4):
        gathered = r.input(_whole([chooser.integer(0, 3) for _ in range(rows)]), (rows,))
        r.padding.append(0)
    if chooser.chance(0.7):
        slots = r.input(_whole([4 + i for i in range(rows)]), (rows,))
        r.padding.append(-1)
    scale = None
    if chooser.chance(0.25):
        scale = r.input(r.floats((width,)), (width,))
        r.padding.append(None)
    weight = r.input(r.floats((width, width)), (width, width))
    bias = r.input(r.floats((width,)), (width,))
    table = r.input(r.floats((4, width)), (4, width))
    kinds = ("buffer", "attribute", "item", "given", "parameter", "state")
    r.owners += [chooser.choose(kinds) for _ in range(3)]
    cache = None
    if slots is not None:
        shape = (2, _BLOCKS, _BLOCK, heads, width // heads)
        cache = r.input(r.floats(shape), shape)
        r.owners.append("kv_cache")
    b = Builder(chooser, r.storages, r.tensors, range(len(r.tensors)))
    values = [v for v in (x, second) if v is not None]
    if scale is not None:
        values += b.add("aten.mul.Tensor", Value(x), Value(scale))
    for _ in range(chooser.integer(1, 4)):
        values += _step(b, values, weight, bias, table, gathered)
    results = [chooser.choose(values[1:] or values)]
    batched = [True]
    if cache is not None and slots is not None:
        made = _kept(b, values, cache, slots, heads)
        results += made
        batched += [False] * len(made)
    if chooser.chance(0.3):
        results.append(chooser.choose(values))
        batched.append(True)
    body = b.program(results)
    return CaptureCase(
        body=body,
        owners=tuple(r.owners),
        events=(),
        sizes=sizes,
        padding=tuple(r.padding),
        batched=tuple(batched),
    )


def _step(
    b: Builder, values: list[int], weight: int, bias: int, table: int, gathered: int | None
) -> tuple[int, ...]:
    chooser = b.chooser
    x = chooser.choose(values)
    number: ProgramOperand = chooser.choose((2, -1, 0.5, 3))
    kind = chooser.choose(("scale", "bias", "mm", "relu", "sum", "pair", "write", "table", "count"))
    if kind == "scale":
        return b.add("aten.mul.Tensor", Value(x), number)
    if kind == "bias":
        return b.add("aten.add.Tensor", Value(x), Value(bias))
    if kind == "mm":
        return b.add("aten.mm.default", Value(x), Value(weight))
    if kind == "relu":
        return b.add("aten.relu.default", Value(x))
    if kind == "pair":
        return b.add("aten.add.Tensor", Value(x), Value(chooser.choose(values)))
    if kind == "sum":
        made = b.add("aten.sum.dim_IntList", Value(x), (1,), True)
        return b.add("aten.add.Tensor", Value(x), Value(made[0])) if made else ()
    if kind == "write":
        made = b.add("aten.clone.default", Value(x))
        b.add("aten.add_.Tensor", Value(made[0]), 1)
        return made
    if kind == "table" and gathered is not None:
        return b.add("aten.index_select.default", Value(table), 0, Value(gathered))
    # What each replay changes, whatever the batch.
    b.add("aten.add_.Tensor", Value(bias), 1)
    return ()


def _kept(b: Builder, values: list[int], cache: int, slots: int, heads: int) -> tuple[int, ...]:
    """Rows written to a paged cache by slot, and how many were."""
    rows: list[int] = []
    for _ in range(2):
        x = b.chooser.choose(values)
        width = b.tensor(x).shape[1]
        rows += b.add("aten.view.default", Value(x), (-1, heads, width // heads))
    if len(rows) < 2:
        return ()
    key, value = rows
    operands = (Value(cache), Value(key), Value(value), Value(slots))
    return b.add("ir.reshape_and_cache.default", *operands)
