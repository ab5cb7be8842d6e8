"""The fills of the reference, said again in torch: integer arithmetic, one scaling, one rounding.

Nothing is imported from the reference's generator but the constants of the formats, because the
script must make the same bytes where there is neither NumPy nor anything of ours.
"""

from __future__ import annotations

import math

from reference.dtypes import FORMATS, Format, encode

from . import piece
from .literal import number

_DYADIC = "(remainder(w, 65).double() - 32.0) / 8.0"
_SIGN = "(1.0 - 2.0 * (w & 1).double())"
_EXPRESSIONS = {
    "zeros": "torch.zeros(count, dtype=torch.float64)",
    "ones": "torch.ones(count, dtype=torch.float64)",
    "dyadic": _DYADIC,
    "ramp": "(torch.arange(count) % 64 + 1).double() / 8.0",
    "uniform": "fraction(w) * 4.0 - 2.0",
    "unit": "fraction(w) * 2.0 - 1.0",
    "positive": "(fraction(w) + 2.0**-10) * 2.0",
    "normal": "(sum(((w >> 16 * i) & 0xFFFF).double() for i in range(4)) - 131070.0) "
    "* (1.75 / 65536.0)",
    "shifted": "64.0 + (sum(((w >> 16 * i) & 0xFFFF).double() for i in range(4)) - 131070.0) "
    "* (1.75 / 65536.0)",
    "wide": f"{_SIGN} * (1.0 + fraction(w << 12)) "
    "* ((remainder(shifted(w, 52), {twice_span}) - {span} + 1023) << 52).view(torch.float64)",
    "outlier": f"torch.where(shifted(w, 40) % 16 == 0, 64.0, 1.0).double() * ({_DYADIC})",
    "special": f"torch.where(shifted(w, 60) < 4, TABLE[shifted(w, 8) % len(TABLE)], {_DYADIC})",
    "signed-zero": f"{_SIGN} * (shifted(w, 60) < 4).double()",
    "subnormal": "(remainder(w, 17).double() - 8.0) * {tiny}",
    "scale-edge": "2.0 ** (remainder(shifted(w[:1], 8), 19) - 9).double() * torch.where("
    f"shifted(w, 60) < 4, {_SIGN} * (448.0 + (remainder(w[:1], 5) - 1).double() * {{ulp}}), "
    f"{_DYADIC})",
    "index": "remainder(w, max(1, parameter)).double()",
}
_NEEDS_ROUNDING = frozenset({"uniform", "unit", "positive", "normal", "shifted", "wide", "index"})


def fill_functions(wanted: set[tuple[str, str]]) -> str:
    """Functions ``fill_PATTERN_DTYPE(key, count, parameter)`` for (pattern, dtype) pairs.

    Raises ``ValueError`` for a pattern that is not written down here.
    """
    if not wanted:
        return ""
    return "\n\n\n".join(
        [piece("words"), *(_function(pattern, dtype) for pattern, dtype in sorted(wanted))]
    )


def _function(pattern: str, dtype: str) -> str:
    fmt = FORMATS[dtype]
    base = "special" if pattern == "special-finite" else pattern
    if base not in _EXPRESSIONS:
        raise ValueError(f"fill pattern {pattern!r}; accepted: {', '.join(sorted(_EXPRESSIONS))}")
    span = max(2, -fmt.emin // 3)
    expression = _EXPRESSIONS[base]
    for name, text in (
        ("{span}", str(span)),
        ("{twice_span}", str(2 * span + 1)),
        ("{ulp}", number(2.0 ** (9 - fmt.precision))),
        ("{tiny}", number(fmt.min_subnormal) if fmt.kind == "float" else "1.0"),
    ):
        expression = expression.replace(name, text)
    lines = [f"def fill_{pattern.replace('-', '_')}_{dtype}(key, count, parameter):"]
    lines.append("    w = words(key, count)")
    if base == "special":
        table = ", ".join(_table(fmt, finite=pattern == "special-finite"))
        lines.append(f"    TABLE = torch.tensor([{table}], dtype=torch.float64)")
    lines.append(f"    values = {expression}")
    if base in _NEEDS_ROUNDING and dtype in ("float16", "bfloat16"):
        lines.append(f"    values = {_rounding(fmt)}")
    if pattern == "special":
        # torch's vectorized conversions make NaN of other bits than its scalar ones.
        quiet = int(encode([math.nan], dtype).view(f"i{fmt.size}")[0])
        lines.append(f"    made = values.to(torch.{dtype})")
        lines.append(f"    made.view(torch.int{8 * fmt.size})[values.isnan()] = {quiet:#x}")
        return "\n".join([*lines, "    return made"])
    lines.append(f"    return values.to(torch.{dtype})")
    return "\n".join(lines)


def _rounding(fmt: Format) -> str:
    return (
        f"rounded(values, {53 - fmt.precision}, {number(fmt.min_normal)}, "
        f"{number(fmt.min_subnormal)}, {number(fmt.max)})"
    )


def _table(fmt: Format, *, finite: bool) -> list[str]:
    normal, tiny = fmt.min_normal, fmt.min_subnormal
    values = [0.0, -0.0, 1.0, -1.0, fmt.max, -fmt.max, 0.5, -0.5, 2.5]
    values += [normal, -normal, tiny, -tiny, 3 * tiny]
    texts = [number(value) for value in values]
    return texts if finite else [*texts, "inf", "-inf", "nan", "nan"]
