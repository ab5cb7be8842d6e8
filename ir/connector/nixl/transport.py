"""What carries the data of a connector: NIXL, or copies within one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ir.transfer.nixl import MemoryPort, Network, Port, RankAgent, Vetting
from ir.transfer.nixl.port import Vets


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How a rank's port is opened, by its name, and what tries out a peer's metadata."""

    open_port: Callable[[str], Port]
    open_vetting: Callable[[str], Vets]


def nixl() -> Transport:
    """Agents of NIXL over UCX, one a rank."""
    return Transport(open_port=RankAgent, open_vetting=Vetting)


def in_process(network: Network) -> Transport:
    """Ports that copy within this process, between the engines on one network."""
    return Transport(
        open_port=lambda name: MemoryPort(name, network), open_vetting=lambda _name: network
    )
