"""Cases at the sizes at which a claim fails: what was refuted for all sizes is run at some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import lcm

from oracle.observation.proof import Copying, axis_of
from oracle.proofs.definition import units_of
from oracle.proofs.outcome import Refuted
from oracle.proofs.ways import RANKS, UNITS
from reference.model import CachedGroup, Engine, Transfer, TransferCase
from reference.transfer.admitted import divides_either_way


def sizes_of(case: TransferCase) -> dict[str, int]:
    """The case's own sizes: a counterexample at these is the case itself."""
    units = {
        f"u.{g}.{part.name}": part.unit_bytes
        for g, group in enumerate(case.model.groups)
        for part in group.parts
    }
    paddings = {"w.P": case.producer.page_padding, "w.D": case.consumer.page_padding}
    return units | paddings


def sizes_to_run(case: TransferCase, way: Copying) -> Iterator[dict[str, int]]:
    """Sizes of small topologies in which one rank copies from another in a given way."""
    group = case.model.groups[0]
    for p, d in product(RANKS, RANKS):
        axes = {
            axis_of(group.is_state, part.name): _units(part.always_sharded, way, p, d)
            for part in group.parts
        }
        for units in product(*axes.values()):
            known = {"tp.P": p, "tp.D": d}
            known |= {f"units.{axis}": n for axis, n in zip(axes, units, strict=True)}
            for ranks in product(range(p), range(d)):
                found = [
                    _copied(axis_of(group.is_state, part.name), known, ranks)
                    for part in group.parts
                ]
                read = tuple(
                    part.name for part, at in zip(group.parts, found, strict=True) if at is not None
                )
                if read == way.parts:
                    runs = {name: n for at in found if at is not None for name, n in at.items()}
                    yield from _indices(group, known | runs)


def _units(always: bool, way: Copying, p: int, d: int) -> list[int]:
    """How many units a part may have so that just the sides of `way` hold copies."""
    copied = () if always else way.copied
    return [
        n
        for n in UNITS
        if divides_either_way(n, p)
        and divides_either_way(n, d)
        and ((p > n) == ("P" in copied))
        and ((d > n) == ("D" in copied))
    ]


def _copied(axis: str, known: Mapping[str, int], ranks: tuple[int, int]) -> dict[str, int] | None:
    """Where on both ranks the units lie that one copies from the other; None if none are."""
    n, p = known[f"units.{axis}"], known["tp.P"]
    held = units_of(n, p)
    theirs, ours = held[ranks[0]], units_of(n, known["tp.D"])[ranks[1]]
    common = [unit for unit in ours if unit in theirs]
    facing = [rank for rank in range(p) if _face(rank, ranks[1], p, known["tp.D"])]
    first = next((rank for rank in facing if held[rank] == theirs), None)
    if not common or first != ranks[0]:
        return None
    take, put, count = theirs.index(common[0]), ours.index(common[0]), len(common)
    return {
        f"take.{axis}": take,
        f"left.P.{axis}": len(theirs) - take - count,
        f"put.{axis}": put,
        f"left.D.{axis}": len(ours) - put - count,
        f"x.{axis}": count - 1,
        f"y.{axis}": 0,
    }


def _face(p_rank: int, d_rank: int, p: int, d: int) -> bool:
    """Whether the shares of two ranks overlap."""
    return p_rank * d < (d_rank + 1) * p and d_rank * p < (p_rank + 1) * d


def _indices(group: CachedGroup, sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The same with the last unit or the first in view, and one token or two."""
    for tokens in ((0, 0),) if group.is_state else ((0, 0), (1, 0), (0, 1)):
        for last in (True, False):
            turned = {
                name: sizes[f"x.{name[2:]}"] if name[:2] == "y." else 0
                for name in sizes
                if name[:2] in ("x.", "y.") and not last
            }
            yield {**sizes, **turned, "a": tokens[0], "b": tokens[1]}


def counterexample(case: TransferCase, refuted: Refuted) -> TransferCase:
    """The case at the sizes of a refuted claim, its last block in use: what fails when it is run.

    Blocks are as many as the case's requests name, so that the last of them is one of theirs; wrong
    ids may be right where both sides have as many, so there one has more.
    """
    sizes = refuted.sizes
    if "tp.P" in sizes:
        case = _topology(case, sizes)
    groups = tuple(
        replace(
            group,
            parts=tuple(
                replace(part, unit_bytes=max(1, sizes.get(f"u.{g}.{part.name}", part.unit_bytes)))
                for part in group.parts
            ),
        )
        for g, group in enumerate(case.model.groups)
    )
    used = {
        side: 1
        + max(
            block
            for request in case.requests
            for blocks in getattr(request, f"{side}_blocks")
            for block in blocks
        )
        for side in ("producer", "consumer")
    }
    if refuted.kind == "wrong-id":
        blocks = {"producer": sizes["n.P"], "consumer": sizes["n.D"]}
        most = max(used.values()) - min(blocks.values())
        used = {side: most + n for side, n in blocks.items()}
    return replace(
        case,
        model=replace(case.model, groups=groups),
        producer=replace(
            case.producer, num_blocks=used["producer"], page_padding=sizes.get("w.P", 0)
        ),
        consumer=replace(
            case.consumer, num_blocks=used["consumer"], page_padding=sizes.get("w.D", 0)
        ),
    )


def _topology(case: TransferCase, sizes: Mapping[str, int]) -> TransferCase:
    """The case with the ranks, units and tokens of `sizes`, its blocks full and one more."""
    (group,) = case.model.groups
    parts = tuple(
        replace(part, units=sizes[f"units.{axis_of(group.is_state, part.name)}"])
        for part in group.parts
    )
    group = replace(group, parts=parts)
    unit = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    tokens = 1 + sizes.get("a", 0) + sizes.get("b", 0)

    def engine(of: Engine, tp: int) -> Engine:
        block, kernel = of.block_tokens // unit * tokens, of.kernel_tokens // unit * tokens
        return replace(of, tp=tp, block_tokens=block, kernel_tokens=kernel)

    producer = engine(case.producer, sizes["tp.P"])
    consumer = engine(case.consumer, sizes["tp.D"])
    prompt = lcm(producer.block_tokens, consumer.block_tokens) + 1
    lists = []
    for of in (producer, consumer):
        count = 1 if group.is_state else -(-prompt // of.block_tokens)
        lists.append(tuple(range(count, 0, -1)))
    request = Transfer(
        producer_request="p",
        consumer_request="d",
        prompt_tokens=prompt,
        cached_tokens=0,
        producer_blocks=(lists[0],),
        consumer_blocks=(lists[1],),
    )
    heads = lcm(producer.tp, consumer.tp, *(part.units for part in parts))
    model = replace(case.model, groups=(group,), query_heads=heads)
    return replace(case, model=model, producer=producer, consumer=consumer, requests=(request,))
