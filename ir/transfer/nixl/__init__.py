"""KV transfers between engines, over NIXL or within one process, and clusters of real processes.

One process is one engine and has one NIXL agent per rank, all driven by one thread: agents are
not thread-safe, and a progress thread per agent would keep a core busy each, idle or not. What an
engine needs of a transport is `Port`; `RankAgent` has it of NIXL, `MemoryPort` of one process.

`KvFiles` saves to disk what an engine of another parallelism loads::

    files.save("prompt 7", engine, bases, tokens=40, blocks=((1, 2, 5),))
    files.load("prompt 7", other, other_bases, blocks=((3, 4, 9),))
"""

from .cluster import Cluster
from .engine import Engine, Snapshot
from .errors import (
    FileError,
    HandshakeError,
    NixlMissingError,
    PeerError,
    PluginMissingError,
    StillLandingError,
)
from .files import KvFiles
from .memory_port import MemoryPort, Network
from .outcome import Attempt, Fault, Outcome, Status
from .port import Port
from .rank_agent import RankAgent, Vetting
from .side_channel import SideChannel

__all__ = [
    "Attempt",
    "Cluster",
    "Engine",
    "Fault",
    "FileError",
    "HandshakeError",
    "KvFiles",
    "MemoryPort",
    "Network",
    "NixlMissingError",
    "Outcome",
    "PeerError",
    "PluginMissingError",
    "Port",
    "RankAgent",
    "SideChannel",
    "Snapshot",
    "Status",
    "StillLandingError",
    "Vetting",
]
