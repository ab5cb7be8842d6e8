"""The rows of the judges of captured functions."""

from __future__ import annotations

from .captures import capture_completion, capture_ledger, capture_refusal
from .captures_results import (
    capture_eager,
    capture_held,
    capture_layout,
    capture_memory,
    capture_padding,
    capture_values,
)
from .judge import Judge

CAPTURE_JUDGES = (
    Judge(
        name="capture-completion",
        claim="a function that a graph can repeat is captured, and replayed while it may be",
        codes=("CG",),
        kinds={
            "raised": "an error that is no refusal",
            "refused-legal": "a legal capture, replay or act was refused",
            "crash": "the process died",
            "timeout": "the replays did not end in the time a case is given",
        },
        judge=capture_completion,
    ),
    Judge(
        name="capture-refusal",
        claim="what a graph would not repeat, or must not be done to one, is refused with its name",
        codes=("CG", "DYN"),
        kinds={
            "not-refused": "what must be refused was done",
            "wrong-reason": "it was refused for another reason, or by another error",
            "unnamed": "the refusal does not name the owner whose memory is another",
        },
        judge=capture_refusal,
    ),
    Judge(
        name="capture-values",
        claim="each replay returns what the function means on these inputs and this memory",
        codes=("CG", "VAL"),
        kinds={
            "arity": "the number of results is wrong",
            "dtype": "a result has the wrong dtype",
            "shape": "a result has the wrong shape",
            "value": "an element has other bits",
        },
        judge=capture_values,
    ),
    Judge(
        name="capture-eager",
        claim="each replay returns and leaves the bits that the function does if called straight",
        codes=("CG", "VAL"),
        kinds={
            "replay-differs": "an element has other bits than if called straight",
            "memory-differs": "memory holds other bits than after the function called straight",
        },
        judge=capture_eager,
    ),
    Judge(
        name="capture-layout",
        claim="results have the strides and the device that the function gives them",
        codes=("META",),
        kinds={
            "stride": "a result has other strides",
            "device": "a result is on another device",
        },
        judge=capture_layout,
    ),
    Judge(
        name="capture-memory",
        claim="a capture leaves no trace, and a replay what the function leaves in memory",
        codes=("CG", "MUT"),
        kinds={
            "trace-left": "a capture, or one that was refused, has changed memory",
            "changed-by-refusal": "what was refused has changed memory",
            "owner-after": "memory holds something else than after the function",
        },
        judge=capture_memory,
    ),
    Judge(
        name="capture-padding",
        claim="a padded batch gives its rows what they get alone, and writes nothing beside",
        codes=("PAD",),
        kinds={
            "real-row": "padding has changed a row of the batch",
            "outside-slots": "memory changed that no row of the batch writes",
            "owner-after": "memory that rows of the batch write holds something else",
        },
        judge=capture_padding,
    ),
    Judge(
        name="capture-held",
        claim="results are the caller's own, however long they are held",
        codes=("CG", "ALIAS"),
        kinds={
            "result-shared": "a result lies in memory of the graph, an owner or an earlier result",
            "held-overwritten": "a result that was held has changed",
        },
        judge=capture_held,
    ),
    Judge(
        name="capture-ledger",
        claim="every owner that the graph uses is in its ledger, where it lies",
        codes=("CG",),
        kinds={
            "unowned": "an owner that the graph uses has no entry",
            "elsewhere": "an entry has other memory than its owner",
        },
        judge=capture_ledger,
    ),
)
