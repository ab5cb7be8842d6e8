"""A run's own scratch space: Inductor's cache and Triton's live and die with the run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def scratch_environment() -> Iterator[dict[str, str]]:
    """Environment for worker processes that points every compiler cache into a fresh folder.

    A cache from an earlier run could hide a miscompilation, or show one that is long gone.
    """
    with tempfile.TemporaryDirectory(prefix="irverify-") as folder:
        yield {
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "TRITON_CACHE_DIR": f"{folder}/triton",
            # The workers are the parallelism: a pool of compilers in each would fight over cores.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
