"""What a plan may be asked for: models by the names people type, engines within reason."""

import pytest

from oracle.errors import UsageError
from oracle.planning.options import EngineOptions, even_stages, find_model


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        ("Llama-3.1-8B", "Llama-3.1-8B"),
        ("llama-3.1-8b", "Llama-3.1-8B"),
        ("llama3.1_8b", "Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("nemotron-3-nano-30b", "Nemotron-3-Nano-30B"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Nemotron-3-Nano-30B"),
        ("deepseek", "DeepSeek-V3"),
        ("qwen3-next", "Qwen3-Next-80B-A3B"),
        ("GPT OSS 120B", "gpt-oss-120b"),
    ],
)
def test_a_model_is_found_by_any_spelling_of_its_name(typed: str, model: str):
    assert find_model(typed).name == model


EVERY = (
    "Llama-3.1-8B, Llama-3.1-70B, Qwen3-30B-A3B, Qwen3-Next-80B-A3B, DeepSeek-V3, Gemma-3-27B, "
    "gpt-oss-120b, Nemotron-3-Nano-30B"
)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("llama", "is more than one; accepted: Llama-3.1-8B, Llama-3.1-70B"),
        ("llama-3.1-405b", f"is not in the catalogue; accepted: {EVERY}"),
        ("", f"is not in the catalogue; accepted: {EVERY}"),
        ("owner/", f"is not in the catalogue; accepted: {EVERY}"),
    ],
)
def test_a_name_that_is_not_one_model_is_refused_with_those_there_are(typed: str, said: str):
    with pytest.raises(UsageError) as refused:
        find_model(typed)
    assert str(refused.value) == f"model {typed!r} {said}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tp": 0}, "prefill tp 0; accepted: 1 or more"),
        ({"pp": 0}, "prefill pp 0; accepted: 1 or more"),
        ({"kernel_tokens": 0}, "prefill kernel-tokens 0; accepted: 1 or more"),
        ({"block_tokens": -1}, "prefill block-tokens -1; accepted: 0 or more"),
        ({"num_blocks": -1}, "prefill num-blocks -1; accepted: 0 or more"),
        ({"layout": "hnd"}, "prefill layout 'hnd'; accepted: HND or NHD"),
        ({"placement": "mixed"}, "prefill placement 'mixed'; accepted: apart or blocks-first"),
    ],
)
def test_an_engine_that_cannot_be_meant_is_refused(changes: dict, said: str):
    with pytest.raises(UsageError) as refused:
        EngineOptions(**({"name": "prefill", "tp": 1} | changes))
    assert str(refused.value) == said


def test_stages_differ_by_one_layer_at_most():
    assert even_stages(61, 4) == (16, 15, 15, 15)
    assert even_stages(3, 3) == (1, 1, 1)
