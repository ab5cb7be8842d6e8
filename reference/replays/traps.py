"""What a function that is captured may not do, and the reason for which it is refused.

The reasons are those that ``ir.capture`` documents. A trap is done in the middle of the function;
whatever it is, memory holds afterwards what it held before.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TRAPS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "item", "bool", "int", "float", "index", "tolist", "numpy", "asarray", "repr",
                "format", "from-dlpack", "to-dlpack", "data-ptr", "storage-data-ptr", "equal",
                "allclose", "contains", "cpu", "pickle", "deepcopy", "item-overload",
            ),
            "host-sync",
        ),
        **dict.fromkeys(
            ("nonzero", "mask", "masked-select", "unique", "repeats"), "data-dependent-shape"
        ),
        **dict.fromkeys(
            ("rand", "rand-in-place", "dropout", "multinomial", "own-generator"),
            "unregistered-generator",
        ),
        **dict.fromkeys(("manual-seed", "generator-seed"), "reseeded"),
        **dict.fromkeys(("python-random", "numpy-random"), "host-randomness"),
        "clock": "unrepeatable",
        "counter": "unrepeatable",
        **dict.fromkeys(("tensor", "from-numpy"), "host-data"),
        **dict.fromkeys(
            ("resize", "storage-resize", "data-setter", "set", "out-resized"), "storage-change"
        ),
        **dict.fromkeys(("late-workspace", "appended", "late-state"), "state-created"),
        **dict.fromkeys(
            ("grown-workspace", "buffer-to", "swapped", "replaced-state", "grown-state"),
            "state-replaced",
        ),
        **dict.fromkeys(("storage-fill", "numpy-write", "address-write"), "outside-dispatch"),
        "other-thread": "not-replayable",
        **dict.fromkeys(("cond", "while-loop", "fullgraph", "opaque-op"), "opaque-kernel"),
        **dict.fromkeys(("nested-capture", "nested-replay"), "nested"),
        "not-a-tensor": "outputs",
        "sparse": "tensor-kind",
    }
)  # fmt: skip
