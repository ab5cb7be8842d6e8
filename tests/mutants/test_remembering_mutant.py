"""A kernel that earlier calls make wrong is found, and its finding says that it needs them."""

from rich.markup import render

from oracle.replay import replay_to_text
from oracle.reports.text import finding_lines
from oracle.store import Store

CHOSEN = {
    "properties": ("numerics",),
    "ops": ("silu_and_mul",),
    "providers": ("remembers",),
    "routes": ("eager-unwrapped",),
    "dtypes": ("float32",),
    "budget": 60,
}


def test_what_earlier_calls_made_wrong_is_not_shown_by_itself(judged, tmp_path, capsys):
    found = judged("remembers", faulty=True, **CHOSEN)
    assert found.findings
    store = Store(tmp_path / "findings")
    for finding in found.findings:
        assert not finding.alone
        lines = finding_lines(finding, store.folder(finding.fingerprint))
        text = render(lines[-1]).plain
        assert text == "  not by itself: seen only after other calls in the same process"
    assert replay_to_text(found.findings[0].fingerprint, (), store) == 3
    assert capsys.readouterr().out.endswith("now: agrees, as it did by itself when it was found\n")


def test_what_is_wrong_by_itself_is_shown_by_itself(judged):
    chosen = {**CHOSEN, "ops": ("rms_norm",), "providers": ("zeros",)}
    found = judged("eight_rms_norms", faulty=True, **chosen)
    assert found.findings
    assert all(finding.alone for finding in found.findings)
