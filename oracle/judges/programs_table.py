"""The rows of the judges of programs."""

from __future__ import annotations

from dataclasses import replace

from .judge import Judge
from .programs_graph import GRAPH_KINDS, program_cache, program_clones, program_graph
from .programs_memory import program_aliases, program_layout
from .programs_stock import AS_STOCK, beside_stock
from .programs_values import (
    program_completion,
    program_inputs,
    program_routes,
    program_steps,
    program_values,
)

_OF_RUNS = (
    Judge(
        name="program-completion",
        claim="a program that torch takes returns, one that it refuses raises",
        codes=("META", "GRAPH"),
        kinds={
            "raised": "a legal program raised",
            "not-refused": "an illegal program returned",
            "crash": "the process died",
            "timeout": "the program did not end in the time a case is given",
        },
        judge=program_completion,
    ),
    Judge(
        name="program-values",
        claim="every output is, bit for bit, what the program means",
        codes=("VAL", "META"),
        kinds={
            "arity": "the number of outputs is wrong",
            "dtype": "an output has the wrong dtype",
            "shape": "an output has the wrong shape",
            "value": "an element has other bits",
        },
        judge=program_values,
    ),
    Judge(
        name="program-routes",
        claim="every route gives the bits that running step by step gives",
        codes=("VAL", "CACHE"),
        kinds={"route-differs": "an element has other bits than step by step in torch"},
        judge=program_routes,
    ),
    Judge(
        name="program-steps",
        claim="what ops of the IR return inside a program lies in the contract's interval",
        codes=("VAL", "META"),
        kinds={
            "dtype": "an output has the wrong dtype",
            "shape": "an output has the wrong shape",
            "value": "an element lies outside its interval",
            "nan": "an element is NaN where it must not be, or is not where it must be",
            "zero-sign": "a zero has the wrong sign",
            "bound-too-wide": "an interval spans over 4 ulps, no cancellation: undecided",
        },
        judge=program_steps,
    ),
    Judge(
        name="program-inputs",
        claim="the memory given to a program holds what the program leaves in it",
        codes=("MUT",),
        kinds={
            "input-written": "memory that the program leaves alone changed",
            "input-after": "memory that the program writes holds something else",
        },
        judge=program_inputs,
    ),
    Judge(
        name="program-layout",
        claim="outputs have the strides, offset and device that the program gives them",
        codes=("META",),
        kinds={
            "stride": "an output has other strides",
            "offset": "an output starts elsewhere in its storage",
            "device": "an output is on another device",
        },
        judge=program_layout,
    ),
    Judge(
        name="program-aliases",
        claim="outputs and inputs share memory as the program says",
        codes=("ALIAS", "MUT"),
        kinds={
            "output-aliases-input": "an output lies in an input's storage and should not",
            "output-lost-its-input": "an output should lie in an input's storage and does not",
            "outputs-share-storage": "two outputs share a storage and should not",
            "outputs-parted": "two outputs should share a storage and do not",
            "write-reaches": "writing an output changes something else than it should",
        },
        judge=program_aliases,
    ),
)

_OF_GRAPHS = (
    Judge(
        name="program-graph",
        claim="the graph after the passes is legal, whole, and tells the truth about its values",
        codes=("GRAPH", "META", "DYN"),
        kinds=GRAPH_KINDS,
        judge=program_graph,
    ),
    Judge(
        name="program-cache",
        claim="a replacement cache gives the graph that tracing afresh gives",
        codes=("CACHE",),
        kinds={
            "cache-key-too-weak": "a key served another graph than its own",
            "warm-differs": "a warm cache gives another graph, though it served nothing",
            "traced-again": "a graph that the cache has served is traced again",
        },
        judge=program_cache,
    ),
    Judge(
        name="program-clones",
        claim="no clone is gone that somebody could miss",
        codes=("VAL", "MUT", "ALIAS"),
        kinds={"removed-needed": "random data, or inputs that are one tensor, tell it is gone"},
        judge=program_clones,
    ),
)


def _with_stock(row: Judge) -> Judge:
    kinds = {**row.kinds, AS_STOCK: "torch.compile without us does the same: undecided"}
    return replace(row, kinds=kinds, judge=beside_stock(row.judge))


PROGRAM_JUDGES = (*map(_with_stock, _OF_RUNS), *_OF_GRAPHS)
