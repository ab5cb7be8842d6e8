"""What a KV transfer means: the unsharded cache, its shards on both sides, and the difference.

Nothing here plans: every byte of an unsharded cache carries a code of its own, both engines'
memories are cut from it by definition, and what a transfer must have done follows by comparison.
"""

from .admitted import TP_SIZES, admitted_pairs, topologies
from .codes import POISON, SENTINEL, decode, lane
from .expected import (
    ExpectedTensor,
    consumer_memory,
    expected_memory,
    expected_notifications,
    missing_token,
    producer_memory,
)
from .geometry import CachedGroup, CachedPart, Engine, Transfer

__all__ = [
    "POISON",
    "SENTINEL",
    "TP_SIZES",
    "CachedGroup",
    "CachedPart",
    "Engine",
    "ExpectedTensor",
    "Transfer",
    "admitted_pairs",
    "consumer_memory",
    "decode",
    "expected_memory",
    "expected_notifications",
    "lane",
    "missing_token",
    "producer_memory",
    "topologies",
]
