"""Calls over a paged cache as real models make them: heads of one rank, blocks of 16 tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reference.model import Fill, Plain

BLOCK_SIZE = 16
_EDGES = (33, 15, 16, 17, 31, 32, 1)
"""Lengths at the edges of blocks, for few sequences; many get one or two tokens each."""

Tensor = tuple[tuple[int, ...], str, Fill | bytes]


def paged_call(
    op: str, model: Mapping[str, Any], tokens: int, dtype: str
) -> tuple[dict[str, Tensor], dict[str, Plain]]:
    """The tensors (shape, dtype, content) and plain values of a call with that many tokens."""
    ranks, size = model["tensor_parallel"], model["head_dim"]
    # Fewer key heads than ranks are replicated: every rank has at least one.
    heads = max(1, model["num_key_value_heads"] // ranks)
    if op == "reshape_and_cache":
        blocks = tokens // BLOCK_SIZE + 2
        # From the last slot downwards; the second token, if there is one, has none.
        slots = np.arange(blocks * BLOCK_SIZE)[::-1][:tokens].copy()
        slots[1:2] = -1
        rows = (tokens, heads, size)
        return {
            "key": (rows, dtype, Fill("normal", tokens)),
            "value": (rows, dtype, Fill("normal", tokens + 1)),
            "slot_mapping": ((tokens,), "int64", slots.astype("<i8").tobytes()),
            "kv_cache": ((2, blocks, BLOCK_SIZE, heads, size), dtype, Fill("uniform", size)),
        }, {}
    most = len(_EDGES)
    lengths = np.array([_EDGES[i] if tokens <= most else 1 + i % 2 for i in range(tokens)])
    entries = -(-int(lengths.max()) // BLOCK_SIZE)
    blocks = 2 * entries + 1
    tables = np.arange(tokens * entries).reshape(tokens, entries) * 5 % blocks
    query = (tokens, model["num_attention_heads"] // ranks, size)
    return {
        "kv_cache": ((2, blocks, BLOCK_SIZE, heads, size), dtype, Fill("normal", size)),
        "query": (query, dtype, Fill("normal", tokens)),
        "block_tables": ((tokens, entries), "int32", tables.astype("<i4").tobytes()),
        "seq_lens": ((tokens,), "int32", lengths.astype("<i4").tobytes()),
    }, {"scale": size**-0.5}
