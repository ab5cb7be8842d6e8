"""A run without TRITON_INTERPRET still shows that every Triton provider works: in a child."""

import importlib.util
import os
import subprocess
import sys

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)

_CODE = """
import torch
from ir import kernels, ops

assert kernels.load()["triton"].available
wide, heads = {"hidden_size": 26}, {"num_heads": 3, "head_size": 10, "rotary_dim": 6}
for name in ops.__all__:
    op = getattr(ops, name)
    sizes = dict(heads if name == "rotary_embedding" else wide)
    if name == "per_token_group_quant_fp8":
        sizes["group_size"] = 13
    torch.manual_seed(0)
    args = op.generate_inputs(num_tokens=3, dtype=torch.bfloat16, **sizes)
    want = op(*args)
    with op.set_priority(["triton"]):
        assert op.dispatch(*args).provider == "triton", name
        got = op(*args)
    pairs = zip(got, want) if isinstance(got, tuple) else [(got, want)]
    for g, w in pairs:
        torch.testing.assert_close(g.float(), w.float(), rtol=2**-7, atol=1e-3)
    print(name)
"""


def test_every_triton_provider_runs_in_the_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    child = subprocess.run(
        [sys.executable, "-c", _CODE], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert len(child.stdout.split()) == 9
