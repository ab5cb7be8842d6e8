"""KV-cache transfer between engines whose parallelism, blocks and layouts may differ.

Geometry as data, the mapping between ranks, plans made once per pair of engines, descriptors for
requests, and a transport within one process. Needs NumPy alone.
"""

from .compatibility import check_engines
from .errors import (
    DescriptorError,
    GeometryError,
    IncompatibleEnginesError,
    RequestError,
    TransferError,
)
from .geometry import EngineGeometry, Layout, Placement, Worker, blocks_per_state
from .groups import CacheGroup, Kind, ModelCache, Part
from .leases import ConsumerLeases, ProducerLeases
from .mapping import TpMapping, notifications_per_producer, tp_mapping
from .memory import Arena, MemoryTransport
from .pair import EnginePair
from .plan import EngineTransferPlan, Notification, RequestIds, meet, plan_transfer
from .request import TransferRequest

__all__ = [
    "Arena",
    "CacheGroup",
    "ConsumerLeases",
    "DescriptorError",
    "EngineGeometry",
    "EnginePair",
    "EngineTransferPlan",
    "GeometryError",
    "IncompatibleEnginesError",
    "Kind",
    "Layout",
    "MemoryTransport",
    "ModelCache",
    "Notification",
    "Part",
    "Placement",
    "ProducerLeases",
    "RequestError",
    "RequestIds",
    "TpMapping",
    "TransferError",
    "TransferRequest",
    "Worker",
    "blocks_per_state",
    "check_engines",
    "meet",
    "notifications_per_producer",
    "plan_transfer",
    "tp_mapping",
]
