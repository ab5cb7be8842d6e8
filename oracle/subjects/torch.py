"""Torch itself as a subject: the programs that our passes are judged on, compiled without them."""

from __future__ import annotations

import warnings
from typing import Any

from oracle.observation import Declined
from oracle.subject import Probes, Provider
from reference.model import ProgramCase

from . import SubjectOptions
from .programs import stock


class TorchSubject:
    """Observes programs. What ``ir`` leaves undecided as stock's is decided here."""

    name = "torch"

    def __init__(self, options: SubjectOptions) -> None:
        import torch

        # The functions that define the IR's ops, which stock is given in their place.
        import ir.ops  # noqa: F401

        # One worker is one core: more threads would only fight over it.
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", module=r"torch\._inductor")

    def version(self) -> str:
        """Without the build: what is known of torch's compiler is so for all of a release."""
        import torch

        return f"torch {torch.__version__.partition('+')[0]}"

    def providers(self) -> tuple[Provider, ...]:
        return stock.providers()

    def observe(self, case: Any, provider: str, route: str, probes: Probes) -> Any:
        """Run one program. Whatever it raises is reported, never raised."""
        if not isinstance(case, ProgramCase):
            return Declined("no-program")
        return stock.observe(case, route)
