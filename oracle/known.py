"""Known disagreements: excused one by one, and strict both ways.

An entry excuses a finding only where subject, version, kind and fingerprint are all equal. An
entry that a run selected and did not see again is a failure too: it is gone, so it must go.
Which entries a run selects follows from what their fingerprints are made of, so an entry names
that too, and one whose fingerprint is not made of what it names is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path

from oracle.finding import Finding
from oracle.verdict import fingerprint

DEFAULT_PATH = Path(__file__).with_name("known.toml")


class KnownFormatError(ValueError):
    """A file of known disagreements that cannot be used: says where, what, and what is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntry:
    """One excused disagreement. ``version`` is what the subject says of itself, exactly."""

    subject: str
    version: str
    property: str
    op: str
    provider: str
    route: str
    kind: str
    output: str
    fingerprint: str
    reason: str
    link: str


_FIELDS = tuple(each.name for each in fields(KnownEntry))


@dataclass(frozen=True, slots=True)
class Known:
    """The entries of one file; no fingerprint twice for one subject and version."""

    entries: tuple[KnownEntry, ...] = ()

    @classmethod
    def load(cls, path: Path = DEFAULT_PATH) -> Known:
        """The entries of ``path``. Raises ``KnownFormatError`` naming the file and the entry."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise KnownFormatError(f"{path}: {error}; accepted: a TOML file") from error
        if unknown := sorted(set(data) - {"known"}):
            raise KnownFormatError(f"{path}: key {unknown[0]!r}; accepted: [[known]] tables only")
        tables = data.get("known", [])
        if not isinstance(tables, list):
            raise KnownFormatError(f"{path}: 'known' is no list; accepted: [[known]] tables")
        entries = tuple(
            _entry(table, f"{path}: entry {number}") for number, table in enumerate(tables, start=1)
        )
        seen: set[tuple[str, str, str]] = set()
        for number, entry in enumerate(entries, start=1):
            key = (entry.subject, entry.version, entry.fingerprint)
            if key in seen:
                raise KnownFormatError(
                    f"{path}: entry {number}: fingerprint {entry.fingerprint} again; accepted: "
                    "once for each subject and version"
                )
            seen.add(key)
        return cls(entries)

    def find(self, *, subject: str, version: str, kind: str, fingerprint: str) -> KnownEntry | None:
        """The entry with exactly these four, or None."""
        wanted = (subject, version, kind, fingerprint)
        for entry in self.entries:
            if (entry.subject, entry.version, entry.kind, entry.fingerprint) == wanted:
                return entry
        return None

    def classify(self, finding: Finding) -> KnownEntry | None:
        """The entry that excuses ``finding``: its subject's version is ``versions[subject]``."""
        return self.find(
            subject=finding.subject,
            version=finding.versions.get(finding.subject, ""),
            kind=finding.kind,
            fingerprint=finding.fingerprint,
        )

    def unreproduced(
        self, seen: Collection[str], selected: Callable[[KnownEntry], bool]
    ) -> tuple[KnownEntry, ...]:
        """The entries that the run ``selected`` and whose fingerprint it has not ``seen``."""
        return tuple(
            entry for entry in self.entries if entry.fingerprint not in seen and selected(entry)
        )


def _entry(table: object, where: str) -> KnownEntry:
    if not isinstance(table, dict):
        raise KnownFormatError(f"{where}: {table!r}; accepted: a table")
    if missing := [name for name in _FIELDS if name not in table]:
        raise KnownFormatError(f"{where}: no {missing[0]!r}; accepted: all of {', '.join(_FIELDS)}")
    if unknown := sorted(set(table) - set(_FIELDS)):
        raise KnownFormatError(f"{where}: key {unknown[0]!r}; accepted: {', '.join(_FIELDS)}")
    for name, value in table.items():
        if not isinstance(value, str) or not value.strip():
            raise KnownFormatError(f"{where}: {name} is {value!r}; accepted: a text, not empty")
    entry = KnownEntry(**table)
    made = fingerprint(
        prop=entry.property,
        subject=entry.subject,
        op=entry.op,
        provider=entry.provider,
        route=entry.route,
        kind=entry.kind,
        output=entry.output,
    )
    if entry.fingerprint != made:
        raise KnownFormatError(
            f"{where}: fingerprint is {entry.fingerprint!r}; accepted: {made!r}, which is what its "
            "other fields make"
        )
    return entry
