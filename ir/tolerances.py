"""Default tolerances per dtype, for callers that compare providers with an allclose.

They are the published defaults of `vllm.ir` 0.33.0, kept for source compatibility. A verdict of
irverify never uses them: it uses intervals.
"""

from __future__ import annotations

import torch

ToleranceSpec = dict[torch.dtype, dict[str, float]]


def _spec(atol: float, rtol: float) -> dict[str, float]:
    return {"atol": atol, "rtol": rtol}


DEFAULT_TOLERANCES: ToleranceSpec = {
    torch.float64: _spec(1e-8, 1e-8),
    torch.float32: _spec(1e-5, 1.3e-6),
    torch.float16: _spec(1e-3, 1e-3),
    torch.bfloat16: _spec(1e-3, 1.6e-2),
    torch.float8_e4m3fn: _spec(1e-1, 1e-1),
    torch.float8_e5m2: _spec(2e-1, 2e-1),
    torch.float4_e2m1fn_x2: _spec(3e-1, 3e-1),
    torch.int8: _spec(1, 0),
}
