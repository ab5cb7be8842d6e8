"""What `ir_state.get` costs beside a plain function that looks up the same key.

Both are timed in one run, in turns, and the best of several rounds counts. Exits 1 where `get`
costs more than 1.5 times as much.
"""

from __future__ import annotations

import sys
import timeit
from contextvars import ContextVar

import torch

from ir.state import IrState, scope

LIMIT = 1.5
CALLS = 10_000
ROUNDS = 200

_layer: ContextVar[str] = ContextVar("layer", default="")
_values: dict[tuple[str, str], torch.Tensor] = {}


def plain(name: str) -> torch.Tensor:
    return _values[(_layer.get(), name)]


def main() -> int:
    registry = IrState()
    registry.register_type("amax", lambda: torch.zeros(16), per="layer")
    get = registry.get
    for i in range(32):
        with scope(layer=i):
            _values[str(i), "amax"] = get("amax")
    _layer.set("7")
    best = {"plain": float("inf"), "get": float("inf")}
    with scope(layer=7):
        if get("amax") is not plain("amax"):
            raise SystemExit("the two do not answer alike")
        for _ in range(ROUNDS):
            for name, call in (("plain", plain), ("get", get)):
                taken = timeit.timeit("call('amax')", globals={"call": call}, number=CALLS)
                best[name] = min(best[name], taken / CALLS * 1e9)
    ratio = best["get"] / best["plain"]
    print(f"plain {best['plain']:.0f} ns, get {best['get']:.0f} ns, ratio {ratio:.2f}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
