"""A case of the connector kind: a worker with a KV connector, and what happens to it, in order.

Sizes are in tokens, blocks and layers. Slot = block * block size + offset; block 0 is the null
block, which belongs to no request. `reference.serving.legal` says which cases are sound.
"""

from __future__ import annotations

from dataclasses import dataclass

CONNECTORS = ("none", "file", "staged", "undeclared", "claiming")
"""No connector; one whose hooks are Python; one whose hooks are device work; one of Python hooks
that declares no graph policy; one of Python hooks that claims to be device work."""
MODES = ("eager", "piecewise", "full")
DTYPES = ("float32", "float64", "bfloat16", "float16")
DAMAGES = ("gone", "cut", "empty", "length", "dtype", "layer", "blocked")
"""What befalls a stored entry: no file, half a file, an empty one, another number of tokens,
another dtype, a layer less, something in its place that can be neither read nor replaced."""
MODELS = ("m", "n")
"""Names of models that share a store. They compute the same, and no entry of one is the other's."""
CALLS = (
    "start_load_kv",
    "begin_pass",
    "wait_for_layer_load",
    "save_kv_layer",
    "layers_replayed",
    "wait_for_save",
    "get_finished",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedSize:
    """Sizes of the model and its cache; `blocks` counts the null block."""

    layers: int = 1
    heads: int = 1
    block_size: int = 1
    blocks: int = 2
    blocks_per_request: int = 1

    @property
    def slots(self) -> int:
        return self.blocks * self.block_size

    @property
    def longest(self) -> int:
        """Tokens of a request at most."""
        return self.blocks_per_request * self.block_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a step does for one request.

    Its tokens are the prompt and then the generated ones; those from `start` up to, not
    including, `stop` are computed. `load` leading positions come from the connector before,
    whole blocks of `save` leading positions go to it after.
    """

    name: str
    prompt: tuple[int, ...]
    start: int
    stop: int
    blocks: tuple[int, ...]
    generated: tuple[int, ...] = ()
    load: int = 0
    save: int = 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens up to `stop`."""
        return (*self.prompt, *self.generated)[: self.stop]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """One real step. `finished` are requests that ended since the last one.

    `dies` at least 0: the worker ends at that sync to disk of the step, counted from 0, two for
    each entry, before and after its name is there; and a new worker starts.
    """

    requests: tuple[Served, ...]
    finished: tuple[str, ...] = ()
    dies: int = -1


@dataclass(frozen=True, slots=True)
class Dummy:
    """A dummy run of so many rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Something befalls the entry of these tokens, of the model that is served just then.

    `how` is one of `DAMAGES`.
    """

    tokens: tuple[int, ...]
    how: str


@dataclass(frozen=True, slots=True)
class Restart:
    """A new worker, with fresh caches and the same store, for a model of this name."""

    model: str = MODELS[0]


@dataclass(frozen=True, slots=True)
class ByHand:
    """A step whose calls are made by hand: names of `CALLS`, each with the number of a layer.

    What is out of its place must be refused. A dummy step, or a real one of one request that
    moves nothing.
    """

    dummy: bool
    calls: tuple[tuple[str, int], ...]


Event = Serve | Dummy | Damage | Restart | ByHand


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorCase:
    """One worker on a store that is empty at first; it warms up, then the events happen.

    The first worker serves the first of `MODELS`, one that follows a death the model before it.

    `mode` is the kind of graph that is asked for, `buckets` the numbers of rows that graphs are
    captured for. A staged connector moves at most `capacity` tokens a step each way.
    """

    size: PagedSize
    connector: str
    mode: str
    events: tuple[Event, ...]
    dtype: str = "float32"
    capacity: int = 64
    buckets: tuple[int, ...] = (4,)

    @property
    def op(self) -> str:
        """What ``--op`` calls cases of this kind."""
        return "connector"
