"""Cases that once showed something, kept for ever: one JSON file each, named for what it showed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from reference.model import CaseFormatError, OpCase, ProgramCase, case_from_json


@dataclass(frozen=True, slots=True)
class CorpusCase:
    """A kept case; ``name`` is its file's name without the ending."""

    name: str
    case: OpCase | ProgramCase


def corpus_cases(op: str | None = None) -> tuple[CorpusCase, ...]:
    """The kept cases (of ``op``, which is ``program`` for programs, or all), by name.

    Raises ``CaseFormatError`` with the file's name where one cannot be read.
    """
    folder = resources.files("fuzz.corpus")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)
    found = []
    for file in files:
        try:
            case = case_from_json(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise CaseFormatError(f"{file.name}: {error}") from error
        if op is None or case.op == op:
            found.append(CorpusCase(file.name.removesuffix(".json"), case))
    return tuple(found)
