"""What engines say when they meet arrives as it was said, or is refused whole."""

import base64
import hashlib
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ir.transfer import Worker
from ir.transfer.nixl.errors import HandshakeError, PeerError
from ir.transfer.nixl.greeting import Endpoint, Greeting, decode, encode, fingerprint
from ir.transfer.nixl.notice import Notice
from ir.transfer.nixl.notice import decode as decode_notice

ROOT = Path(__file__).resolve().parents[4]


def _greeting(transfers, seed: int) -> Greeting:
    rng = random.Random(seed)
    geometry = transfers.random_scenario(seed).producer
    endpoints = {
        worker: Endpoint(
            f"agent {worker.stage} {worker.rank}",
            rng.randbytes(50),
            transfers.bases_of(geometry, worker, start=1 << 63),
        )
        for worker in geometry.workers
    }
    return Greeting(geometry, f"life {seed}", endpoints)


def _signed(body: bytes) -> bytes:
    return hashlib.sha256(body).digest() + body


@pytest.mark.parametrize("seed", range(30))
def test_a_greeting_arrives_as_it_was_sent(transfers, seed: int):
    greeting = _greeting(transfers, seed)
    assert decode(encode(greeting), engine="D") == greeting


@pytest.mark.parametrize("seed", range(30))
def test_a_greeting_with_any_other_byte_is_refused(transfers, seed: int):
    rng, sent = random.Random(seed), bytearray(encode(_greeting(transfers, seed)))
    sent[rng.randrange(len(sent))] ^= 1 << rng.randrange(8)
    with pytest.raises(HandshakeError, match="with another digest; accepted: bytes as they were"):
        decode(bytes(sent), engine="D")


def test_a_greeting_that_breaks_off_is_refused(transfers):
    sent = encode(_greeting(transfers, 0))
    for length in range(0, len(sent), 37):
        with pytest.raises(HandshakeError):
            decode(sent[:length], engine="D")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 2, "got format 2; accepted: 1"),
        ("fingerprint", "0", "got fingerprint 0; accepted: [0-9a-f]{64}"),
        ("endpoints", [], "got endpoints of 0 ranks; accepted: one per rank of"),
        ("geometry", {}, "accepted: a greeting"),
        ("life", None, "None is not a text"),
    ],
)
def test_a_greeting_that_means_nothing_is_refused(transfers, field: str, value, message):
    fields = json.loads(encode(_greeting(transfers, 0))[32:])
    fields[field] = value
    sent = _signed(json.dumps(fields).encode())
    with pytest.raises(HandshakeError, match=message):
        decode(sent, engine="D")


def test_an_impossible_geometry_is_refused_as_a_greeting(transfers):
    fields = json.loads(encode(_greeting(transfers, 0))[32:])
    fields["geometry"]["num_blocks"] = 0
    with pytest.raises(HandshakeError, match="num_blocks is 0; accepted: 1 or more"):
        decode(_signed(json.dumps(fields).encode()), engine="D")


@pytest.mark.parametrize("base", [-1, 1 << 64, 1.0, "1", None, True])
def test_an_address_that_is_none_is_refused(transfers, base: object):
    fields = json.loads(encode(_greeting(transfers, 0))[32:])
    fields["endpoints"][0]["bases"][0] = base
    with pytest.raises(HandshakeError, match="is not a number from 0 to 18446744073709551615"):
        decode(_signed(json.dumps(fields).encode()), engine="D")


def test_metadata_that_is_not_base64_is_refused(transfers):
    fields = json.loads(encode(_greeting(transfers, 0))[32:])
    fields["endpoints"][0]["metadata"] = base64.b64encode(b"abc").decode()[:-1] + "?"
    with pytest.raises(HandshakeError, match="accepted: a greeting"):
        decode(_signed(json.dumps(fields).encode()), engine="D")


def test_a_fingerprint_changes_with_the_geometry(transfers):
    geometry = transfers.random_scenario(0).producer
    padded = replace(geometry, page_padding=geometry.page_padding + 1)
    assert fingerprint(geometry) != fingerprint(padded)


def test_a_notice_arrives_as_it_was_sent():
    notice = Notice(
        kind="wrote", engine="P", worker=Worker(1, 2), life="x", request="p|é", consumer_request="d"
    )
    assert decode_notice(notice.encode()) == notice


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b'["seen", "P", 0, 0, "x", "p", ""]',
        b'["read", 1, 0, 0, "x", "p", ""]',
        b'["read", "P", "0", 0, "x", "p", ""]',
        b'["read", "P", 0, 0, "x", null, ""]',
    ],
)
def test_bytes_that_are_no_notice_are_none(sent: bytes):
    assert decode_notice(sent) is None


MISSING = """
import sys
sys.modules["nixl_cu12"] = sys.modules["nixl_cu13"] = None
import ir.transfer
from ir.transfer.nixl import Cluster
from ir.transfer.nixl.process import EngineProcess
try:
    EngineProcess("p", tls=None, slab_bytes=1 << 12)
except ir.transfer.TransferError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_without_nixl_only_its_use_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", MISSING], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "NixlMissingError nixl: not installed (pip install 'irverify[nixl]')\n"


def test_errors_name_who_met_whom():
    assert str(PeerError("D", "P", "gone", "a peer that lives")) == (
        "engine 'D': peer 'P' is gone; accepted: a peer that lives"
    )
