"""A user's own clone elimination, three times unsound: each class of failure found and shrunk."""

import pytest

PASSES = ("direct_users", "positional_only", "placeholders_only")
BEGIN = "x0: float32[] = [1.0]; v1 = aten.clone.default(x0); "
# Two of a kind are pinned where no simplification leads from the one to the other.
VIEW_WRITTEN = (
    f"{BEGIN}v2 = aten.view.default(x0, [1]); v3 = aten.add_.Tensor(v2, 1); "
    "v4 = aten.clone.default(v1); return v4",
    "x0: float32[2] = [1.0, 2.0]; v1 = aten.clone.default(x0); v2 = aten.view.default(v1, [2]); "
    "aten._foreach_mul_.List([v2], [x0]); v3 = aten.clone.default(x0); return v3",
)
VIEW_RETURNED = f"{BEGIN}v2 = aten.view.default(v1, [1]); return v2"
VALUE_LEFT_BEHIND = (
    f"{BEGIN}v2 = aten.view.default(v1, [1]); return nothing",
    f"{BEGIN}v2 = aten.add_.Tensor(self=v1, other=0); return nothing",
)
WRITTEN_BY_KEYWORD = (
    f"{BEGIN}v2 = aten.mul.out(x0, 0.5, out=x0); v3 = aten.clone.default(v1); return v3"
)
ORIGINAL_WRITTEN = f"{BEGIN}v2 = aten.clone.default(v1); v3 = aten.add_.Tensor(v1, 1); return v2"
TWO_CLONES = f"{BEGIN}v2 = aten.clone.default(v1); return v1, v2"
SMALLEST = {
    ("direct_users", "program", "program-values: value"): VIEW_WRITTEN,
    ("direct_users", "program", "program-routes: route-differs"): VIEW_WRITTEN,
    ("direct_users", "program", "program-clones: removed-needed"): (*VIEW_WRITTEN, VIEW_RETURNED),
    ("direct_users", "program", "program-inputs: input-written"): (
        f"{BEGIN}v2 = aten.view.default(v1, [1]); v3 = aten.add_.Tensor(v2, 1); return nothing",
        "x0: float32[2] = [1.0, 2.0]; v1 = aten.clone.default(x0); "
        "v2 = aten.view.default(v1, [2]); aten._foreach_mul_.List([v2], [x0]); return nothing",
    ),
    ("direct_users", "program", "program-aliases: output-aliases-input"): VIEW_RETURNED,
    ("direct_users", "program", "program-graph: value-differs"): VALUE_LEFT_BEHIND,
    ("positional_only", "program", "program-values: value"): WRITTEN_BY_KEYWORD,
    ("positional_only", "program", "program-routes: route-differs"): WRITTEN_BY_KEYWORD,
    ("positional_only", "program", "program-clones: removed-needed"): WRITTEN_BY_KEYWORD,
    ("positional_only", "program", "program-inputs: input-written"): (
        f"{BEGIN}v2 = aten.mul.out(x0, 2.0, out=v1); return nothing"
    ),
    ("positional_only", "program", "program-graph: value-differs"): VALUE_LEFT_BEHIND,
    ("placeholders_only", "program", "program-values: value"): ORIGINAL_WRITTEN,
    ("placeholders_only", "program", "program-routes: route-differs"): ORIGINAL_WRITTEN,
    ("placeholders_only", "program", "program-aliases: outputs-share-storage"): TWO_CLONES,
    ("placeholders_only", "program", "program-clones: removed-needed"): TWO_CLONES,
    ("placeholders_only", "program", "program-graph: value-differs"): (
        f"{BEGIN}v2 = aten.clone.default(v1); v3 = aten.add_.Tensor(v2, 0); return nothing"
    ),
    # A clone that is gone may be what kept torch from seeing an overlap.
    ("placeholders_only", "program", "program-completion: raised"): (
        "x0: float32[3] = [1.0, 1.0, 1.0]; v1 = aten.clone.default(x0); "
        "v2, v3 = aten.split.Tensor(v1, 2); v4 = aten.clone.default(v1); "
        "v5 = aten.copy_.default(v4, v3); return nothing",
        "x0: float32[1] = [1.0]; v1 = aten.clone.default(x0); v2 = aten.select.int(v1, 0, 0); "
        "v3 = aten.clone.default(v1); v4 = aten.copy_.default(v3, v2); return nothing",
    ),
}
CHOSEN = {"properties": ("clones",), "ops": ("program",), "providers": PASSES, "budget": 300}


@pytest.mark.slow
def test_unsound_passes_are_found_and_shrunk(judged):
    outcome = judged("../passes/unsound_clones", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    assert outcome.differing(SMALLEST) == {}
    assert {f.source.name for f in outcome.findings if f.source} == {"unsound_clones.py"}


@pytest.mark.slow
def test_the_same_passes_made_sound_are_clean(judged):
    outcome = judged("../passes/unsound_clones", faulty=False, **CHOSEN)
    assert outcome.cases == {}
    assert outcome.finished.exit_code == 0
