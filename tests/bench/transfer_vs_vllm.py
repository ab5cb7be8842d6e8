"""The planner beside vLLM 0.33.0's functions, in one process, interleaved: prints ratios.

Run by hand in an environment that has vllm 0.33.0 (and nixl_cu12, or the descriptor lists are not
prepared); no test imports this. Each pair is timed in turns, the best of each counts, and before
anything is timed both sides must give the same answer.

    PYTHONPATH=. python tests/bench/transfer_vs_vllm.py [--rounds 60]

Exit 1 where a target is missed: ids and mapping against vLLM's, a plan with its lists in 5 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import random
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np

from ir.transfer import (
    EngineGeometry,
    EngineTransferPlan,
    ModelCache,
    TpMapping,
    TransferRequest,
    Worker,
    plan_transfer,
    tp_mapping,
)
from ir.transfer import groups as make
from ir.transfer.descriptors import Grid, ids_of

LAYERS, HEADS, BLOCKS = 80, 8, 20_000
TOKENS = 16
MAP_NORESERVE = 0x4000
"""Of Linux; `mmap` has no name for it before Python 3.13."""
TARGETS = {"ids": 2.0, "mapping": 1.0, "plan": 5.0}


def best(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """The shortest time of each call in ms, called in turns so that noise meets all of them."""
    shortest = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            kept = call()
            shortest[i] = min(shortest[i], time.perf_counter() - start)
            del kept
    return [1e3 * s for s in shortest]


def vllm_functions() -> Any:
    """vLLM's descriptor ids and TP mapping, on the CPU platform."""
    platforms: Any = import_module("vllm.platforms")
    platforms._current_platform = import_module("vllm.platforms.cpu").CpuPlatform()
    transfer = "vllm.distributed.kv_transfer.kv_connector"
    worker = import_module(f"{transfer}.v1.nixl.base_worker").NixlBaseConnectorWorker
    specs = import_module("vllm.v1.kv_cache_interface")
    split = import_module(f"{transfer}.v1.ssm_conv_transfer_utils").MambaConvSplitInfo
    return SimpleNamespace(
        compute_desc_ids=worker._compute_desc_ids,
        compute_tp_mapping=import_module(f"{transfer}.v1.nixl.tp_mapping").compute_tp_mapping,
        TransferTopology=import_module(f"{transfer}.utils").TransferTopology,
        MambaConvSplitInfo=split,
        FullAttentionSpec=specs.FullAttentionSpec,
        MambaSpec=specs.MambaSpec,
    )


def engine(name: str, tp: int, model: ModelCache) -> EngineGeometry:
    return EngineGeometry(
        engine_id=name,
        model=model,
        tp=tp,
        num_blocks=BLOCKS,
        block_tokens=TOKENS,
        kernel_tokens=TOKENS,
    )


def bases(of: EngineGeometry, at: int) -> list[int]:
    found = []
    for stride in of.page_strides(0):
        found.append(at)
        at += stride * of.num_blocks
    return found


def fresh_plan(p: int, d: int, start: int = 1 << 40) -> Callable[[], EngineTransferPlan]:
    """A call that describes both engines and plans, as a handshake does: nothing is kept."""
    attention = make.attention(range(LAYERS), kv_heads=HEADS, head_size=128, itemsize=2)
    model = ModelCache("large", 64, (attention,))
    producer, consumer = engine("P", p, model), engine("D", d, model)
    theirs = {worker: bases(producer, start) for worker in producer.workers}
    ours = bases(consumer, start)

    def call() -> EngineTransferPlan:
        return plan_transfer(
            engine("P", p, model),
            engine("D", d, model),
            Worker(0, 0),
            producer_bases=theirs,
            consumer_bases=ours,
        )

    return call


def stand_in_worker(regions: int) -> SimpleNamespace:
    """What vLLM's method reads of its worker for a model with attention alone."""
    return SimpleNamespace(
        _has_mamba=False,
        _transfer_layer_group_ids=[],
        num_regions=regions,
        block_len_per_layer=[1] * regions,
        region_group_ids=[0] * regions,
        _uses_region_group_mapping=False,
    )


def compare_ids(vllm: Any, rounds: int) -> bool:
    """Ids of 4,096 scattered blocks in 160 regions, from the request's list of block numbers."""
    regions, rng = 2 * LAYERS, random.Random(0)
    theirs, ours = (rng.sample(range(1, BLOCKS), 4096) for _ in range(2))
    worker, grid = stand_in_worker(regions), Grid(BLOCKS, 1, (0,), 1)

    def of_vllm(blocks: list[int]) -> np.ndarray:
        return vllm.compute_desc_ids(worker, (blocks,), BLOCKS, None, 1)

    def of_us(blocks: list[int]) -> np.ndarray:
        return ids_of(grid, np.array(blocks, dtype=np.int64), first=0, pieces=regions)

    if not np.array_equal(of_vllm(theirs), of_us(theirs)):
        sys.exit("the ids differ")
    a, b = best(rounds, lambda: of_vllm(theirs), lambda: of_us(theirs))
    print(f"ids of {regions} regions x 4,096 blocks, one side: {a:.3f} ms and {b:.3f} ms")
    print(f"  {a / b:.2f} times as fast (wanted: {TARGETS['ids']})")
    plan = fresh_plan(4, 4)()
    request = TransferRequest(
        producer_request="p",
        consumer_request="d",
        prompt_tokens=4096 * TOKENS,
        producer_blocks=(tuple(theirs),),
        consumer_blocks=(tuple(ours),),
    )
    (bound,) = plan.bind(request)
    if not np.array_equal(bound.consumer_ids, of_vllm(ours)):
        sys.exit("the bound ids differ")
    c, d = best(rounds, lambda: (of_vllm(theirs), of_vllm(ours)), lambda: plan.bind(request))
    print(f"both sides, ours with every check of the request: {c:.3f} ms and {d:.3f} ms")
    print(f"  {c / d:.2f} times as fast")
    return a / b >= TARGETS["ids"]


