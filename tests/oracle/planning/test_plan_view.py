"""What is shown of a plan is what its descriptors do, and a wrong plan shows as one."""

from dataclasses import replace

import pytest

from fuzz.catalogue.geometries import geometries
from ir.transfer import mapping
from oracle.errors import UsageError
from oracle.planning.options import EngineOptions, PlanOptions
from oracle.planning.view import PlanView, Read
from oracle.subjects import plan_view
from oracle.subjects.plan_view import check_pair, view_of
from reference.transfer import TP_SIZES, admitted_pairs

MODELS = [model.name for model in geometries()]


def _options(model: str, prefill: dict, decode: dict, **request: int) -> PlanOptions:
    return PlanOptions(
        model=model,
        prefill=EngineOptions(name="prefill", **prefill),
        decode=EngineOptions(name="decode", **decode),
        **request,
    )


def _view(model: str, p: int, d: int, **request: int) -> PlanView:
    return view_of(_options(model, {"tp": p}, {"tp": d}, **request))


def _slots(reads: tuple[Read, ...]) -> list[tuple[int, ...]]:
    return [(r.consumer, r.part, r.put, r.producer, r.from_part, r.take, r.count) for r in reads]


def test_nemotron_has_the_check_values_and_reads_each_head_once():
    view = _view("nemotron-3-nano-30b", 4, 1)
    assert view.producer.physical_per_logical == 131
    assert view.consumer.physical_per_logical == 261
    attention, states = view.groups
    assert _slots(attention.patterns[0].reads) == [
        (0, 0, 0, 0, 0, 0, 1),
        (0, 0, 1, 2, 0, 0, 1),
        (0, 1, 0, 0, 1, 0, 1),
        (0, 1, 1, 2, 1, 0, 1),
    ]
    held = {part.name: part.producer_slots for part in states.parts}
    assert held == {"conv.x": 16, "conv.B": 2, "conv.C": 2, "ssm": 16}
    assert _slots(states.patterns[0].reads) == [
        (0, part, rank * slots, rank, part, 0, slots)
        for part, slots in enumerate(held.values())
        for rank in range(4)
    ]
    assert view.ranks[0].notifies == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert view.awaited == tuple(((0, rank), 1) for rank in range(4))


def test_the_bytes_are_those_of_the_tokens_and_states():
    view = _view("nemotron", 4, 1, prompt_tokens=1000, cached_tokens=160)
    # 6 layers of keys and values, 2 heads x 256 bytes, for the 53 units from token 160 on; then 23
    # states of 36,864 and 64 x 64 x 128 x 4 bytes, which are never trimmed.
    tokens = 53 * 16 * 6 * 2 * 2 * 256
    assert view.ranks[0].bytes == tokens + 23 * (36_864 + 2_097_152)


SHAPES = [
    ("llama-3.1-8b", {"tp": 2, "layout": "NHD"}, {"tp": 4, "kernel_tokens": 32}),
    ("gpt-oss", {"tp": 8}, {"tp": 2, "placement": "blocks-first", "pp": 2}),
    ("deepseek", {"tp": 4, "pp": 3}, {"tp": 1, "block_tokens": 64}),
    ("qwen3-next", {"tp": 1}, {"tp": 4}),
    # Some of these stages have no attention.
    ("nemotron", {"tp": 2, "pp": 8}, {"tp": 1, "pp": 4}),
    ("nemotron", {"tp": 16, "pp": 2}, {"tp": 2, "layout": "NHD"}),
]


@pytest.mark.parametrize(("model", "prefill", "decode"), SHAPES)
def test_what_is_counted_is_what_binding_the_request_gives(model: str, prefill, decode):
    options = _options(model, prefill, decode, prompt_tokens=200, cached_tokens=64)
    view = view_of(options)
    producer, consumer = plan_view._engines(plan_view.find_model(model), options)
    request = plan_view._request(producer, consumer, options)
    for plan, rank in zip(plan_view._plans(producer, consumer), view.ranks, strict=True):
        lengths = {
            c.source: c.consumer_rows[:, 1].repeat(c.consumer_rows[:, 4].astype(int))
            for c in plan.channels
        }
        bound = {
            (b.source.stage, b.source.rank): (
                int(lengths[b.source][b.consumer_ids].sum()),
                len(b.consumer_ids),
            )
            for b in plan.bind(request)
        }
        shown = {s.producer: (s.bytes, s.descriptors) for s in rank.sources}
        assert shown == bound


