"""The model in whole numbers, as torch: the paged cache of `ir.connector`, the meaning of
`reference.serving.model`."""

from __future__ import annotations

import functools
from typing import Any

from reference.model.connector import ConnectorCase
from reference.serving import HEAD_SIZE, MODULUS, VOCABULARY, initial, weights

GATE = 64
"""silu(64 n) is 64 n for all n of at least 1: exp(-64) is nothing beside 1 in any dtype."""


def whole_number_model(case: ConnectorCase) -> Any:
    """A `PagedModel` of the case's sizes, its caches filled with what they hold at first."""
    return model_class()(case)


@functools.cache
def model_class() -> type:
    """The class; made on first use, since it is derived from one of `ir`."""
    import torch
    from torch import Tensor, nn

    from ir import ops
    from ir.connector import ModelSize, PagedModel

    def modulo(x: Tensor) -> Tensor:
        return torch.remainder(x, MODULUS)

    class WholeNumberModel(PagedModel):
        """Stores in the case's dtype and computes in float32, which holds all products exactly."""

        def __init__(self, case: ConnectorCase) -> None:
            size = case.size
            sizes = ModelSize(
                vocabulary=VOCABULARY,
                hidden=size.heads * HEAD_SIZE,
                heads=size.heads,
                layers=size.layers,
                blocks=size.blocks,
                block_size=size.block_size,
                blocks_per_request=size.blocks_per_request,
            )
            dtype = getattr(torch, case.dtype)
            super().__init__(sizes, dtype=dtype)
            self.stored = dtype
            w = weights(size.layers, size.heads)

            def parameter(array: Any) -> nn.Parameter:
                return nn.Parameter(torch.tensor(array, dtype=torch.float32), requires_grad=False)

            self.embedding = parameter(w.embedding)
            self.qkv = nn.ParameterList([parameter(a) for a in w.qkv])
            self.turn = nn.ParameterList([parameter(a) for a in w.turn])
            self.out = nn.ParameterList([parameter(a) for a in w.out])
            self.gate_up = nn.ParameterList([parameter(a) for a in w.gate])
            self.down = nn.ParameterList([parameter(a) for a in w.down])
            at_first = torch.tensor(initial(size))
            for i, cache in enumerate(self.caches.values()):
                cache.copy_(at_first[i].view(cache.shape))

        def _projected(self, i: int, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            wide = x.float() @ self.qkv[i]
            wide = modulo(wide + position[:, None].float() * self.turn[i])
            shape = (x.shape[0], 3, self.size.heads, HEAD_SIZE)
            q, k, v = wide.to(self.stored).view(shape).unbind(1)
            return q.clone(), k.clone(), v.clone()

        def first(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, ...]:
            x = self.embedding[tokens].to(self.stored)
            return x, *self._projected(0, x, position)

        def after(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
            y = modulo(x.float() + attended.float() @ self.out[i])
            gate = GATE * (1 + modulo(y @ self.gate_up[i]))
            activated = ops.silu_and_mul(torch.cat((gate, torch.ones_like(gate)), dim=-1))
            return modulo(y + (activated / GATE - 1) @ self.down[i]).to(self.stored)

        def last(self, x: Tensor, attended: Tensor) -> Tensor:
            x = self.after(self.size.layers - 1, x, attended)
            return modulo(x.float() @ self.embedding.t())

        def mixed(self, q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
            q, keys, values = (t.float() for t in (q, keys, values))
            scores = modulo((q[:, :, None] * keys).sum(-1))
            attended = modulo((scores[..., None] * values).sum(-2))
            return attended.reshape(q.shape[0], -1).to(self.stored)

    return WholeNumberModel
