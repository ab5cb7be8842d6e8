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
    "tail_unwritten",
    "raises_on_empty",
    "refuses_odd",
)
EMPTY_SUM = "x: float32[0, 1] = []; x_residual: float32[0, 1] = []; weight: None; epsilon: 0.0"
NO_HEADS = (
    "positions: int64[0] = []; x_query: float32[0, 1, 2] = []; x_key: None; head_size: 2; "
    "cos_sin_cache: float32[1, 2] = [0.0, 0.0]; is_neox: False"
)
SMALLEST = {
    ("three_outputs", "values: arity"): EMPTY_SUM,
    ("stays_float32", "values: dtype"): "x: float16[0, 2] = []",
    ("flat_heads", "values: shape"): NO_HEADS,
    ("nan_to_number", "values: nan"): "x: float32[1] = [nan]; scale: float32[] = [0.0]",
    ("lost_sign", "values: zero-sign"): "x: float32[1] = [-0.0]; scale: float32[] = [1.0]",
    ("inside_a_buffer", "layout: offset"): "x: float32[2] = [0.0, 0.0]",
    ("elsewhere", "layout: device"): "x: float32[0, 2] = []",
    ("writes_neighbours", "mutation: canary-written"): "x: float32[2] strides [4] = [0.0, 0.0]",
    ("one_buffer", "aliasing: outputs-share-storage"): (
        "x: float32[1] = [0.0]; x_residual: float32[1] = [0.0]; weight: None; epsilon: 0.0"
    ),
    ("tail_unwritten", "uninitialized: uninitialized-read"): "x: float32[2] = [0.0, 0.0]",
    ("raises_on_empty", "completion: raised"): "x: float32[0, 1] = []; weight: None; epsilon: 0.0",
    ("refuses_odd", "completion: refused-legal"): (
        "x: float32[0, 1] = []; weight: None; epsilon: 0.0"
    ),
    ("three_outputs", "fake: fake-arity"): EMPTY_SUM.replace("[0, 1]", "[0, 0, 1]"),
    ("stays_float32", "fake: fake-dtype"): "x: float16[0, 2] = []",
    ("flat_heads", "fake: fake-shape"): NO_HEADS,
}
CHOSEN = {
    "providers": PROVIDERS,
    # A custom op with an output too many takes the process down in torch, so not through it.
    "routes": ("eager-unwrapped",),
    "budget": 420,
}


def test_wrong_outputs_are_found_and_shrunk(judged):
    outcome = judged("outputs", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    cases = {(provider, kind): case for (provider, _op, kind), case in outcome.cases.items()}
    assert {key: cases.get(key) for key in SMALLEST} == SMALLEST
    assert {provider for provider, _kind in cases} == set(PROVIDERS)


def test_the_same_kernels_without_their_faults_agree(judged):
    outcome = judged("outputs", faulty=False, **CHOSEN)
    assert outcome.cases == {}
    assert outcome.finished.exit_code == 0
