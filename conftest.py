"""What every test needs before it starts: determinism, private caches, reasons for skips."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Two xdist workers on two cores: more OpenMP threads only wait for each other, and the order in
# which a parallel sum is split would differ between machines. Read when torch is first imported.
os.environ["OMP_NUM_THREADS"] = "1"

# Inductor's cache outlives a process and is shared per user by default: a test would then see
# code that another test, worker or run compiled. This file runs once in every xdist worker.
_INDUCTOR_CACHE = Path(tempfile.mkdtemp(prefix="irverify-inductor-"))
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_INDUCTOR_CACHE)

import pytest  # noqa: E402

from fuzz.profiles import register_profiles  # noqa: E402

register_profiles()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_INDUCTOR_CACHE, ignore_errors=True)


def _why_no_gpu() -> str | None:
    """The reason why tests marked `gpu` cannot run here, or None where they can."""
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"no GPU: torch {torch.__version__} is a CPU build"
    return f"no GPU: torch {torch.__version__} finds no device"


def _why_no_interpreter() -> str | None:
    """The reason why tests marked `interpret` cannot run here, or None where they can."""
    # Triton reads the variable when a kernel is decorated, so it must be set from the start.
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return "TRITON_INTERPRET is not 1 (`tox -e interpret` sets it)"


def _skip_reasons(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, str]]:
    for marker, why in (("gpu", _why_no_gpu), ("interpret", _why_no_interpreter)):
        marked = [item for item in items if item.get_closest_marker(marker) is not None]
        # torch is imported only where a selected test asks for a device.
        reason = why() if marked else None
        if reason is not None:
            yield from ((item, reason) for item in marked)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last, so that what `-m` deselected is gone.
    for item, reason in _skip_reasons(items):
        item.add_marker(pytest.mark.skip(reason=reason))
