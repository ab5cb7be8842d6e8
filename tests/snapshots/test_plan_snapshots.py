"""What people see of a plan: the text at two widths, and the outline of the drawn page."""

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from oracle.planning.options import EngineOptions, PlanOptions
from oracle.planning.view import PlanView
from oracle.reports.plan_html import plan_to_html
from oracle.reports.plan_text import print_plan
from oracle.subjects.plan_view import view_of

PLANS = {
    "nemotron 4 to 1": ("nemotron-3-nano-30b", {"tp": 4}, {"tp": 1}, {}),
    "llama 2 to 4, unlike": (
        "llama-3.1-8b",
        {"tp": 2, "pp": 2, "layout": "NHD"},
        {"tp": 4, "kernel_tokens": 32},
        {"prompt_tokens": 1000, "cached_tokens": 256},
    ),
    "gpt-oss 1 to 16": ("gpt-oss-120b", {"tp": 1}, {"tp": 16}, {"prompt_tokens": 4000}),
    "deepseek 4 to 2, all cached": (
        "deepseek-v3",
        {"tp": 4},
        {"tp": 2},
        {"cached_tokens": 1024},
    ),
}


@pytest.fixture(scope="module", params=PLANS)
def plan(request: pytest.FixtureRequest) -> PlanView:
    model, prefill, decode, tokens = PLANS[request.param]
    return view_of(
        PlanOptions(
            model=model,
            prefill=EngineOptions(name="prefill", **prefill),
            decode=EngineOptions(name="decode", **decode),
            **tokens,
        )
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_plan_as_text(snapshot, plan: PlanView, width: int):
    out = io.StringIO()
    print_plan(Console(file=out, width=width, highlight=False), plan)
    assert "…" not in out.getvalue()
    assert [line for line in out.getvalue().splitlines() if len(line.rstrip()) > width] == []
    assert out.getvalue() == snapshot


class _Outline(HTMLParser):
    """Headings, tables, captions and notes in full; of each picture its name and its counts."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._counts: dict[str, int] = {}
        self._text: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "svg" and named.get("role") == "img":
            self._counts = {"bands": 0, "boxes": 0, "idle": 0}
            self.lines.append(f"picture of {named['aria-label']}")
        elif self._counts:
            classes = (named.get("class") or "").split()
            self._counts["bands"] += "band" in classes
            self._counts["boxes"] += "box" in classes
            self._counts["idle"] += "idle" in classes
        elif tag in ("h1", "h2", "p", "tr", "figcaption", "li"):
            self._text = f"{tag}: "

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += f"{data.strip()} " if data.strip() else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg" and self._counts:
            self.lines.append("  " + ", ".join(f"{n} {what}" for what, n in self._counts.items()))
            self._counts = {}
        elif tag in ("h1", "h2", "p", "tr", "figcaption", "li") and self._text is not None:
            self.lines.append(self._text.rstrip())
            self._text = None


def test_a_plan_as_a_page(snapshot, plan: PlanView):
    outline = _Outline()
    outline.feed(plan_to_html(plan))
    assert "\n".join(outline.lines) == snapshot
