"""Captured functions of ``ir.capture``.

host      recorded and replayed by the host backend, on the CPU
compiled  recorded and replayed as it is, beside the function compiled by our backend, without
          Inductor
cuda      CUDA graphs, on the current device
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from oracle.observation import Declined, ObservedTensor, Raised, Unavailable
from oracle.observation.capture import CaptureReturned
from oracle.subject import Provider
from reference.model.capture import CaptureCase

from .compiled import Compiled, compiled_form
from .owned import KV, Owned
from .schedule import Schedule, ledger_lines, raised, refusal, usual_memory

ROUTES = ("host", "compiled", "cuda")

CaptureObservation = CaptureReturned | Raised | Declined | Unavailable


def providers() -> tuple[Provider, ...]:
    """The two backends; CUDA's is not available where torch sees no device."""
    import torch

    missing = "" if torch.cuda.is_available() else "torch sees no CUDA device"
    return (
        Provider(op="capture", name="host", routes=("host", "compiled")),
        Provider(op="capture", name="cuda", routes=("cuda",), unavailable=missing),
    )


def observe(case: CaptureCase, route: str) -> CaptureObservation:
    """Capture and do the events. What that raises is reported, never raised."""
    found = _observed(case, route, stock=False)
    if route != "compiled" or not isinstance(found, CaptureReturned) or _repeats(found):
        return found
    # Compiling costs: stock is asked only where there is something to compare with it.
    plain, stock = _observed(case, "host", stock=False), _observed(case, route, stock=True)
    if not isinstance(plain, CaptureReturned) or not isinstance(stock, CaptureReturned):
        return found
    as_stock = _repeats(plain) and _straight(found) == _straight(stock)
    return replace(found, as_stock=as_stock)


def _repeats(found: CaptureReturned) -> bool:
    """Whether replays returned and left what the function did that was called straight."""
    return all(_bits(e.outputs, e.memory) == _bits(e.eager, e.eager_memory) for e in found.events)


def _straight(found: CaptureReturned) -> list[object]:
    return [_bits(e.eager, e.eager_memory) for e in found.events]


def _bits(
    outputs: tuple[ObservedTensor, ...], memory: tuple[np.ndarray | None, ...]
) -> tuple[object, ...]:
    results = tuple((o.dtype, o.shape, o.values.tobytes()) for o in outputs)
    return results, tuple(None if m is None else m.tobytes() for m in memory)


def _observed(case: CaptureCase, route: str, *, stock: bool) -> CaptureObservation:
    device = "cuda" if route == "cuda" else "cpu"
    if case.trap and device == "cuda":
        from .traps import OF_THE_HOST

        if case.trap in OF_THE_HOST:
            return Declined("of-the-host")
    if route == "compiled" and (case.trap or any(s.target == KV for s in case.body.steps)):
        return Declined("not-compiled")
    owned: list[Owned] = []
    graphs: list[Any] = []
    try:
        with usual_memory(device):
            straight = compiled_form(case, device, stock=stock) if route == "compiled" else None
            if route == "compiled" and straight is None:
                return Unavailable("as-stock-torch")
            return _driven(case, route, device, owned, graphs, straight)
    except Exception as error:  # what a subject raises is an observation, whatever it is
        return raised(error)
    finally:
        for graph in graphs:
            graph.release()
        for one in owned:
            one.close()
        if case.trap:
            _forget_trap_state()


def _driven(
    case: CaptureCase,
    route: str,
    device: str,
    owned: list[Owned],
    graphs: list[Any],
    straight: Compiled | None,
) -> CaptureReturned:
    for side in ("graph", "eager"):
        owned.append(Owned(case, side, device))
    own, eager = owned
    # Not in the graph: nothing is compiled while it is recorded.
    eager.straight = straight
    if case.trap:
        from .traps import traps

        act = traps(own.module, device)[case.trap]
        own.trap = lambda module: _quietly(act, module.x)
    try:
        graph = _captured(case, own, "cuda" if device == "cuda" else "host")
    except Exception as error:  # a refusal is what may be expected
        refused = refusal(error, own.owner_names())
        if refused is None:
            raise
        return CaptureReturned(
            route=route, refused=refused, ledgers=(), memory=own.memory(), events=()
        )
    graphs.append(graph)
    several = reversed(graph.graphs.values()) if case.sizes else (graph,)
    ledgers, memory = tuple(ledger_lines(each, own) for each in several), own.memory()
    return CaptureReturned(
        route=route,
        refused=None,
        ledgers=ledgers,
        memory=memory,
        events=Schedule(graph, own, eager).run(),
    )


def _forget_trap_state() -> None:
    from ir.state import ir_state

    from .traps import STATE

    if STATE in ir_state.types:
        ir_state.unregister_type(STATE)


def _quietly(act: Callable[[Any], Any], x: Any) -> Any:
    """torch itself warns of some of these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return act(x)


def _captured(case: CaptureCase, own: Owned, backend: Any) -> Any:
    from ir.capture import capture, capture_buckets

    owners = {"registry": own.registry} if own.registry else {}
    if case.sizes:
        return capture_buckets(
            own.module,
            *own.static,
            sizes=case.sizes,
            padding=case.padding,
            batched=(*case.batched, *(False,) * case.noise),
            generators=own.generators,
            owners=owners,
            backend=backend,
        )
    return capture(
        own.module, *own.static, generators=own.generators, owners=owners, backend=backend
    )
