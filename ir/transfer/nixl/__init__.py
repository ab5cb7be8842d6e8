"""KV transfers between processes with NIXL.

One process is one engine and has one NIXL agent per rank, all driven by one thread: agents are
not thread-safe, and a progress thread per agent would keep a core busy each, idle or not.
"""

from .cluster import Cluster
from .outcome import Attempt, Fault, Outcome, Status

__all__ = ["Attempt", "Cluster", "Fault", "Outcome", "Status"]
