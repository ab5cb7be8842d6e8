"""The protocol, step by step: two engines in this process, which move when a test says so."""

import os
import pickle
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from ir.transfer import EngineGeometry, ModelCache, RequestError, TransferRequest, Worker
from ir.transfer import groups as make
from ir.transfer.nixl.engine import Engine
from ir.transfer.nixl.errors import HandshakeError, PeerError, StillLandingError
from ir.transfer.nixl.memory_port import MemoryPort, Network
from ir.transfer.nixl.notice import Notice
from ir.transfer.nixl.outcome import Status
from ir.transfer.nixl.port import Port, Vets
from ir.transfer.nixl.rank_agent import RankAgent, Vetting
from ir.transfer.nixl.side_channel import SideChannel

GROUP = make.attention([0], kv_heads=2, head_size=4, itemsize=1)
MODEL = ModelCache("m", 2, (GROUP,))
REQUEST = TransferRequest(
    producer_request="p",
    consumer_request="d",
    prompt_tokens=6,
    producer_blocks=((1, 2),),
    consumer_blocks=((3, 1),),
)


@dataclass(slots=True)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Side:
    """One engine with memory of its own."""

    def __init__(self, name: str, tp: int, clock: Clock, network: Network | None) -> None:
        self.geometry = EngineGeometry(
            engine_id=name, model=MODEL, tp=tp, num_blocks=5, block_tokens=4, kernel_tokens=4
        )
        self.memory = {
            w: [np.zeros((5, n), dtype=np.uint8) for n in self.geometry.page_strides(0)]
            for w in self.geometry.workers
        }
        self.agents: dict[Worker, Port] = {}
        for w in self.geometry.workers:
            own = f"{name}{w.rank}"
            self.agents[w] = RankAgent(own) if network is None else MemoryPort(own, network)
        for w, agent in self.agents.items():
            agent.register([(t.ctypes.data, t.nbytes) for t in self.memory[w]])
        self.channel = SideChannel()
        self.vetting: Vets = network or Vetting(f"{name}/vetting")
        self.clock = clock
        self.live("first")

    def live(self, life: str) -> None:
        self.engine = Engine(
            self.geometry,
            agents=self.agents,
            bases={w: tuple(t.ctypes.data for t in of) for w, of in self.memory.items()},
            life=life,
            channel=self.channel,
            vetting=self.vetting,
            clock=self.clock,
        )


@dataclass(slots=True)
class Sides:
    p: Side
    d: Side
    clock: Clock

    def until(self, holds: Callable[[], bool], *, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            self.p.engine.step()
            self.d.engine.step()
            assert time.monotonic() < deadline

    def meet(self) -> None:
        before = self.p.engine.greeting.life
        self.d.engine.call(self.p.channel.port, seconds=5)
        self.until(lambda: self.d.engine.snapshot().producers.get("P") == before)
        self.until(lambda: "D" in self.p.engine.snapshot().consumers)

    def rest(self) -> None:
        """Steps in which a notification would have arrived."""
        for _ in range(50):
            self.p.engine.step()
            self.d.engine.step()
            time.sleep(0.001)

    @property
    def lost(self) -> tuple[bool, bool]:
        """Whether each side knows that the other is gone."""
        links = (self.p.engine._consumers["D"], self.d.engine._producers["P"])
        return links[0].gone_at is not None, links[1].gone_at is not None

    def landing(self, request: str = "d") -> bool:
        return self.d.engine.snapshot().receipts[request][2]

    def held(self) -> tuple[str, ...]:
        return self.p.engine.snapshot().held

    def notice(self, rank: int, **changed: str) -> Notice:
        life = self.p.engine.greeting.life
        notice = Notice(kind="read", engine="D", worker=Worker(0, rank), life=life, request="p")
        return replace(notice, **changed)

    def tell(self, rank: int, notice: bytes) -> None:
        self.d.agents[Worker(0, rank)].notify("P0", notice)


@pytest.fixture(params=["memory", "nixl"])
def sides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sides]:
    """A producer of TP 1 and a consumer of TP 2, already met, over either transport."""
    network = Network()
    if request.param == "nixl":
        request.getfixturevalue("nixl")
        network = None
    monkeypatch.setitem(os.environ, "UCX_LOG_LEVEL", "fatal")
    monkeypatch.setitem(os.environ, "NIXL_LOG_LEVEL", "FATAL")
    clock = Clock()
    both = Sides(Side("P", 1, clock, network), Side("D", 2, clock, network), clock)
    for tensor in both.p.memory[Worker(0, 0)]:
        tensor[:] = np.arange(1, 1 + tensor.size, dtype=np.uint8).reshape(tensor.shape)
    both.meet()
    yield both
    for side in (both.p, both.d):
        side.channel.close()
        for agent in side.agents.values():
            agent.register([])


