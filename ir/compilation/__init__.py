"""Compilation of graphs that hold ops of the IR. Import it explicitly: `import ir` does not.

    torch.compile(model, backend=ir.compilation.backend)

Before AOTAutograd `functionalize` turns `maybe_inplace` into the default overload; after it
`lower` replaces every op by the traced graph of the provider that dispatch selects, and
`eliminate_clones` takes out the copies that nobody could tell from their originals. On stock
Inductor the same passes go into `pre_grad_custom_pass` (FunctionalizationPass) and
`post_grad_custom_post_pass` (LoweringPass).
"""

from ir.compilation.backend import backend
from ir.compilation.cache import ReplacementCache, Statistics
from ir.compilation.clones import eliminate_clones
from ir.compilation.errors import CompilationError, DonationError, LoweringError
from ir.compilation.functionalize import functionalize
from ir.compilation.lower import CACHE, lower
from ir.compilation.passes import FunctionalizationPass, LoweringPass
from ir.compilation.registry import register_pass, unregister_pass
from ir.compilation.report import Report

__all__ = [
    "CACHE",
    "CompilationError",
    "DonationError",
    "FunctionalizationPass",
    "LoweringError",
    "LoweringPass",
    "ReplacementCache",
    "Report",
    "Statistics",
    "backend",
    "eliminate_clones",
    "functionalize",
    "lower",
    "register_pass",
    "unregister_pass",
]
