"""A drawn plan shows the view: a box for each slot, a band for each read, nothing from outside."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from oracle.planning.block_strips import blocks, loads
from oracle.planning.options import EngineOptions, PlanOptions
from oracle.planning.shapes import Band, Figure
from oracle.planning.slot_strips import heads
from oracle.planning.view import PlanView
from oracle.reports.plan_html import HUES, hue, plan_to_html
from oracle.subjects.plan_view import view_of


def _view(model: str, p: int, d: int, **request: int) -> PlanView:
    return view_of(
        PlanOptions(
            model=model,
            prefill=EngineOptions(name="prefill", tp=p),
            decode=EngineOptions(name="decode", tp=d),
            **request,
        )
    )


def _heads(plan: PlanView, group: int = 0) -> Figure:
    return heads(plan, plan.groups[group], plan.groups[group].patterns[0])


def _ends(band: Band) -> tuple[float, float, float, float]:
    """Left and right of a band's upper end, then of its lower one."""
    n = [float(x) for x in re.findall(r"[0-9.]+", band.path)]
    return n[0], n[13], n[6], n[8]


@pytest.mark.parametrize(("p", "d"), [(4, 1), (1, 8), (16, 16)])
def test_a_band_ends_on_the_slots_that_its_title_names(p: int, d: int):
    plan = _view("qwen3-30b-a3b", p, d)
    figure = _heads(plan)
    part, pattern = plan.groups[0].parts[0], plan.groups[0].patterns[0]
    top = min(box.y for box in figure.boxes)
    upper = {(b.title.partition(":")[0]): b for b in figure.boxes if b.y == top}
    lower = {(b.title.partition(":")[0]): b for b in figure.boxes if b.y != top}
    assert (len(upper), len(lower)) == (2 * p * part.producer_slots, 2 * d * part.consumer_slots)
    for band, read in zip(figure.bands, pattern.reads, strict=True):
        name = plan.groups[0].parts[read.part].name
        taken = upper[f"prefill rank {read.producer}, {name} slot {read.take}"]
        put = lower[f"decode rank {read.consumer}, {name} slot {read.put}"]
        x, right, to, to_right = _ends(band)
        assert (x, to) == pytest.approx((taken.x, put.x), abs=0.06)
        widths = (read.count * taken.width, read.count * put.width)
        assert (right - x, to_right - to) == pytest.approx(widths, abs=0.11)
        assert band.colour == taken.colour == put.colour == f"o{read.producer}"


def test_no_two_boxes_of_a_row_overlap_and_all_lie_inside():
    for group in (0, 1):
        figure = _heads(_view("nemotron", 16, 4), group)
        for y in {box.y for box in figure.boxes}:
            row = sorted((box.x, box.x + box.width) for box in figure.boxes if box.y == y)
            assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(row))
            assert row[0][0] >= 0
            assert row[-1][1] <= figure.width


def test_what_is_not_read_is_drawn_unlike_what_is():
    figure = _heads(_view("deepseek", 4, 1))
    assert Counter(box.style for box in figure.boxes) == {"": 2, "idle": 3}
    assert [box.title for box in figure.boxes if box.style == "idle"] == [
        f"prefill rank {rank}, latent slot 0: unit 0; not read" for rank in (1, 2, 3)
    ]


def test_a_slot_that_nothing_fills_is_drawn_empty():
    plan = _view("llama-3.1-8b", 2, 1)
    group = plan.groups[0]
    pattern = replace(group.patterns[0], reads=group.patterns[0].reads[:1])
    figure = heads(plan, group, pattern)
    empty = [box.title for box in figure.boxes if box.style == "empty"]
    assert len(empty) == 12
    assert empty[0] == "decode rank 0, k slot 4: nothing is written here"


def test_blocks_are_drawn_at_their_tokens():
    plan = _view("llama-3.1-8b", 1, 1, prompt_tokens=100, cached_tokens=32)
    figure = blocks(plan, plan.groups[0])
    titles = [box.title for box in figure.boxes]
    assert titles[:2] == ["prefill block 3: tokens 32 to 47", "prefill block 4: tokens 48 to 63"]
    assert "tokens 96 to 111: prefill block 7 to decode block 7" in titles
    assert titles[-1] == "decode has the tokens before 32 already"
    assert len(figure.bands) == 5
    assert {label.text for label in figure.labels} >= {"prompt ends at 100", "cached up to 32"}


def test_bars_are_as_long_as_the_bytes_they_stand_for():
    figure = loads(_view("nemotron", 4, 1))
    sizes = [int(re.findall(r"([0-9,]+) bytes", b.title)[0].replace(",", "")) for b in figure.boxes]
    scale = figure.boxes[0].width / sizes[0]
    assert [box.width / scale for box in figure.boxes] == pytest.approx(sizes)


def test_ranks_have_hues_of_their_own():
    assert [hue(rank, 4) for rank in range(4)] == list(HUES[:4])
    assert len({hue(rank, 16) for rank in range(16)}) == 16


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [f"{n}={v}" for n, v in attrs if n in ("src", "href", "xlink:href")]


@pytest.mark.parametrize("cached", [0, 1024])
def test_the_page_needs_nothing_from_outside(cached: int):
    text = plan_to_html(_view("gemma-3", 4, 8, cached_tokens=cached))
    page = _Page()
    page.feed(text)
    assert (page.links, page.tags["script"], page.tags["link"], page.tags["img"]) == ([], 0, 0, 0)
    assert "http" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert ("Nothing is read" in text) == bool(cached)


def test_names_are_escaped():
    text = plan_to_html(replace(_view("llama-3.1-8b", 1, 1), source="<b> & co"))
    assert "Sizes from &lt;b&gt; &amp; co" in text
