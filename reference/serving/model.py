"""A small attention model whose every number is a whole one, so that every KV byte is known.

All arithmetic is modulo 251, which is prime: products of few numbers below it are exact in
float32 in any order, and each number is exact in every cache dtype. Attention is linear, a score
being the product of query and key. A layer with input x at position p:

    q, k, v = x @ qkv + p * turn          per head
    a = sum over j <= p of (q . k[j]) v[j]
    y = x + a @ out
    x' = y + (y @ gate) @ down

Here a request's tokens lie one after the other: no blocks, slots, padding or steps.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference.model.connector import PagedSize
from reference.model.fill import words

MODULUS = 251
VOCABULARY = 32
HEAD_SIZE = 2

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Weights:
    """hidden = heads * 2. embedding: (vocabulary, hidden). By layer, qkv: (hidden, 3 * hidden),
    turn: (3 * hidden,), out, gate, down: (hidden, hidden). All in [0, 251)."""

    embedding: Whole
    qkv: Whole
    turn: Whole
    out: Whole
    gate: Whole
    down: Whole


@functools.cache
def weights(layers: int, heads: int) -> Weights:
    """The weights of all models of these sizes."""
    h = heads * HEAD_SIZE

    def drawn(key: int, *shape: int) -> Whole:
        flat = words(key, int(np.prod(shape))) % np.uint64(MODULUS)
        return flat.astype(np.int64).reshape(shape)

    return Weights(
        embedding=drawn(1, VOCABULARY, h),
        qkv=drawn(2, layers, h, 3 * h),
        turn=drawn(3, layers, 3 * h),
        out=drawn(4, layers, h, h),
        gate=drawn(5, layers, h, h),
        down=drawn(6, layers, h, h),
    )


def initial(size: PagedSize) -> NDArray[np.float64]:
    """What caches hold before a worker's first step: (layers, 2, slots, heads, head size).

    Negative, so unlike any KV, and as varied as the dtypes allow: a copy shows.
    """
    shape = (size.layers, 2, size.slots, size.heads, HEAD_SIZE)
    return -1.0 - np.arange(float(np.prod(shape))).reshape(shape) % (MODULUS - 1)


@functools.lru_cache(maxsize=4096)
def computed(layers: int, heads: int, tokens: tuple[int, ...]) -> tuple[Whole, Whole]:
    """KV (layers, 2, tokens, heads, head size) and logits (tokens, vocabulary) of a sequence."""
    w = weights(layers, heads)
    n = len(tokens)
    position = np.arange(n, dtype=np.int64)[:, None]
    x = w.embedding[list(tokens)]
    kv = np.zeros((layers, 2, n, heads, HEAD_SIZE), np.int64)
    for i in range(layers):
        qkv = (x @ w.qkv[i] + position * w.turn[i]) % MODULUS
        q, k, v = qkv.reshape(n, 3, heads, HEAD_SIZE).transpose(1, 0, 2, 3)
        kv[i, 0], kv[i, 1] = k, v
        scores = np.tril(np.einsum("ihd,jhd->hij", q, k) % MODULUS)
        attended = np.einsum("hij,jhd->ihd", scores, v) % MODULUS
        y = (x + attended.reshape(n, -1) @ w.out[i]) % MODULUS
        x = (y + (y @ w.gate[i] % MODULUS) @ w.down[i]) % MODULUS
    return kv, x @ w.embedding.T % MODULUS
