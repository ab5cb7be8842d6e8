"""Outputs that are not what the op declares, or memory around them that is touched."""

PROVIDERS = (
    "three_outputs",
    "stays_float32",
    "flat_heads",
    "nan_to_number",
    "lost_sign",
    "inside_a_buffer",
    "elsewhere",
    "writes_neighbours",
    "one_buffer",
    "kept_workspace",
    "tail_unwritten",
    "raises_on_empty",
    "refuses_odd",
)
SUMS = tuple(
    f"x: float32{text}; x_residual: float32{text}; weight: None; epsilon: 0.0"
    for text in ("[0, 1] = []", "[0, 0, 1] = []", "[1] = [0.0]")
)
NO_HEADS = (
    "positions: int64[0] = []; x_query: float32[0, 1, 2] = []; x_key: None; head_size: 2; "
    "cos_sin_cache: float32[1, 2] = [0.0, 0.0]; is_neox: False"
)
SMALLEST = {
    ("three_outputs", "fused_add_rms_norm", "values: arity"): SUMS,
    ("stays_float32", "silu_and_mul", "values: dtype"): (
        "x: float16[0, 2] = []",
        "x: bfloat16[0, 2] = []",
        "x: float16[2] = [0.0, 0.0]",
    ),
    ("flat_heads", "rotary_embedding", "values: shape"): NO_HEADS,
    (
        "nan_to_number",
        "static_quant_fp8",
        "values: nan",
    ): "x: float32[1] = [nan]; scale: float32[] = [0.0]",
    (
        "lost_sign",
        "static_quant_fp8",
        "values: zero-sign",
    ): "x: float32[1] = [-0.0]; scale: float32[] = [1.0]",
    ("inside_a_buffer", "silu_and_mul", "layout: offset"): "x: float32[2] = [0.0, 0.0]",
    ("elsewhere", "gelu_and_mul", "layout: device"): "x: float32[0, 2] = []",
    (
        "writes_neighbours",
        "silu_and_mul",
        "mutation: canary-written",
    ): "x: float32[2] strides [4] = [0.0, 0.0]",
    ("one_buffer", "fused_add_rms_norm", "aliasing: outputs-share-storage"): (
        "x: float32[1] = [0.0]; x_residual: float32[1] = [0.0]; weight: None; epsilon: 0.0"
    ),
    ("kept_workspace", "gelu_and_mul", "aliasing: output-reused"): "x: float32[2] = [0.0, 0.0]",
    (
        "tail_unwritten",
        "gelu_and_mul",
        "uninitialized: uninitialized-read",
    ): "x: float32[2] = [0.0, 0.0]",
    (
        "raises_on_empty",
        "rms_norm",
        "completion: raised",
    ): "x: float32[0, 1] = []; weight: None; epsilon: 0.0",
    ("refuses_odd", "rms_norm", "completion: refused-legal"): (
        "x: float32[0, 1] = []; weight: None; epsilon: 0.0"
    ),
    ("three_outputs", "fused_add_rms_norm", "fake: fake-arity"): SUMS,
    ("stays_float32", "silu_and_mul", "fake: fake-dtype"): (
        "x: float16[0, 2] = []",
        "x: bfloat16[0, 2] = []",
        "x: float16[2] = [0.0, 0.0]",
    ),
    ("flat_heads", "rotary_embedding", "fake: fake-shape"): NO_HEADS,
}
CHOSEN = {
    "providers": PROVIDERS,
    # A custom op with an output too many takes the process down in torch, so not through it.
    "routes": ("eager-unwrapped",),
    "budget": 1200,
}


def test_wrong_outputs_are_found_and_shrunk(judged):
    outcome = judged("outputs", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    assert outcome.differing(SMALLEST) == {}
    assert {finding.provider for finding in outcome.findings} == set(PROVIDERS)