@pytest.mark.parametrize(("model", "prefill", "decode"), SHAPES)
def test_every_slot_is_filled_once_with_the_unit_it_must_hold(model: str, prefill, decode):
    view = view_of(_options(model, prefill, decode, prompt_tokens=100))
    for group in view.groups:
        for pattern in group.patterns:
            filled = [
                (r.consumer, r.part, r.put + i, _unit(group.parts[r.from_part], r) + i)
                for r in pattern.reads
                for i in range(r.count)
            ]
            assert sorted(filled) == [
                (rank, p, slot, rank * part.units // view.consumer.tp + slot)
                for rank in range(view.consumer.tp)
                for p, part in enumerate(group.parts)
                for slot in range(part.consumer_slots)
            ]
            assert all(r.part == r.from_part for r in pattern.reads)
        assert sum(layers for p in group.patterns for _, _, layers in p.stages) == group.layers


def _unit(part, read: Read) -> int:
    return part.producer_first[read.producer] + read.take


@pytest.mark.parametrize(("model", "prefill", "decode"), SHAPES)
def test_tokens_stay_where_they_are_in_the_prompt(model: str, prefill, decode):
    view = view_of(_options(model, prefill, decode, prompt_tokens=500, cached_tokens=64))
    for group in view.groups:
        assert len(group.moves) == min(group.units, 96)
        assert [m.consumer_at for m in group.moves] == [m.producer_at for m in group.moves]
        if not group.is_state:
            first = 64 if group.window is None else max(64, (500 - group.window) // 64 * 64)
            assert group.moves[0].consumer_at >= first
            assert group.moves[-1].consumer_at == 496


def test_a_head_slot_off_by_one_is_shown(monkeypatch):
    sources_of = mapping.sources_of

    def shifted(part, **sizes):
        found = sources_of(part, **sizes)
        return tuple(replace(s, take=s.take + 1) if s.take == 0 else s for s in found)

    right = _slots(_view("llama-3.1-8b", 1, 4).groups[0].patterns[0].reads)
    monkeypatch.setattr(mapping, "sources_of", shifted)
    wrong = _slots(_view("llama-3.1-8b", 1, 4).groups[0].patterns[0].reads)
    assert (right[0], wrong[0]) == ((0, 0, 0, 0, 0, 0, 2), (0, 0, 0, 0, 0, 1, 2))
    assert [r for r, w in zip(right, wrong, strict=True) if r != w] == [right[0], right[1]]


def test_keys_read_from_values_are_shown(monkeypatch):
    from ir.transfer import EngineGeometry

    places = EngineGeometry.places

    def swapped(self, stage, group, layer):
        found = places(self, stage, group, layer)
        return found[::-1] if self.engine_id == "decode" else found

    options = _options("llama-3.1-8b", {"tp": 1}, {"tp": 1})
    producer, consumer = plan_view._engines(plan_view.find_model("llama-3.1-8b"), options)
    request = plan_view._request(producer, consumer, options)
    with monkeypatch.context() as patch:
        patch.setattr(EngineGeometry, "places", swapped)
        plans = plan_view._plans(producer, consumer)
    bound = [(plan, plan.bind(request)) for plan in plans]
    patterns = plan_view.patterns_of(0, bound, request, plan_view.FIRST_ADDRESS)
    assert [(r.part, r.from_part) for r in patterns[0].reads] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("model", MODELS)
def test_every_admitted_pair_up_to_16_is_accepted_and_every_other_refused(model: str):
    accepted = set()
    sizes = [size for size in TP_SIZES[model] if size <= 16]
    for p in range(1, 17):
        for d in range(1, 17):
            try:
                check_pair(_options(model, {"tp": p}, {"tp": d}))
                accepted.add((p, d))
            except UsageError as error:
                said = str(error)
                assert said.startswith(f"{model} from prefill TP {p} to decode TP {d}: engine ")
                for side, tp in (("prefill", p), ("decode", d)):
                    assert (f"engine '{side}': tp is {tp}" in said) == (tp not in sizes)
                assert f"; for {model} {', '.join(map(str, TP_SIZES[model][:-1]))} or " in said
    assert accepted == set(admitted_pairs(model, up_to=16))
    assert len(accepted) == 25


@pytest.mark.parametrize("model", MODELS)
def test_every_admitted_pair_up_to_16_is_planned_and_fills_every_slot(model: str):
    for p, d in admitted_pairs(model, up_to=16):
        view = _view(model, p, d, prompt_tokens=64)
        for group in view.groups:
            (pattern,) = group.patterns
            slots = sum(part.consumer_slots for part in group.parts) * d
            assert sum(r.count for r in pattern.reads) == slots


def test_kernel_blocks_that_do_not_divide_are_refused_by_name():
    options = _options("llama-3.1-8b", {"tp": 1, "kernel_tokens": 24}, {"tp": 1})
    for ask in (check_pair, view_of):
        with pytest.raises(UsageError) as refused:
            ask(options)
        assert str(refused.value) == (
            "Llama-3.1-8B from prefill TP 1 to decode TP 1: producer 'prefill' and consumer "
            "'decode' differ in kernel_tokens: 24 and 16; accepted: one block that divides the "
            "other, such as 24 on both"
        )


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens is 0; accepted: 1 or more"),
        (
            {"cached_tokens": 24},
            "cached_tokens is 24; accepted: a multiple of 16 up to 1024, or all 1024",
        ),
    ],
)
def test_a_request_that_cannot_be_is_refused(request_: dict, said: str):
    with pytest.raises(UsageError) as refused:
        _view("llama-3.1-8b", 1, 2, **request_)
    assert str(refused.value).endswith(f": request 'shown': {said}")


def test_too_few_blocks_for_the_request_are_refused():
    few = _options("llama-3.1-8b", {"tp": 1, "num_blocks": 9}, {"tp": 1})
    with pytest.raises(UsageError, match="full attention is 1 to 64; accepted: 0 to 8, of 9"):
        view_of(few)


def test_a_full_hit_moves_nothing_and_still_notifies():
    view = _view("llama-3.1-8b", 4, 2, cached_tokens=1024)
    assert [rank.bytes for rank in view.ranks] == [0, 0]
    assert [rank.notifies for rank in view.ranks] == [((0, 0), (0, 1)), ((0, 2), (0, 3))]
    assert (view.groups[0].moves, view.groups[0].patterns) == ((), ())
