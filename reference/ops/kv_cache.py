"""The paged cache of keys and values: ``reshape_and_cache`` and ``paged_decode_attention``."""

from __future__ import annotations

from reference.step import Contract, Step

CONTRACTS = (
    Contract(
        name="reshape_and_cache/1",
        op="reshape_and_cache",
        steps=(
            Step(
                name="written", function="number_written", operands=("slot_mapping",), format=None
            ),
            Step(
                name="cache",
                function="cache_with",
                operands=("kv_cache", "key", "value", "slot_mapping"),
                format=None,
            ),
        ),
        outputs={"written": "written", "kv_cache": "cache"},
        rows=(),
    ),
    Contract(
        name="paged_decode_attention/1",
        op="paged_decode_attention",
        steps=(
            Step(
                name="dots",
                function="paged_dots",
                operands=("query", "kv_cache", "block_tables", "seq_lens"),
                format=None,
                chain="head_size - 1",
            ),
            Step(name="logits", function="multiply", operands=("dots", "scale")),
            Step(
                name="y",
                function="weighted_by_softmax",
                operands=("logits", "kv_cache", "block_tables", "seq_lens"),
                format="@query",
                chain="length - 1",
            ),
        ),
        outputs={"y": "y"},
        rows=(),
        # Values of both signs cancel.
        cancellation=True,
    ),
)
