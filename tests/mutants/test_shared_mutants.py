"""Fakes that do not know their op, and checks that let through or mishandle illegal input."""

SMALLEST = {
    (
        "native",
        "rms_norm",
        "fake: fake-raises",
    ): "x: float32[1] = [0.0]; weight: None; epsilon: 0.0",
    ("native", "silu_and_mul", "fake: fake-shape"): "x: float32[0, 2] = []",
    ("native", "gelu_and_mul", "fake: fake-stride"): (
        "x: float32[2, 2, 2] strides [1, 4, 2] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]"
    ),
    ("native", "static_quant_fp8", "fake: fake-dtype"): (
        "x: float32[0, 1] = []; scale: float32[] = [0.0]"
    ),
    ("native", "fused_add_rms_norm", "refusal: not-refused"): (
        "x: float16[0, 0, 1] = []; x_residual: int32[0, 0, 0] = []; weight: None; epsilon: 0.0"
    ),
    (
        "native",
        "gelu_and_mul_sparse",
        "refusal: wrong-error",
    ): "x: float32[] = [0.0]; std_multiplier: 0.0",
}
CHOSEN = {
    "properties": ("contract",),
    "ops": (
        "rms_norm",
        "fused_add_rms_norm",
        "silu_and_mul",
        "gelu_and_mul",
        "gelu_and_mul_sparse",
        "static_quant_fp8",
    ),
    "providers": ("native",),
    "routes": ("eager",),
    "budget": 250,
}


def test_wrong_fakes_and_checks_are_found_and_shrunk(judged):
    outcome = judged("whole_ops", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    assert outcome.differing(SMALLEST) == {}
    # What replaces a fake is kept with the finding, though native itself is not the file's.
    assert {f.source.name for f in outcome.findings if f.source} == {"whole_ops.py"}
