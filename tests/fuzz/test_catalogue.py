"""The catalogue of real shapes: legal, distinct, few, and with the numbers of its models."""

import pytest

from fuzz.catalogue import TOKENS, CatalogueCase, catalogue_cases, models
from reference.declaration import Binding
from reference.legal import DECLARATIONS
from reference.model import digest

MODELS = {
    "Llama-3.1-8B",
    "Llama-3.1-70B",
    "Qwen3-30B-A3B",
    "DeepSeek-V3",
    "Gemma-3-27B",
    "gpt-oss-120b",
    "Nemotron-3-Nano-30B",
}


def _all(tokens: tuple[int, ...] = TOKENS) -> list[CatalogueCase]:
    return [entry for op in DECLARATIONS for entry in catalogue_cases(op, tokens=tokens)]


def test_every_case_is_legal_and_named_once():
    cases = _all()
    for entry in cases:
        assert isinstance(DECLARATIONS[entry.case.op].bind(entry.case), Binding), entry.label
    assert len({digest(entry.case) for entry in cases}) == len(cases)
    assert len({(entry.case.op, entry.label) for entry in cases}) == len(cases)


def test_there_are_few_enough_for_every_run():
    assert len(_all(tokens=(7,))) <= 60
    assert len(_all()) == len(TOKENS) * len(_all(tokens=(7,)))


@pytest.mark.parametrize("op", sorted(DECLARATIONS))
def test_every_op_has_real_shapes_at_every_token_count(op: str):
    rows = {
        entry.case.views()[DECLARATIONS[op].dtype_parameter].shape[0]
        for entry in catalogue_cases(op)
    }
    assert rows == {1, 7, 256}


def test_every_model_names_its_source_and_is_used():
    assert {model["name"] for model in models()} >= MODELS
    assert all("config.json of " in model["source"] for model in models())
    labels = [entry.label for entry in _all()]
    for model in models():
        assert any(label.startswith(model["name"] + " ") for label in labels)


def _shapes(op: str, model: str) -> list[dict[str, tuple[int, ...]]]:
    return [
        {name: view.shape for name, view in entry.case.views().items()}
        for entry in catalogue_cases(op, tokens=(7,))
        if entry.label.startswith(model + " ")
    ]


def test_shapes_are_those_of_one_rank():
    assert _shapes("silu_and_mul", "Llama-3.1-8B") == [{"x": (7, 28672)}]
    assert _shapes("silu_and_mul", "Llama-3.1-70B") == [{"x": (7, 14336)}]
    assert _shapes("silu_and_mul", "DeepSeek-V3") == [
        {"x": (7, 4608)}, {"x": (7, 4096)}, {"x": (7, 512)}
    ]  # fmt: skip
    assert _shapes("rotary_embedding", "Llama-3.1-70B") == [
        {"positions": (7,), "x_query": (7, 2048), "x_key": (7, 256), "cos_sin_cache": (4096, 128)}
    ]
    assert _shapes("rotary_embedding", "DeepSeek-V3") == [
        {"positions": (7,), "x_query": (7, 1024), "x_key": (7, 64), "cos_sin_cache": (4096, 64)}
    ]


def test_norms_cover_heads_latents_and_groups():
    assert _shapes("rms_norm", "Qwen3-30B-A3B") == [
        {"x": (7, 2048), "weight": (2048,)},
        {"x": (7, 32, 128), "weight": (128,)},
        {"x": (7, 4, 128), "weight": (128,)},
    ]
    assert {"x": (7, 1536), "weight": (1536,)} in _shapes("rms_norm", "DeepSeek-V3")
    assert {"x": (7, 8, 512)} in _shapes("rms_norm", "Nemotron-3-Nano-30B")


def test_another_dtype_may_be_asked_for():
    entry = catalogue_cases("rms_norm", tokens=(1,), dtype="float16")[0]
    assert [storage.dtype for storage in entry.case.storages] == ["float16", "float16"]
    assert entry.case.plain()["epsilon"] == 1e-05
