"""Memory and intervals as Python text: readable while small, bit for bit always."""

from __future__ import annotations

import base64
import math
import textwrap
import zlib
from collections.abc import Sequence

import numpy as np

from reference.dtypes import decode, format_of
from reference.expectation import ExpectedOutput
from reference.model import Fill, Storage

READABLE = 64
"""Elements up to which a storage is written as numbers."""
LITERAL = 4096
"""Elements up to which a fill is written out, and up to which expectations are complete."""
WIDTH = 96
_SHORT = 8


def number(value: float) -> str:
    """A float as Python text that means exactly it, given ``inf`` and ``nan`` by name."""
    return repr(float(value))


def wrapped(first: str, items: Sequence[str], last: str, *, indent: int, each: bool = False) -> str:
    """``first``, the items between commas, ``last``: on one line or on several of their own.

    ``each`` gives every item a line of its own where one line does not hold them all.
    """
    line = f"{' ' * indent}{first}{', '.join(items)}{last}"
    if len(line) <= WIDTH:
        return line
    inner = " " * (indent + 4)
    if each:
        body = "\n".join(f"{inner}{item}," for item in items)
        return f"{' ' * indent}{first}\n{body}\n{' ' * indent}{last}"
    body = textwrap.fill(
        ", ".join(items) + ",",
        width=WIDTH,
        initial_indent=inner,
        subsequent_indent=inner,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{' ' * indent}{first}\n{body}\n{' ' * indent}{last}"


def storage_lines(name: str, storage: Storage, *, indent: int) -> str:
    """Statements that make ``name`` a fresh 1-D tensor with the storage's very bytes."""
    if isinstance(storage.content, Fill) and storage.numel > LITERAL:
        fill = storage.content
        return f"{' ' * indent}{name} = fill_{_slug(fill.pattern)}_{storage.dtype}" + (
            f"({fill.key}, {storage.numel}, {fill.parameter})"
        )
    raw = storage.array().tobytes()
    if storage.numel <= READABLE:
        texts = _readable(storage)
        if texts is not None:
            return _tensor(name, storage, texts, indent)
    packed = storage.numel > LITERAL
    text = base64.b85encode(zlib.compress(raw, 9)).decode("ascii") if packed else raw.hex()
    lines = textwrap.wrap(text, WIDTH - indent - 8)
    body = "\n".join(f'{" " * (indent + 8)}"{line}"' for line in lines)
    inner = " " * (indent + 4)
    decoder = "zlib.decompress(base64.b85decode(" if packed else "bytearray.fromhex("
    opening, closing = (f"bytearray({decoder}", ")))") if packed else (decoder, ")")
    return (
        f"{' ' * indent}{name} = torch.frombuffer(\n{inner}{opening}\n{body}\n{inner}{closing},\n"
        f"{inner}dtype=torch.{storage.dtype},\n{' ' * indent}).clone()"
    )


def _slug(pattern: str) -> str:
    return pattern.replace("-", "_")


def _tensor(name: str, storage: Storage, texts: list[str], indent: int) -> str:
    line = wrapped(
        f"{name} = torch.tensor([", texts, f"], dtype=torch.{storage.dtype})", indent=indent
    )
    floats = format_of(storage.dtype).kind == "float"
    values = decode(storage.array(), storage.dtype) if floats else []
    if len(texts) <= _SHORT and any(len(text) > _SHORT for text in texts):
        exact = ", ".join(_trimmed(float(value)) for value in values)
        line = f"{' ' * indent}# {exact}\n{line}"
    return line


def _trimmed(value: float) -> str:
    if not math.isfinite(value):
        return number(value)
    mantissa, _, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}"


def _readable(storage: Storage) -> list[str] | None:
    """Each element as text that ``torch.tensor`` reads back bit for bit, or None."""
    fmt = format_of(storage.dtype)
    array = storage.array()
    if fmt.kind != "float":
        return [repr(value) for value in array.tolist()]
    bits = array.view(f"u{fmt.size}")
    texts = [_shortest(value, storage.dtype) for value in decode(array, storage.dtype)]
    back = np.array([float(text) for text in texts], dtype=np.float64)
    if storage.dtype != "float64":
        back = back.astype(np.float32)
    # A NaN with another sign or payload than torch.tensor's own has no readable form. That of
    # float8_e5m2 is 0x7f, where ml_dtypes has 0x7e.
    if storage.dtype == "float8_e5m2" and "nan" in texts:
        return None
    return texts if (back.astype(fmt.dtype).view(f"u{fmt.size}") == bits).all() else None


def _shortest(value: float, dtype: str) -> str:
    """The fewest digits that torch.tensor (through float32) reads back as ``value``."""
    exact = number(value)
    if not math.isfinite(value) or dtype == "float64":
        return exact
    target = format_of(dtype).dtype
    for digits in range(1, 17):
        text = repr(float(f"{value:.{digits}g}"))
        with np.errstate(over="ignore"):
            back = np.float64(text).astype(np.float32).astype(target)
        if len(text) >= len(exact):
            break
        if float(back) == value:
            return text
    return exact


def element(low: float, high: float, nan: int) -> str:
    """What one element may be: a number, (low, high), nan, or (low, high, nan)."""
    if nan == 2:
        return "nan"
    same = low == high and math.copysign(1.0, low) == math.copysign(1.0, high)
    if nan == 1:
        return f"({number(low)}, {number(high)}, nan)"
    return number(low) if same else f"({number(low)}, {number(high)})"


def output_lines(output: ExpectedOutput, place: int | None, *, elements: bool, indent: int) -> str:
    """One entry of EXPECTED: name, dtype, shape, strides, and with ``elements`` what each may be.

    Beyond ``LITERAL`` elements a dictionary by flat index holds ``place`` and a spread of others.
    """
    pad = " " * indent
    head = f'{pad}("{output.name}", torch.{output.dtype}, {output.shape}, {output.strides}'
    if not elements:
        return f"{head}),"
    interval = output.interval
    low, high, nan = (a.reshape(-1) for a in (interval.lo, interval.hi, interval.nan))
    whole = is_whole(output)
    chosen = set(range(low.size) if whole else _spread(low.size))
    chosen |= {place} if place is not None else set()
    texts = [
        ("" if whole else f"{i}: ") + element(float(low[i]), float(high[i]), int(nan[i]))
        for i in sorted(chosen)
    ]
    body = wrapped("[" if whole else "{", texts, "]" if whole else "}", indent=indent + 1)
    line = f"{head}, {body.strip()}),"
    return line if len(line) <= WIDTH and "\n" not in body else f"{head},\n{body}),"


def is_whole(output: ExpectedOutput) -> bool:
    """Whether every element of ``output`` is written down, or a spread of them."""
    return output.interval.lo.size <= LITERAL


def _spread(size: int) -> list[int]:
    return [int(i) for i in np.linspace(0, size - 1, LITERAL // 8)]
