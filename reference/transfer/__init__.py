"""What a KV transfer means: the unsharded cache, its shards on both sides, and the difference.

Nothing here plans: every byte of an unsharded cache carries a code of its own, both engines'
memories are cut from it by definition, and what a transfer must have done follows by comparison.
"""

from reference.model.transfer import CachedGroup, CachedModel, CachedPart, Engine, Transfer

from .admitted import TP_SIZES, admitted_pairs, topologies
from .codes import MIXED_SENTINEL, POISON, SENTINEL, decode, lane, mixed
from .expectation import ExpectedTransfer, expect_transfer
from .expected import (
    ExpectedTensor,
    consumer_memory,
    expected_memory,
    expected_notifications,
    missing_token,
    producer_memory,
)
from .legal import Refused, refused_pair, refused_request

__all__ = [
    "MIXED_SENTINEL",
    "POISON",
    "SENTINEL",
    "TP_SIZES",
    "CachedGroup",
    "CachedModel",
    "CachedPart",
    "Engine",
    "ExpectedTensor",
    "ExpectedTransfer",
    "Refused",
    "Transfer",
    "admitted_pairs",
    "consumer_memory",
    "decode",
    "expect_transfer",
    "expected_memory",
    "expected_notifications",
    "lane",
    "missing_token",
    "mixed",
    "producer_memory",
    "refused_pair",
    "refused_request",
    "topologies",
]
