"""A worker of `ir.connector` driven through a case, and everything that is seen of it."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracle.observation import Raised
from oracle.observation.connector import RunSeen, StepSeen
from reference.model.connector import (
    MODELS,
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    Event,
    Restart,
    Serve,
)

from .compiling import compile_pieces, many_versions
from .disk import Killed, damage, dying, stored
from .model import whole_number_model
from .watched import watched


def observe(case: ConnectorCase, route: str) -> RunSeen:
    """Drive the case. What the worker raises ends it and is reported, never raised."""
    with (
        tempfile.TemporaryDirectory(prefix="irverify-kv-") as folder,
        many_versions(route),
    ):
        return _Driven(case, Path(folder), route).whole()


def raised(error: BaseException) -> Raised:
    """An exception as data."""
    bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
    return Raised(type(error).__name__, bases, str(error))


class _Driven:
    def __init__(self, case: ConnectorCase, root: Path, route: str) -> None:
        self.case, self.root, self.route = case, root, route
        self.connector: Any = None
        self.model: Any = None
        self.runner: Any = None
        self.served = MODELS[0]
        self.steps: list[StepSeen] = []
        self.outputs = 0

    def whole(self) -> RunSeen:
        found: Raised | None = None
        try:
            self._start()
            for event in self.case.events:
                self._happen(event)
        except Exception as error:  # what a subject raises is an observation, whatever it is
            found = raised(error)
        finally:
            self._close()
        mode = "" if self.runner is None else self.runner.mode.value
        seen = RunSeen(mode=mode, steps=tuple(self.steps), raised=found)
        if self.case.connector == "none" or found is not None:
            return seen
        entries, unreadable, strays = stored(self.case, self.root)
        return replace(seen, store=entries, unreadable=unreadable, strays=strays)

    def _close(self) -> None:
        """The reader of a worker that goes must not outlive its files."""
        close = getattr(getattr(self.connector, "inner", None), "close", None)
        if close is not None:
            close()

    def _start(self) -> None:
        from ir.connector import GraphMode, Runner

        self._close()
        case = self.case
        self.model = whole_number_model(case)
        compile_pieces(self.model, case, self.route)
        self.connector = None if case.connector == "none" else watched(case, self.root, self.served)
        self.runner = Runner(self.model, self.connector, GraphMode(case.mode), case.buckets)
        self.runner.warm_up()
        self.steps.append(self._seen("warm-up"))

    def _happen(self, event: Event) -> None:
        match event:
            case Serve():
                self._serve(event)
            case Dummy():
                self.runner.dummy_run(event.rows)
                self.steps.append(self._seen("dummy"))
            case Damage():
                damage(self.case, self.root, event, self.served)
                self.steps.append(self._seen("damage"))
            case Restart():
                self.served = event.model
                self._start()
            case ByHand():
                self._by_hand(event)

    def _seen(self, kind: str) -> StepSeen:
        """What the connector noted since it was last asked, and the caches as they are."""
        seen = StepSeen(kind=kind, caches=self._caches())
        if self.connector is None:
            return seen
        c = self.connector
        found = replace(
            seen,
            calls=tuple(tuple(step) for step in c.steps),
            bound=tuple(c.bounds),
            unbound=c.unbound,
            left_bound=c.metadata is not None,
            output_changed=_empty_changed(),
            device=c.ran() if c.marked else None,
            told=c.told,
            finished=c.finished,
        )
        c.forget()
        return found

    def _caches(self) -> NDArray[np.uint8]:
        """(layers, 2, slots, bytes)"""
        import torch

        slots = self.case.size.slots
        layers = [
            cache.view(torch.uint8).reshape(2, slots, -1) for cache in self.model.caches.values()
        ]
        return torch.stack(layers).numpy().copy()

    def _output(self, event: Serve) -> Any:
        from ir.connector import ScheduledRequest, SchedulerOutput

        self.outputs += 1
        requests = tuple(
            ScheduledRequest(
                request=r.name,
                prompt=r.prompt,
                tokens=r.tokens[r.start :],
                start=r.start,
                blocks=r.blocks,
                load=r.load,
                save=r.save,
            )
            for r in event.requests
        )
        return SchedulerOutput(
            step=self.outputs, requests=requests, finished=frozenset(event.finished)
        )

    def _serve(self, event: Serve) -> None:
        output = self._output(event)
        before = repr(output)
        matched: dict[str, int] = {}
        if self.connector is not None:
            matched = {r.name: self.connector.matched_tokens(r.prompt) for r in event.requests}
        try:
            with dying(event.dies):
                result = self.runner.step(output)
        except Killed:
            seen = self._seen("serve")
            self.steps.append(replace(seen, caches=None, matched=matched, died=True))
            self._start()
            return
        seen = self._seen("serve")
        self.steps.append(
            replace(
                seen,
                matched=matched,
                output_changed=seen.output_changed or repr(output) != before,
                tokens=dict(result.tokens),
                failed=dict(result.failed),
                logits=result.logits.double().numpy().copy(),
            )
        )

    def _by_hand(self, event: ByHand) -> None:
        from ir.connector import EMPTY, LifecycleError, prepare, worker_step
        from reference.model.connector import Served

        one = Served(name="r", prompt=(1,), start=0, stop=1, blocks=(1,))
        output = EMPTY if event.dummy else self._output(Serve(requests=(one,)))
        layers = self.model.layers
        accepted: list[bool] = []
        ended = True
        with contextlib.ExitStack() as stack:
            entered = worker_step(self.connector, prepare(self.connector, output), layers)
            step = stack.enter_context(entered)
            for call, layer in event.calls:
                try:
                    self._call(step, call, layers[layer])
                except LifecycleError:
                    accepted.append(False)
                else:
                    accepted.append(True)
            try:
                stack.close()
            except LifecycleError:
                ended = False
        seen = self._seen("by hand")
        self.steps.append(replace(seen, admitted=tuple(accepted), ended=ended))

    def _call(self, step: Any, call: str, layer: str) -> None:
        match call:
            case "wait_for_layer_load":
                step.wait_for_layer_load(layer)
            case "save_kv_layer":
                step.save_kv_layer(layer, self.model.caches[layer])
            case _:
                getattr(step, call)()


def _empty_changed() -> bool:
    """Whether anybody has changed the output of dummy runs, which all share."""
    from ir.connector import EMPTY, SchedulerOutput

    return repr(EMPTY) != repr(SchedulerOutput(step=-1))
