"""Families of programs: each makes one kind of interplay between clones, views and writes usual."""

from __future__ import annotations

from collections.abc import Callable

from reference.model import ProgramCase, Value

from ...chooser import Chooser
from .builder import Builder, is_float
from .memory import draw_memory
from .moves import MOVES, clone_of, partner, unary, view_of, write_to

_READS = (2, -1, 0.5, 3)


def started(chooser: Chooser, *, aliased: float = 0.3, donated: float = 0.2) -> Builder:
    """A builder over fresh memory."""
    given = draw_memory(chooser, aliased=aliased, donated=donated)
    return Builder(chooser, given.storages, given.tensors, given.inputs, given.donated)


def some_moves(b: Builder, low: int, high: int) -> None:
    for _ in range(b.chooser.integer(low, high)):
        b.chooser.choose(MOVES)(b)


def read(b: Builder, number: int) -> int | None:
    """A new value that depends on every element of one."""
    made = b.add("aten.mul.Tensor", Value(number), b.chooser.choose(_READS))
    return made[0] if made else None


def outputs(b: Builder, *wanted: int | None) -> tuple[int, ...]:
    """The wanted values and a few others, seldom one twice; at least one."""
    found = [w for w in wanted if w is not None and not b.tensor(w).is_lost]
    for _ in range(b.chooser.choose((0, 1, 1, 2))):
        other = b.pick()
        if other is not None:
            found.append(other)
    if found and b.chooser.chance(0.1):
        found.append(b.chooser.choose(found))
    if not found:
        last = b.pick()
        found = [0 if last is None else last]
    return tuple(found)


def mixed(chooser: Chooser) -> ProgramCase:
    """Any steps on any memory."""
    b = started(chooser)
    some_moves(b, 4, 11)
    last = len(b.machine.values) - 1
    return b.program(outputs(b, last))


def clone_and_write(chooser: Chooser) -> ProgramCase:
    """A clone of an input or of a temporary; then writes to either or to views, and reads."""
    b = started(chooser)
    some_moves(b, 0, 2)
    original = source(b)
    views = [view_of(b, original)] if chooser.chance(0.3) else []
    copy = clone_of(b, original)
    if copy is None:
        return mixed(chooser)
    for _ in range(chooser.choose((1, 1, 2, 3))):
        write_to(b, chooser.choose((copy, copy, original)))
        if chooser.chance(0.25):
            some_moves(b, 1, 1)
    kept = [read(b, v) for v in (original, *views) if v is not None and chooser.chance(0.5)]
    result = copy if chooser.chance(0.35) else read(b, copy)
    return b.program(outputs(b, result, *kept))


def source(b: Builder) -> int:
    """An input, or a temporary made for the purpose; the first input where no float is there."""
    number = b.pick(is_float)
    if number is None:
        return 0
    if b.chooser.chance(0.55):
        made = b.add("aten.mul.Tensor", Value(number), b.chooser.choose((2, -1)))
        number = made[0] if made else number
    return number


def chain(chooser: Chooser) -> ProgramCase:
    """Clones of clones, some of them dead, with writes and views in between."""
    b = started(chooser)
    number = source(b)
    for _ in range(chooser.choose((2, 2, 3, 4))):
        made = clone_of(b, number)
        if made is None:
            break
        if chooser.chance(0.35):
            write_to(b, chooser.choose((made, number)))
        if chooser.chance(0.75):
            number = made
        if chooser.chance(0.3):
            made = view_of(b, number)
            number = number if made is None else made
    some_moves(b, 0, 2)
    return b.program(outputs(b, number if chooser.chance(0.4) else read(b, number)))


def aliased(chooser: Chooser) -> ProgramCase:
    """Inputs that share memory, are one tensor, or are written while views of them are read."""
    b = started(chooser, aliased=0.85, donated=0.1)
    for _ in range(chooser.choose((1, 2, 3))):
        number = b.chooser.integer(0, len(b.inputs) - 1)
        if chooser.chance(0.5):
            clone_of(b, number)
        write_to(b, number)
        some_moves(b, 0, 2)
    first = view_of(b, chooser.integer(0, len(b.inputs) - 1))
    return b.program(outputs(b, first, len(b.machine.values) - 1))


def donating(chooser: Chooser) -> ProgramCase:
    """Donated inputs, cloned and written; clones of them may be returned in their place."""
    b = started(chooser, aliased=0.1, donated=0.8)
    number = chooser.integer(0, len(b.inputs) - 1)
    copy = clone_of(b, number)
    if copy is None:
        return mixed(chooser)
    write_to(b, copy)
    some_moves(b, 0, 3)
    if chooser.chance(0.4):
        write_to(b, number)
    return b.program(outputs(b, chooser.choose((copy, copy, read(b, copy)))))


def temporaries(chooser: Chooser) -> ProgramCase:
    """Clones of temporaries that are read or written once more, and nothing else of them kept."""
    b = started(chooser)
    kept = []
    for _ in range(chooser.choose((1, 1, 2, 3))):
        number = b.pick(is_float)
        made = b.add("aten.mul.Tensor", Value(0 if number is None else number), 2)
        if not made:
            continue
        if chooser.chance(0.25):
            view_of(b, made[0])
        copy = clone_of(b, made[0])
        if copy is None:
            continue
        if chooser.chance(0.6):
            write_to(b, copy)
        if chooser.chance(0.2):
            read(b, made[0])
        kept.append(copy if chooser.chance(0.5) else read(b, copy))
    unary(b)
    return b.program(outputs(b, *kept))


def needed(chooser: Chooser) -> ProgramCase:
    """Clones that somebody relies on: returned, or written while the original is read, or both."""
    b = started(chooser, donated=0.0)
    kept: list[int | None] = []
    for _ in range(chooser.choose((1, 1, 2))):
        original = source(b)
        copy = clone_of(b, original)
        if copy is None:
            continue
        written = chooser.choose((copy, original))
        if chooser.chance(0.8):
            write_to(b, written)
            kept += [read(b, original), copy if chooser.chance(0.5) else read(b, copy)]
        else:
            kept += [original, copy]
    if chooser.chance(0.4):
        some_moves(b, 1, 2)
    return b.program(outputs(b, *kept))


def copied_over(chooser: Chooser) -> ProgramCase:
    """A copy onto a clone as AOTAutograd writes it: the result lies where the clone would.

    Any program, where nothing can be cloned or copied.
    """
    b = started(chooser)
    some_moves(b, 0, 2)
    original = chooser.integer(0, len(b.inputs) - 1) if chooser.chance(0.7) else source(b)
    if chooser.chance(0.3):
        made = view_of(b, original)
        original = original if made is None else made
    copy = clone_of(b, original)
    if copy is None:
        return mixed(chooser)
    taken = partner(b, b.tensor(copy))
    results = b.add("aten.copy.default", Value(copy), Value(max(taken, 0)))
    if not results:
        return mixed(chooser)
    result = results[0]
    if chooser.chance(0.3):
        write_to(b, result)
    if chooser.chance(0.3):
        made = clone_of(b, result)
        result = result if made is None else made
    some_moves(b, 0, 2)
    return b.program(outputs(b, result if chooser.chance(0.6) else read(b, result)))


Family = Callable[[Chooser], ProgramCase]
FAMILIES: dict[str, Family] = {
    "mixed": mixed,
    "clone-and-write": clone_and_write,
    "chain": chain,
    "aliased": aliased,
    "donating": donating,
    "temporaries": temporaries,
    "needed": needed,
}
"""By name; each is a pure function of the chooser's answers. ``copied_over`` is drawn by itself."""
