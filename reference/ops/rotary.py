"""Rotary position embedding, in NeoX (halves) and GPT-J (pairs) order."""

from __future__ import annotations

from reference.step import Contract, Step


def _rotated(source: str, prefix: str, needs: str | None = None) -> tuple[Step, ...]:
    def product(name: str, *operands: str) -> Step:
        return Step(
            name=f"{prefix}_{name}",
            function="multiply",
            operands=operands,
            format="@x_query",
            optional=True,
            contracted="optional",
            needs=needs,
        )

    def result(name: str, function: str, *operands: str) -> Step:
        return Step(
            name=f"{prefix}_{name}",
            function=function,
            operands=operands,
            format="@x_query",
            needs=needs,
        )

    def exact(name: str, function: str, *operands: str) -> Step:
        return Step(name=name, function=function, operands=operands, format=None, needs=needs)

    first, second = f"{prefix}_x1", f"{prefix}_x2"
    return (
        exact(first, "rotary_first", source),
        exact(second, "rotary_second", source),
        product("x1_cos", first, "cos"),
        product("x2_sin", second, "sin"),
        product("x2_cos", second, "cos"),
        product("x1_sin", first, "sin"),
        result("o1", "subtract", f"{prefix}_x1_cos", f"{prefix}_x2_sin"),
        result("o2", "add", f"{prefix}_x2_cos", f"{prefix}_x1_sin"),
        exact(prefix, "put_back", source, f"{prefix}_o1", f"{prefix}_o2"),
    )


_ANGLES = tuple(
    Step(
        name=name,
        function=function,
        operands=("cos_sin_cache", "positions"),
        format="@x_query",
        optional=True,
    )
    for name, function in (("cos", "cosines"), ("sin", "sines"))
)

CONTRACTS = (
    Contract(
        name="rotary_embedding/1",
        op="rotary_embedding",
        steps=_ANGLES + _rotated("x_query", "query") + _rotated("x_key", "key", needs="x_key"),
        outputs={"query": "query", "key": "key"},
        rows=("positions", "x_query", "x_key"),
        leading=1,
        cancellation=True,
    ),
)
