"""A finding: a shrunk DISAGREES with everything needed to run it again and to tell what it is."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oracle.verdict import Place
from reference.model import CODECS, CaseFormatError, case_from_json, case_to_json

FORMAT = 1
CASE_KINDS = tuple(codec.kind for codec in CODECS)
_TEXTS = (
    "fingerprint",
    "property",
    "subject",
    "op",
    "provider",
    "route",
    "judge",
    "kind",
    "contract",
    "device",
)


class FindingFormatError(ValueError):
    """Data that is no finding: says what was found and what would be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A user's registration file: its name (no folder) and its text, line ends as they were."""

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> Source:
        """The file at ``path``, decoded as Python would decode it (PEP 263)."""
        with path.open("rb") as file:
            encoding, _ = tokenize.detect_encoding(file.readline)
        return cls(name=path.name, text=path.read_bytes().decode(encoding))


@dataclass(frozen=True, slots=True)
class AlsoOn:
    """Another route that shows the same judge, kind and output, and its fingerprint there.

    ``property`` is empty for the finding's own; where it is another, that one shows the finding's
    very case too.
    """

    route: str
    fingerprint: str
    property: str = ""

    def __str__(self) -> str:
        return f"{self.route} of {self.property}" if self.property else self.route


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement, shrunk. ``kind`` is a slug of the judge named ``judge``.

    ``contract`` is the name it was judged against, empty for kinds of case that have none.
    ``differing`` counts the elements that differ in the shrunk case. ``source`` is the user's
    file that registered the provider, None for the subject's own. ``seed`` is the run's.
    ``alone`` is False where a process that had run nothing but findings did not show it.
    """

    fingerprint: str
    property: str
    subject: str
    op: str
    provider: str
    route: str
    judge: str
    kind: str
    contract: str
    device: str
    case: Any
    place: Place
    differing: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None
    also_on: tuple[AlsoOn, ...] = ()
    seed: int = 0
    alone: bool = True


def check_to_json(finding: Finding) -> dict[str, Any]:
    """Everything of a finding but its case, JSON-ready."""
    place, source = finding.place, finding.source
    data: dict[str, Any] = {name: getattr(finding, name) for name in _TEXTS}
    data["place"] = {
        "name": place.name,
        "index": None if place.index is None else list(place.index),
        "observed": place.observed,
        "expected": place.expected,
    }
    data["differing"] = finding.differing
    data["versions"] = dict(finding.versions)
    data["source"] = None if source is None else {"name": source.name, "text": source.text}
    data["also_on"] = [
        {"route": other.route, "fingerprint": other.fingerprint, "property": other.property}
        for other in finding.also_on
    ]
    data["seed"] = finding.seed
    data["alone"] = finding.alone
    return data


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """The finding as JSON-ready data; ``finding_from_json`` gives it back."""
    return {"format": FORMAT, **check_to_json(finding), "case": case_to_json(finding.case)}


def case_file_to_json(finding: Finding) -> dict[str, Any]:
    """A case file: the case's own JSON, and the check that it failed under ``check``."""
    return {**case_to_json(finding.case), "check": check_to_json(finding)}


def finding_from_json(data: Any) -> Finding:
    """The finding that ``data`` (of ``finding_to_json`` or ``case_file_to_json``) holds.

    Raises ``FindingFormatError`` for anything else.
    """
    if not isinstance(data, dict):
        raise FindingFormatError(f"not a finding: {type(data).__name__}; accepted: an object")
    if data.get("kind") in CASE_KINDS:
        if "check" not in data:
            raise FindingFormatError("a case without a check; accepted: a case file with 'check'")
        case, check = data, data["check"]
    else:
        if data.get("format") != FORMAT:
            raise FindingFormatError(
                f"not a finding: format {data.get('format')!r}; accepted: format {FORMAT}"
            )
        case, check = data.get("case"), data
    try:
        return _finding(case_from_json(case), check)
    except CaseFormatError as error:
        raise FindingFormatError(f"not a finding: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FindingFormatError(f"not a finding: {type(error).__name__}: {error}") from error


def _finding(case: Any, data: dict[str, Any]) -> Finding:
    texts = {name: data[name] for name in _TEXTS}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}; accepted: a string")
    place, source = data["place"], data["source"]
    return Finding(
        **texts,
        case=case,
        place=Place(
            name=place["name"],
            index=None if place["index"] is None else tuple(place["index"]),
            observed=place["observed"],
            expected=place["expected"],
        ),
        differing=int(data["differing"]),
        versions=dict(data["versions"]),
        source=None if source is None else Source(name=source["name"], text=source["text"]),
        also_on=tuple(
            AlsoOn(other["route"], other["fingerprint"], other.get("property", ""))
            for other in data["also_on"]
        ),
        seed=int(data["seed"]),
        # Findings of before it was looked at.
        alone=bool(data.get("alone", True)),
    )
