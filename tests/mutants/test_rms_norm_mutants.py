"""The faults that a kernel author's rms_norm is most likely to have, each found and shrunk."""

PROVIDERS = (
    "epsilon_outside",
    "bf16_variance",
    "fp32_weight",
    "writes_input",
    "view_of_input",
    "contiguous_output",
    "odd_last_column",
    "zeros",
)
SMALLEST = {
    (
        "epsilon_outside",
        "rms_norm",
        "values: value",
    ): "x: float32[1] = [1.0]; weight: None; epsilon: 1.0",
    ("bf16_variance", "rms_norm", "values: value"): (
        "x: float32[1] = [1.5625]; weight: None; epsilon: 0.0",
        "x: float32[1] = [1.0625]; weight: None; epsilon: 0.0",
    ),
    ("fp32_weight", "rms_norm", "values: value"): (
        "x: float32[2] = [0.0, 1.0]; weight: float16[2] = [0.0, 1.0]; epsilon: 0.0"
    ),
    ("writes_input", "rms_norm", "mutation: input-written"): (
        "x: float32[1] = [0.0]; weight: None; epsilon: 0.0"
    ),
    # torch itself refuses to write an expanded tensor in place.
    ("writes_input", "rms_norm", "completion: raised"): (
        "x: float32[2, 1] strides [0, 1] = [0.0, 0.0]; weight: None; epsilon: 0.0"
    ),
    ("view_of_input", "rms_norm", "aliasing: output-aliases-input"): (
        "x: float32[1] = [0.0]; weight: None; epsilon: 0.0"
    ),
    (
        "view_of_input",
        "rms_norm",
        "values: value",
    ): "x: float32[1] = [2.0]; weight: None; epsilon: 0.0",
    (
        "view_of_input",
        "rms_norm",
        "values: nan",
    ): "x: float32[1] = [0.0]; weight: None; epsilon: 0.0",
    ("contiguous_output", "rms_norm", "layout: stride"): (
        "x: float32[2, 2] strides [1, 2] = [0.0, 0.0, 0.0, 0.0]; weight: None; epsilon: 0.0"
    ),
    ("contiguous_output", "rms_norm", "fake: fake-stride"): (
        "x: float32[2, 2] strides [1, 2] = [0.0, 0.0, 0.0, 0.0]; weight: None; epsilon: 0.0"
    ),
    (
        "odd_last_column",
        "rms_norm",
        "values: value",
    ): "x: float32[1] = [2.0]; weight: None; epsilon: 0.0",
    (
        "odd_last_column",
        "rms_norm",
        "values: nan",
    ): "x: float32[1] = [0.0]; weight: None; epsilon: 0.0",
    ("zeros", "rms_norm", "values: value"): "x: float32[1] = [1.0]; weight: None; epsilon: 0.0",
    ("zeros", "rms_norm", "values: nan"): "x: float32[1] = [0.0]; weight: None; epsilon: 0.0",
}
CHOSEN = {
    "ops": ("rms_norm",),
    "providers": PROVIDERS,
    "routes": ("eager",),
    "budget": 500,
    "seed": 0,
}


def test_eight_faulty_rms_norms_are_found_and_shrunk(judged):
    outcome = judged("eight_rms_norms", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    assert outcome.differing(SMALLEST) == {}
    assert {finding.provider for finding in outcome.findings} == set(PROVIDERS)
    assert max(f.case.largest_input for f in outcome.findings) == 4
    assert {f.source.name for f in outcome.findings if f.source} == {"eight_rms_norms.py"}
