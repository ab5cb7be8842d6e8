"""A scheduler small enough to read: whole prompts first, then one token a step for each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ir.connector.contract import (
    ClaimingSide,
    ScheduledRequest,
    SchedulerOutput,
    SchedulerSide,
)
from ir.connector.errors import ConnectorError
from ir.connector.model import ModelSize


@dataclass(slots=True)
class _Running:
    prompt: tuple[int, ...]
    wanted: int
    blocks: tuple[int, ...]
    loaded: int
    generated: list[int] = field(default_factory=list)


class Scheduler:
    """Requests, and the blocks that they hold. Block 0 is never given to one."""

    def __init__(self, size: ModelSize, connector: SchedulerSide | None, *, rows: int) -> None:
        self._size = size
        self._connector = connector
        self._rows = rows
        self._free = list(range(1, size.blocks))
        self._running: dict[str, _Running] = {}
        self._finished: set[str] = set()
        self._step = 0

    @property
    def idle(self) -> bool:
        return not self._running

    def add(self, request: str, prompt: tuple[int, ...], *, tokens: int) -> None:
        """Admit a request that shall generate `tokens` tokens. Raises ConnectorError."""
        total = len(prompt) + tokens
        needed = -(-total // self._size.block_size)
        if not prompt or tokens < 1 or total > self._size.longest or len(prompt) > self._rows:
            raise ConnectorError(
                f"request {request!r}",
                f"{len(prompt)} and {tokens} tokens",
                f"a prompt of 1 to {self._rows} tokens, {self._size.longest} in all",
            )
        if request in self._running or needed > len(self._free):
            raise ConnectorError(
                f"request {request!r}",
                f"in need of {needed} blocks of {len(self._free)} free",
                "a new name, and room",
            )
        blocks, self._free = tuple(self._free[:needed]), self._free[needed:]
        matched = 0 if self._connector is None else self._connector.matched_tokens(prompt)
        if matched and isinstance(self._connector, ClaimingSide):
            self._connector.update_state_after_alloc(request, prompt, matched)
        self._running[request] = _Running(prompt, tokens, blocks, matched)

    def step(self) -> SchedulerOutput:
        """What fits in the rows of a step; the others wait."""
        chosen: list[ScheduledRequest] = []
        left = self._rows
        for name, r in self._running.items():
            # The last token is computed even where its KV is loaded: its logits are wanted.
            start = min(r.loaded, len(r.prompt) - 1)
            first = not r.generated
            tokens = r.prompt[start:] if first else (r.generated[-1],)
            if len(tokens) > left:
                continue
            left -= len(tokens)
            chosen.append(
                ScheduledRequest(
                    request=name,
                    prompt=r.prompt,
                    tokens=tokens,
                    start=start if first else len(r.prompt) + len(r.generated) - 1,
                    blocks=r.blocks,
                    load=r.loaded if first else 0,
                    save=len(r.prompt) if first and not r.loaded else 0,
                )
            )
        output = SchedulerOutput(
            step=self._step, requests=tuple(chosen), finished=frozenset(self._finished)
        )
        self._finished.clear()
        self._step += 1
        return output

    def update(self, tokens: Mapping[str, int], failed: Mapping[str, str]) -> dict[str, list[int]]:
        """Take the results of a step; gives the tokens of requests that are done.

        A failed request ends, its blocks are free again; nobody else notices.
        """
        done: dict[str, list[int]] = {}
        for name in [*tokens, *failed]:
            r = self._running.get(name)
            if r is None:
                continue
            if name not in failed:
                r.generated.append(tokens[name])
                if len(r.generated) < r.wanted:
                    continue
                done[name] = r.generated
            del self._running[name]
            self._free.extend(r.blocks)
            self._finished.add(name)
        return done
