"""A fault that only strides and content show together is found small all the same."""

CHOSEN = {
    "properties": ("numerics",),
    "ops": ("silu_and_mul",),
    "providers": ("row_stride",),
    "routes": ("eager-unwrapped", "eager"),
}


def test_where_shrinking_stops_smaller_cases_are_drawn(judged):
    found = judged("row_stride", faulty=True, **CHOSEN)
    assert {(f.judge, f.kind) for f in found.findings} == {("values", "value")}
    for finding in found.findings:
        assert max(view.numel for view in finding.case.views().values()) <= 4
    assert judged("row_stride", faulty=False, **CHOSEN).findings == ()
