"""Engines in processes of their own: prefill on one, decode on the other, through real NIXL."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ir.connector import ConnectorError, ModelSize, NotStagedError, PagedModel, Runner, Scheduler
from ir.connector import nixl as package
from ir.connector.nixl import EngineSetup, Role, ServedEngine, serve_apart
from ir.transfer import IncompatibleEnginesError
from ir.transfer.nixl import PeerError

TOKENS = 4
PROMPTS = {"r0": (1, 2, 3, 4, 5), "r1": (7, 8, 9, 10, 11, 12, 13, 14), "r2": (3, 3)}
P = EngineSetup(engine_id="P", role=Role.PRODUCER, seed=1, size=ModelSize(blocks=64))
D = replace(P, engine_id="D", role=Role.CONSUMER)
TLS = {"default": None, "tcp": "tcp,self"}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nixl")]


@pytest.fixture(params=TLS)
def tls(request: pytest.FixtureRequest) -> str | None:
    return TLS[request.param]


@pytest.fixture
def pair(tls: str | None) -> Iterator[tuple[ServedEngine, ServedEngine]]:
    """A producer of TP 2 and a consumer of TP 1, which have met and used their connection."""
    with ServedEngine(replace(P, tp=2), tls=tls) as p, ServedEngine(D, tls=tls) as d:
        d.meet(p)
        warm = {"warm": (9, 9, 9)}
        assert serve_apart(p, d, warm, tokens=TOKENS).done == alone(warm)
        yield p, d


def alone(prompts: dict[str, tuple[int, ...]], size: ModelSize = P.size) -> dict[str, list[int]]:
    """Tokens of one engine that does it all, without a connector."""
    runner, scheduler = Runner(PagedModel(size, seed=P.seed)), Scheduler(size, None, rows=16)
    done: dict[str, list[int]] = {}
    for name, prompt in prompts.items():
        scheduler.add(name, prompt, tokens=TOKENS)
    while not scheduler.idle:
        result = runner.step(scheduler.step())
        # Ranks add in another order: no token may hang on a rounding.
        best = result.logits.topk(2).values
        assert bool((best[:, 0] - best[:, 1] > 1e-3).all())
        done.update(scheduler.update(result.tokens, result.failed))
    return done


def eventually(holds, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("tp", [(2, 1), (1, 2), (4, 2)], ids=lambda tp: f"{tp[0]}to{tp[1]}")
def test_tokens_are_those_of_one_engine_and_kv_is_the_producers_byte_for_byte(tp, tls):
    p_setup, d_setup = replace(P, tp=tp[0]), replace(D, tp=tp[1])
    with ServedEngine(p_setup, tls=tls) as p, ServedEngine(d_setup, tls=tls) as d:
        d.meet(p)
        free = p.free_blocks(), d.free_blocks()
        served = serve_apart(p, d, PROMPTS, tokens=TOKENS)
        assert (served.done, served.failed) == (alone(PROMPTS), {})
        assert (served.handed_over, served.computed) == (PROMPTS.keys(), frozenset())
        assert p.served().computed == PROMPTS.keys()
        for name, prompt in PROMPTS.items():
            # The consumer computes the last token of a prompt again.
            theirs, ours = (engine.kv(name, len(prompt) - 1) for engine in (p, d))
            assert any(half.any() for half in theirs)
            assert all(map(np.array_equal, theirs, ours))
        assert eventually(lambda: p.served().sent == PROMPTS.keys())
        assert eventually(lambda: (p.free_blocks(), d.free_blocks()) == free)


def test_a_producer_killed_while_it_sends_costs_its_requests_alone(pair):
    p, d = pair
    free = d.free_blocks()
    p.add("r1", PROMPTS["r1"], tokens=1)
    p.finish()
    d.accept(p.offer("r1", consumer="D"))
    # A producer that stands still answers no read: it is killed while one is under way.
    p.process.stop()
    for name, prompt in PROMPTS.items():
        d.process.send("add", request=name, prompt=prompt, tokens=TOKENS)
    p.process.kill()
    for _ in PROMPTS:
        d.process.answer()
    served = d.finish()
    assert served.failed.keys() == {"r1"}
    assert "gone" in served.failed["r1"] or "DISCONNECT" in served.failed["r1"]
    rest = {name: tokens for name, tokens in alone(PROMPTS).items() if name != "r1"}
    assert {name: t for name, t in served.done.items() if name in PROMPTS} == rest
    assert eventually(lambda: d.free_blocks() == free)
    p.restart()
    d.meet(p)
    again = serve_apart(p, d, {"again": PROMPTS["r1"]}, tokens=TOKENS)
    assert again.done["again"] == alone({"again": PROMPTS["r1"]})["again"]


def test_a_producer_killed_before_it_is_asked_costs_its_requests_alone(pair):
    p, d = pair
    for name in ("r0", "r1"):
        p.add(name, PROMPTS[name], tokens=1)
    p.finish()
    for name in ("r0", "r1"):
        d.accept(p.offer(name, consumer="D"))
    p.process.kill()
    for name, prompt in PROMPTS.items():
        d.add(name, prompt, tokens=TOKENS)
    served = d.finish()
    assert served.failed.keys() == {"r0", "r1"}
    assert all("gone" in why or "DISCONNECT" in why for why in served.failed.values())
    assert served.done["r2"] == alone(PROMPTS)["r2"]


def test_what_is_not_staged_is_computed_and_said_to_be(tls):
    with ServedEngine(replace(P, blocks=2), tls=tls) as p, ServedEngine(D, tls=tls) as d:
        d.meet(p)
        prompts = {name: PROMPTS[name] for name in ("r1", "r2")}
        served = serve_apart(p, d, prompts, tokens=TOKENS)
        assert (served.done, served.failed) == (alone(prompts), {})
        assert (served.handed_over, served.computed) == ({"r1"}, {"r2"})
        with pytest.raises(NotStagedError, match="request 'r2' is not there"):
            p.offer("r2", consumer="D")


def test_engines_whose_roles_let_nothing_go_over_are_refused():
    with ServedEngine(P) as p, ServedEngine(D) as d:
        d.meet(p)
        refusal = "the role of prefilling engine 'D' is consumer; accepted: producer or both"
        with pytest.raises(ConnectorError, match=refusal):
            serve_apart(d, d, PROMPTS, tokens=TOKENS)
        refusal = "the role of decoding engine 'P' is producer; accepted: consumer or both"
        with pytest.raises(ConnectorError, match=refusal):
            serve_apart(p, p, PROMPTS, tokens=TOKENS)
        assert p.served().computed == frozenset()


def test_a_producer_that_stands_still_costs_a_deadline_and_its_late_data_nobody(tls):
    hasty = replace(D, seconds=0.5)
    with ServedEngine(replace(P, tp=2), tls=tls) as p, ServedEngine(hasty, tls=tls) as d:
        d.meet(p)
        serve_apart(p, d, {"warm": (9, 9, 9)}, tokens=TOKENS)
        free = d.free_blocks()
        p.add("r1", PROMPTS["r1"], tokens=1)
        p.finish()
        d.accept(p.offer("r1", consumer="D"))
        p.process.stop()
        d.add("r1", PROMPTS["r1"], tokens=TOKENS)
        served = d.finish()
        assert served.failed == {"r1": "its deadline has passed"}
        assert d.free_blocks() == free - 2
        others = {name: prompt for name, prompt in PROMPTS.items() if name != "r1"}
        for name, prompt in others.items():
            d.add(name, prompt, tokens=TOKENS)
        p.process.resume()
        done = d.finish().done
        assert {name: done[name] for name in others} == alone(others)
        assert eventually(lambda: d.free_blocks() == free)
        again = serve_apart(p, d, {"again": PROMPTS["r1"]}, tokens=TOKENS)
        assert again.done["again"] == alone({"again": PROMPTS["r1"]})["again"]


def shared_memory(pid: int) -> set[str]:
    """What a process has mapped that could outlive it: files of /dev/shm, System V segments."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = set(re.findall(r"/dev/shm/\S+", maps))
    return found | {f"sysv {i}" for i in re.findall(r"(\d+)\s+/SYSV", maps)}


