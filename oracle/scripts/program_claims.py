"""What a program's script holds its run against: what the reference knows, as literals."""

from __future__ import annotations

import numpy as np

from oracle.finding import Finding
from reference.dtypes import FORMATS, decode, numpy_dtype
from reference.programs import ExpectedCall, ExpectedProgram

from .literal import number, output_lines, wrapped

KNOWN = 64
"""Elements up to which a tensor's expected content is written down."""


def steps_claimed(finding: Finding) -> bool:
    """Whether the script holds what ops of the IR return against their intervals."""
    return finding.judge == "program-steps"


def constants(finding: Finding, expected: ExpectedProgram) -> list[str]:
    """The names in capitals that the script's functions use."""
    free = tuple(i for i, s in enumerate(expected.storages) if s.given or s.free is not None)
    lines = [f"PROVIDER, PLACE = {finding.provider!r}, {_place(finding)!r}"]
    lines.append(f"FREE = {free!r}  # storages whose content was given away")
    if finding.judge == "program-clones":
        lines.append(f"DONATED = {finding.case.donated!r}")
    elif finding.judge == "program-graph":
        lines.append(f"LOWERED = {finding.route != 'fx-pass'}")
    elif finding.judge != "program-cache":
        lines.append(_known(finding, expected, free))
    if steps_claimed(finding):
        lines.append(_intervals(expected))
    if finding.source is not None:
        lines.append(f"FILE_NAME = {finding.source.name!r}")
    return lines


def _place(finding: Finding) -> str:
    """The place as the script names it: what it prints first."""
    name, index = finding.place.name, finding.place.index
    if not index:
        return name
    of_output = {"program-layout": "look of output", "program-aliases": "memory of output"}
    match name:
        case "output":
            return f"{of_output.get(finding.judge, name)} {index[0]}"
        case "input" | "beside inputs":
            return f"storage {index[0]}"
    return name


def _known(finding: Finding, expected: ExpectedProgram, free: tuple[int, ...]) -> str:
    """Contents that follow from the program alone, whatever its ops of the IR may return."""
    if not all(_is_point(call) for call in expected.calls):
        return "KNOWN = {}  # what ops of the IR return leaves the rest open"
    items: list[str] = []
    held = [(f"output {i}", o.dtype, o.content) for i, o in enumerate(expected.outputs)]
    for i, storage in enumerate(expected.storages):
        if i not in free:
            held.append((f"storage {i}", finding.case.storages[i].dtype, storage.content))
    for name, dtype, content in held:
        array = np.frombuffer(content, numpy_dtype(dtype))
        if array.size <= KNOWN:
            items.append(f'"{name}": [{", ".join(_texts(array, dtype))}]')
    return wrapped("KNOWN = {", items, "}", indent=0, each=True)


def _texts(array: np.ndarray, dtype: str) -> list[str]:
    if FORMATS[dtype].kind == "float":
        return [number(float(value)) for value in decode(array, dtype)]
    return [repr(value) for value in array.tolist()]


def _is_point(call: ExpectedCall) -> bool:
    return all(
        bool((o.interval.lo == o.interval.hi).all() and (o.interval.nan == 0).all())
        for o in call.outputs
    )


def _intervals(expected: ExpectedProgram) -> str:
    """Of calls up to the first whose result is no point: later ones follow from what it was."""
    lines = ["INTERVALS = ["]
    for call in expected.calls:
        lines += [output_lines(o, None, elements=True, indent=4) for o in call.outputs]
        if not _is_point(call):
            break
    return "\n".join([*lines, "]"])
