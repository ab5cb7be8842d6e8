"""What a plan is asked for: a model by a name that people type, two engines and one request."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuzz.catalogue.geometries import ModelGeometry, geometries
from oracle.errors import UsageError

LAYOUTS = ("HND", "NHD")
PLACEMENTS = ("apart", "blocks-first")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """One engine as the command line names it; 0 and "" stand for what its model suggests.

    `block_tokens` is the logical block, `kernel_tokens` the attention kernel's, both in tokens;
    `num_blocks` counts logical blocks.
    """

    name: str
    tp: int
    pp: int = 1
    layout: str = "HND"
    placement: str = ""
    block_tokens: int = 0
    kernel_tokens: int = 16
    num_blocks: int = 0

    def __post_init__(self) -> None:
        for option in ("tp", "pp", "kernel_tokens"):
            self._at_least(option, 1)
        for option in ("block_tokens", "num_blocks"):
            self._at_least(option, 0)
        if self.layout not in LAYOUTS:
            self._refuse("layout", self.layout, " or ".join(LAYOUTS))
        if self.placement and self.placement not in PLACEMENTS:
            self._refuse("placement", self.placement, " or ".join(PLACEMENTS))

    def _at_least(self, option: str, least: int) -> None:
        if getattr(self, option) < least:
            self._refuse(option, getattr(self, option), f"{least} or more")

    def _refuse(self, option: str, got: object, accepted: str) -> None:
        shown = option.replace("_", "-")
        raise UsageError(f"{self.name} {shown} {got!r}; accepted: {accepted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """A plan's two engines, and the request whose bytes are counted, in tokens."""

    model: str
    prefill: EngineOptions
    decode: EngineOptions
    prompt_tokens: int = 1024
    cached_tokens: int = 0


def _letters(name: str) -> str:
    """What tells names apart: letters and digits, in lower case, without an owner before ``/``."""
    return re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower())


def find_model(name: str) -> ModelGeometry:
    """The catalogue's model of this name, the beginning of one, or a longer name that holds it.

    Raises `UsageError` where no model or more than one matches.
    """
    models = {_letters(model.name): model for model in geometries()}
    asked = _letters(name)
    found = [models[asked]] if asked in models else []
    if asked and not found:
        found = [m for letters, m in models.items() if letters.startswith(asked)]
        found = found or [m for letters, m in models.items() if letters in asked]
    if len(found) != 1:
        accepted = ", ".join(m.name for m in found or models.values())
        what = "is more than one" if found else "is not in the catalogue"
        raise UsageError(f"model {name!r} {what}; accepted: {accepted}")
    return found[0]


def even_stages(layers: int, stages: int) -> tuple[int, ...]:
    """The layers of each pipeline stage: as even as can be, the first stages with one more."""
    share, more = divmod(layers, stages)
    return tuple(share + (stage < more) for stage in range(stages))
