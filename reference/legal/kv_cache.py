"""Legal inputs of the ops over the paged cache, which is a state: each layer has its own.

An index that points nowhere, or two that point to one slot, is not refused: the numbers lie on
the device, and looking at them would be a wait for it. What becomes of it is undefined.
"""

import numpy as np

from ..declaration import (
    FLOATS,
    Arrays,
    Dim,
    OpDeclaration,
    OutputSpec,
    ScalarSpec,
    TensorSpec,
    contiguous,
)

_CACHE_SHAPE = ("2", "num_blocks", "block_size", "kv_heads", "head_size")
_INDICES = ("int64", "int32")
_BITS = (
    "dyadic",
    "normal",
    "uniform",
    "wide",
    "special",
    "special-finite",
    "signed-zero",
    "subnormal",
)
_NUMBERS = ("dyadic", "normal", "uniform", "unit", "outlier", "shifted", "signed-zero")

_BLOCKS = (
    Dim(name="num_blocks", role="blocks"),
    Dim(name="block_size", role="block_size"),
)


def _rows(name: str, heads: str) -> TensorSpec:
    return TensorSpec(
        name=name,
        dtypes=FLOATS if name == "key" else ("@key",),
        shapes=(("n", heads, "head_size"),),
        activation=True,
        fills=_BITS,
    )


def _slots_outside(arrays: Arrays) -> str:
    slots, cache = arrays["slot_mapping"], arrays["kv_cache"]
    return "slot-out-of-range" if (slots >= cache.shape[1] * cache.shape[2]).any() else ""


def _slots_twice(arrays: Arrays) -> str:
    slots = arrays["slot_mapping"]
    named = slots[slots >= 0]
    return "slot-named-twice" if len(np.unique(named)) < len(named) else ""


def _write(arrays: Arrays) -> None:
    cache = arrays["kv_cache"]
    for token, slot in enumerate(arrays["slot_mapping"].tolist()):
        if slot >= 0:
            cache[0, slot // cache.shape[2], slot % cache.shape[2]] = arrays["key"][token]
            cache[1, slot // cache.shape[2], slot % cache.shape[2]] = arrays["value"][token]


def _lengths_outside(arrays: Arrays) -> str:
    lengths = arrays["seq_lens"]
    most = arrays["block_tables"].shape[1] * arrays["kv_cache"].shape[2]
    return "length-out-of-range" if ((lengths < 0) | (lengths > most)).any() else ""


def _blocks_outside(arrays: Arrays) -> str:
    cache, tables = arrays["kv_cache"], arrays["block_tables"]
    used = np.arange(tables.shape[1]) * cache.shape[2] < arrays["seq_lens"][:, None]
    named = tables[used]
    return "block-out-of-range" if ((named < 0) | (named >= cache.shape[1])).any() else ""


RESHAPE_AND_CACHE = OpDeclaration(
    op="reshape_and_cache",
    parameters=(
        _rows("key", "kv_heads"),
        _rows("value", "kv_heads"),
        TensorSpec(name="slot_mapping", dtypes=_INDICES, shapes=(("n",),), content="slots"),
        TensorSpec(
            name="kv_cache",
            dtypes=("@key",),
            shapes=(_CACHE_SHAPE,),
            fills=_BITS,
            state="kv_cache",
        ),
    ),
    dims=(
        Dim(name="n", role="tokens", minimum=0),
        *_BLOCKS,
        Dim(name="kv_heads", role="heads"),
        Dim(name="head_size", role="head_size"),
    ),
    outputs=(
        OutputSpec(name="written", dtype="int64", shape=()),
        OutputSpec(name="kv_cache", dtype="@key", shape="@kv_cache", left_in="kv_cache"),
    ),
    ranks=(3, 3),
    relations=(contiguous("kv_cache"),),
    preconditions=(_slots_outside, _slots_twice),
    effect=_write,
)

PAGED_DECODE_ATTENTION = OpDeclaration(
    op="paged_decode_attention",
    parameters=(
        TensorSpec(
            name="kv_cache",
            dtypes=("@query",),
            shapes=(_CACHE_SHAPE,),
            fills=_NUMBERS,
            state="kv_cache",
            content="cache",
        ),
        TensorSpec(
            name="query",
            dtypes=FLOATS,
            shapes=(("n", "kv_heads*group", "head_size"),),
            activation=True,
            fills=_NUMBERS,
        ),
        TensorSpec(
            name="block_tables", dtypes=_INDICES, shapes=(("n", "entries"),), content="tables"
        ),
        TensorSpec(name="seq_lens", dtypes=_INDICES, shapes=(("n",),), content="lengths"),
        ScalarSpec(
            name="scale",
            kind="float",
            # The smallest number above 0.
            minimum=5e-324,
            # 1 / sqrt of the head sizes 128, 64 and 80 of models, then exact ones.
            samples=(128**-0.5, 0.125, 80**-0.5, 0.5, 1.0, 2.0**-6),
        ),
    ),
    dims=(
        Dim(name="n", role="tokens", minimum=0, few=True),
        *_BLOCKS,
        Dim(name="kv_heads", role="kv_heads"),
        Dim(name="group", role="group"),
        Dim(name="head_size", role="head_size"),
        Dim(name="entries", role="entries"),
    ),
    outputs=(OutputSpec(name="y", dtype="@query", shape="@query"),),
    ranks=(3, 3),
    relations=(contiguous("kv_cache"),),
    preconditions=(_lengths_outside, _blocks_outside),
)

DECLARATIONS = (RESHAPE_AND_CACHE, PAGED_DECODE_ATTENTION)