def compare_mapping(vllm: Any, rounds: int) -> bool:
    """The mapping of one consumer rank, for pairs on both sides of the KV heads.

    Ours says for each part which units come from which rank. vLLM's says that of attention, and of
    a Mamba-2 convolution for one rank at a time, so that its side asks for every source rank.
    """
    attention = make.attention(range(1), kv_heads=HEADS, head_size=128, itemsize=2)
    mamba = make.mamba2(
        range(1, 2),
        heads=64,
        head_size=64,
        state_size=128,
        n_groups=8,
        conv_columns=3,
        conv_itemsize=2,
        ssm_itemsize=4,
    )
    fine = True
    for name, groups, specs in (
        ("attention", (attention,), (vllm.FullAttentionSpec,)),
        ("attention and Mamba-2", (attention, mamba), (vllm.FullAttentionSpec, vllm.MambaSpec)),
    ):
        for p, d in ((4, 2), (2, 4), (16, 2), (8, 8)):
            a, b = best(rounds * 20, *_mappings(vllm, groups, specs, p, d))
            fine &= a / b >= TARGETS["mapping"]
            print(
                f"mapping of {name}, TP {p} to {d}: {1e3 * a:.1f} us and {1e3 * b:.1f} us, "
                f"{a / b:.2f} times as fast (wanted: {TARGETS['mapping']})"
            )
    return fine


def _mappings(
    vllm: Any, groups: tuple, specs: tuple, p: int, d: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    topology = vllm.TransferTopology(
        tp_rank=d - 1,
        tp_size=d,
        block_size=TOKENS,
        engine_id="D",
        is_mla=False,
        is_mamba=len(specs) > 1,
        total_num_kv_heads=HEADS,
        attn_backends=[],
        # Only asked for where the shape of a tensor tells the layout.
        tensor_shape=None,
    )

    # x, B and C of one consumer rank; the topology's ratio is negative where producers are more.
    channels = (64 * 64 // d, 8 * 128 // d, 8 * 128 // d)
    convolution = vllm.MambaConvSplitInfo(
        conv_rows=3, local_proj_dims=channels, conv_dtype_size=2, ssm_sizes=(1, 1)
    )
    ratio = topology.tp_ratio(p)

    def of_vllm() -> Any:
        mapping = vllm.compute_tp_mapping(topology, p, specs)
        if len(specs) > 1:
            for _ in mapping.source_ranks_per_group[1]:
                convolution.remote_conv_offsets((d - 1) % max(ratio, 1), ratio)
        return mapping

    def of_us() -> TpMapping:
        return tp_mapping(groups, producer_tp=p, consumer_tp=d, consumer_rank=d - 1)

    theirs, ours = of_vllm(), of_us()
    ranks = tuple(ours.ranks_read(g) for g in range(len(groups)))
    if tuple(tuple(r) for r in theirs.source_ranks_per_group) != ranks:
        sys.exit(f"the source ranks differ: {theirs.source_ranks_per_group} and {ranks}")
    return of_vllm, of_us


def time_plan(rounds: int) -> bool:
    """A plan from nothing and its lists prepared by NIXL, where it is installed."""
    nixl = Nixl.here()
    fine = True
    for p, d in ((4, 2), (2, 4), (8, 1)):
        plan_it = fresh_plan(p, d) if nixl is None else fresh_plan(p, d, nixl.start)

        def whole(plan_it: Callable[[], EngineTransferPlan] = plan_it) -> object:
            plan = plan_it()
            if nixl is None:
                return plan
            return [
                nixl.prepare(r) for c in plan.channels for r in (c.consumer_rows, c.producer_rows)
            ]

        (ms,) = best(rounds, whole)
        what = "plan alone (no nixl here)" if nixl is None else "plan and its prepared lists"
        print(
            f"{what} for {LAYERS} layers x {BLOCKS:,} blocks, TP {p} to {d}: {ms:.2f} ms "
            f"(wanted: {TARGETS['plan']:.0f})"
        )
        fine &= ms <= TARGETS["plan"]
    return fine


class Nixl:
    """An agent with so much memory registered that every row of a plan lies in it.

    The memory is address space alone: pages of such a mapping come into being when they are
    touched, which nothing does.
    """

    def __init__(self, agent: Any, memory: mmap.mmap, start: int) -> None:
        self._agent, self._memory, self.start = agent, memory, start

    @classmethod
    def here(cls) -> Nixl | None:
        try:
            from nixl_cu12._api import nixl_agent, nixl_agent_config
        except ImportError:
            return None
        size = 1 << 38
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        memory = mmap.mmap(-1, size, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        agent = nixl_agent("bench", nixl_agent_config(backends=["UCX"]))
        agent.register_memory([(start, size, 0, "")], "DRAM")
        return cls(agent, memory, start)

    def prepare(self, rows: np.ndarray) -> object:
        handle = self._agent.prep_xfer_dlist("NIXL_INIT_AGENT", rows, "DRAM")
        if handle is None:
            sys.exit("nixl prepared no list")
        return handle


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    vllm = vllm_functions()
    print("vLLM 0.33.0 first, ir.transfer second; the best of interleaved calls")
    met = [compare_ids(vllm, rounds), compare_mapping(vllm, rounds), time_plan(rounds)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
