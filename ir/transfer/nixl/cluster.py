"""Engine processes for many transfers: two producers and a consumer, kept between cases."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from ..geometry import EngineGeometry, Worker
from ..request import TransferRequest
from .outcome import Fault, Outcome, Tensors


class Cluster:
    """Engines in processes of their own, which move data with NIXL over loopback.

    Opens no process before the first `run` and keeps them until `close`; a run that must replace
    one pays for it. `tls` goes to UCX as ``UCX_TLS`` (None: its default, which is synchronous on
    loopback; ``"tcp,self"`` shows races). `seconds` is the deadline of each request.
    Raises `NixlMissingError` where NIXL is not installed.
    """

    def __init__(self, *, tls: str | None = None, seconds: float = 5.0) -> None:
        raise NotImplementedError

    def run(
        self,
        producer: EngineGeometry,
        consumer: EngineGeometry,
        request: TransferRequest,
        memory: Mapping[Worker, Tensors],
        *,
        push: bool = False,
        fault: Fault = Fault.NONE,
        sentinel: int = 0,
    ) -> Outcome:
        """Fill the producer's ranks with `memory`, the consumer's with `sentinel`, and transfer.

        Pulled by the consumer, or with `push` written by the producer. Raises the `TransferError`
        of a refusal at the handshake; a refused request is an `Attempt` with its reason.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End every process of the cluster; none is left behind."""
        raise NotImplementedError

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