def left_over(shared: set[str]) -> set[str]:
    segments = {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
    return {
        name
        for name in shared
        if (name[5:] in segments if name.startswith("sysv ") else Path(name).exists())
    }


def test_nothing_is_left_of_engines(pair, tls: str | None):
    shared = set().union(*(shared_memory(engine.process.pid) for engine in pair))
    pids = [engine.process.pid for engine in pair]
    for engine in pair:
        engine.process.kill() if tls else engine.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert left_over(shared) == set()


def test_an_unlike_engine_is_refused_when_they_meet():
    other = replace(D, size=replace(D.size, heads=2))
    with ServedEngine(P) as p, ServedEngine(other) as d:
        with pytest.raises(IncompatibleEnginesError, match="producer 'P' and consumer 'D' differ"):
            d.meet(p)
        p.add("r0", (1, 2), tokens=1)
        p.finish()
        with pytest.raises(PeerError, match="peer 'D' is unknown"):
            p.offer("r0", consumer="D")


def test_a_setup_that_is_refused_leaves_no_process():
    before = children()
    with pytest.raises(ConnectorError, match="tp is 3; accepted: a divisor of the 4 heads"):
        ServedEngine(replace(P, tp=3))
    assert children() == before


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_the_example_in_the_docstring_runs():
    example = str(package.__doc__).split("\n\n", 1)[1]
    names = {name: getattr(package, name) for name in package.__all__}
    exec(compile(example, "example", "exec"), names)
    served = names["served"]
    assert (list(served.done), served.failed) == (["r0"], {})
