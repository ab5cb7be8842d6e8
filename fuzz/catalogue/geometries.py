"""What real models cache (the ``kv`` tables of ``models.toml``), as the reference's groups."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from reference.model.transfer import STATE_KINDS, CachedGroup, CachedPart


@dataclass(frozen=True, slots=True)
class GroupGeometry:
    """Layers of one kind with its sizes, by the names that the table gives them.

    Kinds are full, sliding, mla, mamba1, mamba2 and gdn.
    """

    kind: str
    layers: tuple[int, ...]
    sizes: Mapping[str, int]

    def cached(self) -> CachedGroup:
        """The group as parts with an axis to split. Raises `ValueError` for an unknown kind."""
        state = self.kind in STATE_KINDS
        parts = tuple(
            # The groups of Mamba-2's B and C may be fewer than the ranks, and are copied then.
            CachedPart(name, units, size, state and name not in ("conv.B", "conv.C"))
            for name, units, size in self._parts()
        )
        return CachedGroup(self.kind, self.layers, parts, self.sizes.get("window"))

    def _parts(self) -> list[tuple[str, int, int]]:
        n = self.sizes
        match self.kind:
            case "full" | "sliding":
                row = n["head_size"] * n["itemsize"]
                return [("k", n["kv_heads"], row), ("v", n["kv_heads"], row)]
            case "mla":
                return [("latent", 1, n["width"] * n["itemsize"])]
            case "mamba1":
                return [
                    ("conv.x", n["channels"], n["conv_columns"] * n["conv_itemsize"]),
                    ("ssm", n["channels"], n["state_size"] * n["ssm_itemsize"]),
                ]
            case "mamba2":
                channel = n["conv_columns"] * n["conv_itemsize"]
                state = n["head_size"] * n["state_size"] * n["ssm_itemsize"]
                return [
                    ("conv.x", n["heads"], n["head_size"] * channel),
                    ("conv.B", n["n_groups"], n["state_size"] * channel),
                    ("conv.C", n["n_groups"], n["state_size"] * channel),
                    ("ssm", n["heads"], state),
                ]
            case "gdn":
                channel = n["conv_columns"] * n["conv_itemsize"]
                state = n["value_size"] * n["key_size"] * n["ssm_itemsize"]
                return [
                    ("conv.q", n["key_heads"], n["key_size"] * channel),
                    ("conv.k", n["key_heads"], n["key_size"] * channel),
                    ("conv.v", n["value_heads"], n["value_size"] * channel),
                    ("ssm", n["value_heads"], state),
                ]
            case other:
                raise ValueError(
                    f"kind {other!r}; accepted: full, sliding, mla, mamba1, mamba2 or gdn"
                )


@dataclass(frozen=True, slots=True)
class ModelGeometry:
    """One model's cache: its groups, its layers, and the query heads that TP must divide."""

    name: str
    source: str
    query_heads: int
    num_layers: int
    groups: tuple[GroupGeometry, ...]


@cache
def geometries() -> tuple[ModelGeometry, ...]:
    """The models with a ``kv`` table, in order."""
    text = resources.files("fuzz.catalogue").joinpath("models.toml").read_text(encoding="utf-8")
    found = []
    for table in tomllib.loads(text)["kv"]:
        pattern = table["pattern"]
        letters = [pattern[i % len(pattern)] for i in range(table["num_layers"])]
        groups = tuple(
            GroupGeometry(
                kind=entry["kind"],
                layers=tuple(i for i, c in enumerate(letters) if c == entry["letter"]),
                sizes=MappingProxyType(
                    {name: n for name, n in entry.items() if name not in ("kind", "letter")}
                ),
            )
            for entry in table["groups"]
        )
        found.append(
            ModelGeometry(
                name=table["model"],
                source=table["source"],
                query_heads=table["query_heads"],
                num_layers=table["num_layers"],
                groups=groups,
            )
        )
    return tuple(found)