def test_a_pull_is_done_when_it_was_seen_to_be(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE
    sides.until(lambda: not sides.held())
    source = sides.p.memory[Worker(0, 0)][0]
    for rank in (0, 1):
        half = slice(16 * rank, 16 * rank + 16)
        assert (sides.d.memory[Worker(0, rank)][0][[3, 1]] == source[[1, 2], half]).all()
    assert sides.p.engine.snapshot().read == {
        (Worker(0, 0), Worker(0, rank), "p"): 1 for rank in (0, 1)
    }


def test_what_is_done_after_its_deadline_is_late(sides: Sides):
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.clock.now = 5.1
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DEADLINE


def test_an_aborted_request_keeps_its_blocks_until_its_data_has_landed(sides: Sides):
    sides.d.engine.pull("P", REQUEST, seconds=5)
    assert sides.d.engine.abort("d") is False
    again = replace(REQUEST, consumer_request="e")
    with pytest.raises(RequestError, match=r"consumer blocks is \[\(0, 1\), \(0, 3\)\] of 'd'"):
        sides.d.engine.pull("P", again, seconds=5)
    elsewhere = replace(again, consumer_blocks=((2, 4),))
    sides.d.engine.pull("P", elsewhere, seconds=5)
    sides.until(lambda: not sides.landing() and not sides.landing("e"))
    assert sides.d.engine.status("d") is Status.ABORTED
    assert sides.d.engine.status("e") is Status.DONE
    sides.d.engine.pull("P", replace(REQUEST, consumer_request="f"), seconds=5)


def test_an_aborted_request_still_frees_the_producers_blocks(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.d.engine.abort("d")
    assert sides.held() == ("p",)
    sides.until(lambda: not sides.held())


def test_a_cached_prefix_may_be_shared_with_a_request_that_lands(sides: Sides):
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sharing = replace(REQUEST, consumer_request="e", cached_tokens=4, consumer_blocks=((3, 2),))
    sides.d.engine.pull("P", sharing, seconds=5)
    sides.until(lambda: not sides.landing("e"))
    assert sides.d.engine.status("e") is Status.DONE


def test_an_id_is_used_once(sides: Sides):
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    with pytest.raises(RequestError, match="its id is known already"):
        sides.d.engine.pull("P", REQUEST, seconds=5)


def test_a_bad_request_fails_alone(sides: Sides):
    with pytest.raises(RequestError, match="accepted: 0 to 4"):
        sides.d.engine.pull("P", replace(REQUEST, consumer_blocks=((3, 9),)), seconds=5)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE


def test_blocks_are_held_until_every_consumer_rank_has_told(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    sides.tell(0, sides.notice(0).encode())
    sides.tell(0, sides.notice(0).encode())
    sides.rest()
    assert sides.held() == ("p",)
    sides.tell(1, sides.notice(1).encode())
    sides.until(lambda: not sides.held())


@pytest.mark.parametrize(
    "changed",
    [{"life": "zeroth"}, {"engine": "E"}, {"request": "d"}, {"kind": "wrote"}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_notification_of_something_else_frees_nothing(sides: Sides, changed: dict[str, str]):
    sides.p.engine.hold("D", "p", seconds=9)
    for rank in (0, 1):
        sides.tell(rank, sides.notice(rank, **changed).encode())
    sides.rest()
    assert sides.held() == ("p",)


def test_a_rank_cannot_speak_for_another(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    for rank in (0, 1):
        sides.tell(0, sides.notice(rank).encode())
    sides.rest()
    assert sides.held() == ("p",)
    assert sides.p.engine.snapshot().strays == 1


def test_a_garbled_notification_costs_nothing(sides: Sides):
    sides.tell(0, b"\xff\x00 what")
    sides.until(lambda: sides.p.engine.snapshot().strays == 1)
    sides.p.engine.hold("D", "p", seconds=9)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.held())


def test_a_lease_expires_once(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    with pytest.raises(RequestError, match="held already"):
        sides.p.engine.hold("D", "p", seconds=9)
    sides.clock.now = 9.1
    sides.rest()
    assert sides.held() == ()


def test_a_released_request_is_free_at_once(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    sides.p.engine.release("p")
    assert sides.held() == ()
    sides.p.engine.release("p")


def test_a_released_push_is_free_when_its_writes_have_ended(sides: Sides):
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.p.engine.push("D", REQUEST, seconds=9)
    sides.p.engine.release("p")
    assert sides.held() == ("p",)
    assert sides.p.engine.writing
    sides.until(lambda: not sides.held())
    assert not sides.p.engine.writing


def test_a_push_is_done_when_all_producers_have_told(sides: Sides):
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.p.engine.push("D", REQUEST, seconds=9)
    assert sides.held() == ("p",)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE
    sides.until(lambda: not sides.held())
    assert (sides.d.memory[Worker(0, 0)][1][1] == sides.p.memory[Worker(0, 0)][1][2, :16]).all()


def test_an_expected_request_that_nobody_writes_is_late_and_in_quarantine(sides: Sides):
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.clock.now = 5.1
    sides.rest()
    assert sides.d.engine.status("d") is Status.DEADLINE
    assert sides.landing()


def test_a_peer_that_hangs_up_ends_what_it_was_to_send(sides: Sides):
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.p.channel.hang_up()
    sides.until(lambda: sides.d.engine.status("d") is Status.FAILED)
    assert sides.landing()
    sides.clock.now = 1.0
    sides.until(lambda: not sides.landing())
    with pytest.raises(PeerError, match="peer 'P' is gone; accepted: a peer that lives"):
        sides.d.engine.pull("P", replace(REQUEST, consumer_request="e"), seconds=5)


@pytest.mark.parametrize("sides", ["memory"], indirect=True)
def test_a_read_from_a_peer_that_hung_up_stays_in_quarantine_until_it_ends(sides: Sides):
    def lag(times: int) -> None:
        for agent in sides.d.agents.values():
            assert isinstance(agent, MemoryPort)
            agent.lag = times

    # How many steps the news of the end takes is up to the threads that bring it.
    lag(sys.maxsize)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.p.channel.hang_up()
    sides.until(lambda: sides.d.engine.status("d") is Status.FAILED)
    sides.clock.now = 100.0
    sides.rest()
    assert sides.landing()
    lag(1)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.FAILED


def test_a_consumer_that_hung_up_may_come_back(sides: Sides):
    sides.d.channel.hang_up()
    sides.until(lambda: sides.lost == (True, True))
    with pytest.raises(PeerError, match="peer 'D' is gone"):
        sides.p.engine.hold("D", "p", seconds=9)
    sides.d.engine.call(sides.p.channel.port, seconds=5)
    sides.until(lambda: sides.lost == (False, False))
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.p.engine.push("D", REQUEST, seconds=9)
    sides.until(lambda: not sides.landing() and not sides.held())
    assert sides.d.engine.status("d") is Status.DONE


def test_a_consumer_that_hangs_up_frees_what_was_held_for_it(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    sides.d.channel.hang_up()
    sides.until(lambda: not sides.held())


def test_a_new_life_is_met_only_when_the_old_has_no_data_to_land(sides: Sides):
    sides.d.engine.expect("P", REQUEST, seconds=5)
    sides.p.live("second")
    port = sides.p.channel.port
    sides.d.engine.call(port, seconds=5)
    sides.until(lambda: port in sides.d.engine.snapshot().refused)
    refused = sides.d.engine.snapshot().refused[port]
    assert isinstance(refused, StillLandingError)
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused)
    assert sides.d.engine.snapshot().producers == {"P": "first"}
    assert sides.d.engine.awaits(refused.producer)
    sides.p.channel.hang_up()
    sides.until(lambda: sides.d.engine.status("d") is Status.FAILED)
    sides.clock.now = 1.0
    sides.until(lambda: not sides.d.engine.awaits("P"))
    sides.d.engine.call(port, seconds=5)
    sides.until(lambda: sides.d.engine.answer(port) == "P")
    assert sides.d.engine.life_of("P") == "second"


@pytest.mark.parametrize("said", [b"", b"not a greeting"], ids=["nothing", "no greeting"])
def test_a_line_whose_greeting_is_refused_is_closed(sides: Sides, said: bytes):
    sides.p.channel.greeting = said
    port = sides.p.channel.port
    before = threading.active_count()
    for _ in range(5):
        sides.d.engine.call(port, seconds=5)
        with pytest.raises(HandshakeError):
            sides.until(lambda: sides.d.engine.answer(port) is not None)
    sides.until(lambda: (sides.d.channel.open_lines, sides.p.channel.open_lines) == (1, 1))
    sides.until(lambda: threading.active_count() <= before)
    assert sides.lost == (False, False)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE


def test_a_caller_whose_greeting_is_refused_is_hung_up_on(sides: Sides):
    with socket.create_connection(("127.0.0.1", sides.p.channel.port), timeout=5) as line:
        line.sendall(b"\x00\x00\x00\x02ab")
        got = bytearray()
        deadline = time.monotonic() + 5
        while part := line.recv(1 << 16) if select.select([line], [], [], 0.01)[0] else b"-":
            sides.p.engine.step()
            got += part.strip(b"-")
            assert time.monotonic() < deadline
    assert sides.p.channel.greeting in got


def test_a_producer_that_is_met_again_keeps_its_requests_and_one_line(sides: Sides):
    for agent in sides.d.agents.values():
        if isinstance(agent, MemoryPort):
            agent.lag = 20
    sides.p.engine.hold("D", "p", seconds=9)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    port = sides.p.channel.port
    for _ in range(3):
        sides.d.engine.call(port, seconds=5)
        assert sides.d.engine.answer(port) is None
        sides.until(lambda: sides.d.engine.answer(port) == "P")
    sides.until(lambda: (sides.d.channel.open_lines, sides.p.channel.open_lines) == (1, 1))
    sides.until(lambda: not sides.held())
    assert sides.lost == (False, False)
    assert sides.d.engine.status("d") is Status.DONE
    assert sides.p.engine.let_go() == {"p": True}


def test_nobody_at_a_port_is_a_refusal(sides: Sides):
    sides.p.channel.close()
    port = sides.p.channel.port
    sides.d.engine.call(port, seconds=1)
    sides.until(lambda: port in sides.d.engine.snapshot().refused)
    assert "accepted: a greeting in time" in str(sides.d.engine.snapshot().refused[port])


def test_a_peer_that_never_answers_costs_others_nothing(sides: Sides):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sides.d.engine.call(port, seconds=0.3)
        sides.d.engine.pull("P", REQUEST, seconds=5)
        sides.until(lambda: not sides.landing())
        assert sides.d.engine.status("d") is Status.DONE
        sides.until(lambda: port in sides.d.engine.snapshot().refused)
    assert "timed out; accepted: a greeting in time" in str(sides.d.engine.snapshot().refused[port])


def test_a_caller_that_says_nothing_sensible_costs_others_nothing(sides: Sides):
    for said in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x00\x00\x00\x02ab"):
        with socket.create_connection(("127.0.0.1", sides.p.channel.port)) as line:
            line.sendall(said)
    sides.rest()
    assert set(sides.p.engine.snapshot().consumers) == {"D"}
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE


def test_a_forgotten_id_may_come_again(sides: Sides):
    sides.d.engine.pull("P", REQUEST, seconds=5)
    with pytest.raises(RequestError, match="its data is landing; accepted: a request that"):
        sides.d.engine.forget("d")
    sides.until(lambda: not sides.landing())
    sides.d.engine.forget("d")
    with pytest.raises(RequestError, match="its data is unknown"):
        sides.d.engine.forget("d")
    sides.d.engine.pull("P", REQUEST, seconds=5)
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.DONE


def test_an_unknown_peer_is_refused(sides: Sides):
    with pytest.raises(PeerError, match=r"peer 'X' is unknown; accepted: one of \['P'\]"):
        sides.d.engine.pull("X", REQUEST, seconds=5)
    with pytest.raises(PeerError, match=r"peer 'X' is unknown; accepted: one of \['D'\]"):
        sides.p.engine.hold("X", "p", seconds=5)


@pytest.mark.parametrize("sides", ["memory"], indirect=True)
def test_a_producer_that_vanishes_costs_the_requests_it_was_to_send(sides: Sides):
    network = sides.d.vetting
    assert isinstance(network, Network)
    sides.d.engine.pull("P", REQUEST, seconds=5)
    del network.ports["P0"]
    sides.until(lambda: not sides.landing())
    assert sides.d.engine.status("d") is Status.FAILED
    assert not any(t.any() for of in sides.d.memory.values() for t in of)


def test_a_hold_is_let_go_as_read_only_where_every_rank_has_it(sides: Sides):
    sides.p.engine.hold("D", "p", seconds=9)
    assert sides.p.engine.let_go() == {}
    sides.d.engine.pull("P", REQUEST, seconds=9)
    sides.until(lambda: not sides.held())
    assert sides.p.engine.let_go() == {"p": True}
    assert sides.p.engine.let_go() == {}
    sides.p.engine.hold("D", "half", seconds=9)
    sides.tell(0, sides.notice(0, request="half").encode())
    sides.rest()
    sides.clock.now = 10
    sides.until(lambda: not sides.held())
    sides.p.engine.hold("D", "released", seconds=9)
    sides.p.engine.release("released")
    assert sides.p.engine.let_go() == {"half": False, "released": False}


def test_a_call_is_answered_by_the_name_of_who_listens(sides: Sides):
    port = sides.p.channel.port
    assert sides.d.engine.answer(port) == "P"
    assert sides.d.engine.life_of("P") == "first"
    sides.d.engine.call(1, seconds=5)
    with pytest.raises(HandshakeError, match="a greeting in time"):
        sides.until(lambda: sides.d.engine.answer(1) is not None)
    assert sides.d.engine.answer(port) == "P"
    with pytest.raises(PeerError, match="peer 'X' is unknown"):
        sides.d.engine.life_of("X")
