"""Cases with the shapes of real models (``models.toml``), each named by its model and size."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from reference.declaration import REQUIRED
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Plain, Storage, View
from reference.model.storage import contiguous_strides

from .paged import Tensor, paged_call

_CACHE_ROWS = 4096
"""Positions of a rotary cache: enough for the longest case, small enough to build at once."""

TOKENS = (1, 7, 256)


@dataclass(frozen=True, slots=True)
class CatalogueCase:
    """A case and where its shape comes from, such as ``Llama-3.1-8B hidden_size 7 tokens``."""

    label: str
    case: OpCase


@cache
def models() -> tuple[Mapping[str, Any], ...]:
    """The models of ``models.toml``, in order."""
    text = resources.files("fuzz.catalogue").joinpath("models.toml").read_text(encoding="utf-8")
    return tuple(MappingProxyType(model) for model in tomllib.loads(text)["model"])


def catalogue_cases(
    op: str, *, tokens: tuple[int, ...] = TOKENS, dtype: str = "bfloat16"
) -> tuple[CatalogueCase, ...]:
    """The calls of ``op`` that real models make, one per distinct shape and token count."""
    found: dict[OpCase, CatalogueCase] = {}
    for model in models():
        for entry in model["ops"].get(op, ()):
            for n in tokens:
                case = _case(op, model, entry, n, dtype)
                noun = "token" if n == 1 else "tokens"
                parts = (model["name"], *_sizes_named(entry), f"{n} {noun}")
                found.setdefault(case, CatalogueCase(" ".join(parts), case))
    return tuple(found.values())


def _sizes_named(entry: Mapping[str, Any]) -> list[str]:
    names = [entry[key] for key in ("heads", "width") if key in entry]
    return [*names, *(["of one rank"] if entry.get("scaled") else [])]


def _case(
    op: str, model: Mapping[str, Any], entry: Mapping[str, Any], tokens: int, dtype: str
) -> OpCase:
    if op in ("reshape_and_cache", "paged_decode_attention"):
        tensors, scalars = paged_call(op, model, tokens, dtype)
    else:
        build = _rotary if op == "rotary_embedding" else _rows
        tensors, scalars = build(op, model, entry, tokens, dtype)
    storages: list[Storage] = []
    arguments: list[Argument] = []
    for spec in DECLARATIONS[op].parameters:
        if spec.name in tensors:
            shape, of, fill = tensors[spec.name]
            view = View(len(storages), shape, contiguous_strides(shape))
            storages.append(Storage(of, view.numel, fill))
            arguments.append(Argument(spec.name, view))
        elif spec.name in scalars:
            arguments.append(Argument(spec.name, scalars[spec.name]))
        elif spec.default is REQUIRED:
            arguments.append(Argument(spec.name, None))
        else:
            # Models leave the default out; what follows would have to be passed by name, and
            # every entry names such a parameter instead.
            arguments.append(Argument(spec.name, _plain(spec.default)))
    return OpCase(op, tuple(storages), tuple(arguments))


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"default {value!r}; accepted: None, bool, int, float or str")


_Call = tuple[dict[str, Tensor], dict[str, Plain]]


def _rows(
    op: str, model: Mapping[str, Any], entry: Mapping[str, Any], tokens: int, dtype: str
) -> _Call:
    """Norms, activations and quantizations: rows of one width, or of heads of one width."""
    declaration = DECLARATIONS[op]
    width = model[entry["width"]]
    if entry.get("scaled"):
        width //= model["tensor_parallel"]
    lead = (tokens, model[entry["heads"]]) if "heads" in entry else (tokens,)
    gated = any("2*d" in axes for axes in declaration.tensors[0].shapes)
    shape = (*lead, 2 * width if gated else width)
    key = width + tokens
    tensors: dict[str, Tensor] = {"x": (shape, dtype, Fill("normal", key))}
    scalars: dict[str, Plain] = {}
    for spec in declaration.tensors[1:]:
        if spec.name == "x_residual":
            tensors[spec.name] = (shape, dtype, Fill("dyadic", key + 1))
        elif spec.name == "weight" and entry.get("weight", True):
            of = model.get("norm_weight_dtype", dtype)
            tensors[spec.name] = ((width,), of, Fill("uniform", width))
        elif spec.name == "amax":
            tensors[spec.name] = ((16,), "float32", Fill("positive", width))
        elif spec.name == "next":
            tensors[spec.name] = ((1,), "int64", Fill("zeros", 0))
        elif spec.name == "scale" or (spec.name == "scale_ub" and entry.get("bounded")):
            tensors[spec.name] = ((1,), "float32", Fill("positive", width))
    for spec in declaration.scalars:
        if spec.name == "epsilon":
            scalars[spec.name] = model["rms_norm_eps"]
        elif spec.name == "group_size":
            scalars[spec.name] = model["quant_group_size"]
        elif spec.name in entry:
            scalars[spec.name] = entry[spec.name]
        elif spec.name in model:
            scalars[spec.name] = model[spec.name]
    return tensors, scalars


def _rotary(
    _op: str, model: Mapping[str, Any], entry: Mapping[str, Any], tokens: int, dtype: str
) -> _Call:
    """Queries and keys of one rank as flat rows; the cache holds numbers like cosines and sines."""
    ranks = model["tensor_parallel"]
    size = model["head_dim"]
    queries = model["num_attention_heads"] // ranks * size
    # Fewer key heads than ranks are replicated: every rank has at least one.
    keys = max(1, model["num_key_value_heads"] // ranks) * size
    cache_dtype = "float32" if entry.get("float32_cache") else dtype
    rotary_dim = model["rotary_dim"]
    tensors: dict[str, Tensor] = {
        "positions": ((tokens,), "int64", Fill("index", tokens, _CACHE_ROWS)),
        "x_query": ((tokens, queries), dtype, Fill("normal", queries + tokens)),
        "x_key": ((tokens, keys), dtype, Fill("normal", keys + tokens)),
        "cos_sin_cache": ((_CACHE_ROWS, rotary_dim), cache_dtype, Fill("unit", rotary_dim)),
    }
    scalars: dict[str, Plain] = {
        "head_size": size,
        "is_neox": model.get("is_neox", True),
        "rotary_dim": None if rotary_dim == size else rotary_dim,
    }
    return tensors, scalars
