"""Where actions run: asyncio tasks and threads that live as long as their script."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Task:
    """An asyncio task that does what it is told until it is told to end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self.loop = loop
        self.orders: asyncio.Queue[Any] = asyncio.Queue()
        self.task = loop.create_task(self._serve(), context=context)

    async def _serve(self) -> None:
        while (order := await self.orders.get()) is not None:
            f, args, done = order
            try:
                done.set_result(f(*args))
            except Exception as error:
                done.set_exception(error)

    def run(self, f: Callable[..., Any], *args: Any) -> Any:
        done = self.loop.create_future()
        self.orders.put_nowait((f, args, done))
        return self.loop.run_until_complete(done)

    def end(self) -> None:
        self.orders.put_nowait(None)
        self.loop.run_until_complete(self.task)


class Thread:
    """A thread that does what it is told, in what was set there before."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1)

    def run(self, f: Callable[..., Any], *args: Any) -> Any:
        return self.pool.submit(f, *args).result(60)

    def end(self) -> None:
        self.pool.shutdown()
