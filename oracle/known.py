"""Known disagreements: excused one by one, and strict both ways.

An entry excuses a disagreement only where subject, version, kind and fingerprint are all equal,
and where it names them, the text that was observed and the cause that the program has. An
entry that a run selected and did not see again is a failure too: it is gone, so it must go.
Which entries a run selects follows from what their fingerprints are made of, so an entry names
that too, and one whose fingerprint is not made of what it names is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from oracle.known_programs import CAUSES
from oracle.verdict import fingerprint

DEFAULT_PATH = Path(__file__).with_name("known.toml")


class KnownFormatError(ValueError):
    """A file of known disagreements that cannot be used: says where, what, and what is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntry:
    """One excused disagreement. ``version`` is what the subject says of itself, exactly.

    ``observed`` is a text that stands in what was observed, ``cause`` one that the program has
    (``known_programs.CAUSES``); empty where a fingerprint has one cause.
    """

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
    observed: str = ""
    cause: str = ""

    def means(self, observed: str, case: Any, output: int | None) -> bool:
        """Whether a disagreement with the entry's fingerprint is the one that it means."""
        if self.observed not in observed:
            return False
        return not self.cause or CAUSES[self.cause].spoils(case, self.kind, output)


_OPTIONAL = ("observed", "cause")
_FIELDS = tuple(each.name for each in fields(KnownEntry) if each.name not in _OPTIONAL)
_SHOWN = ("property", "route", "kind", "output", "fingerprint")
"""What tells the places apart where one cause shows: the fields of each of its rows."""


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
        entries: list[KnownEntry] = []
        seen: set[tuple[str, ...]] = set()
        for number, table in enumerate(tables, start=1):
            where = f"{path}: entry {number}"
            for entry in _entries(table, where):
                key = (
                    entry.subject, entry.version, entry.fingerprint, entry.observed, entry.cause
                )  # fmt: skip
                if key in seen:
                    raise KnownFormatError(
                        f"{where}: fingerprint {entry.fingerprint} again; accepted: "
                        "once for each subject, version, observed text and cause"
                    )
                seen.add(key)
                entries.append(entry)
        return cls(tuple(entries))

    def find(
        self,
        *,
        subject: str,
        version: str,
        kind: str,
        fingerprint: str,
        observed: str = "",
        case: Any = None,
        output: int | None = None,
    ) -> KnownEntry | None:
        """The entry with exactly these first four that means this disagreement, or None.

        ``output``: the position of that which differs, None where it is not told.
        """
        wanted = (subject, version, kind, fingerprint)
        for entry in self.entries:
            same = (entry.subject, entry.version, entry.kind, entry.fingerprint) == wanted
            if same and entry.means(observed, case, output):
                return entry
        return None

    def unreproduced(
        self, seen: Collection[KnownEntry], selected: Callable[[KnownEntry], bool]
    ) -> tuple[KnownEntry, ...]:
        """The entries that the run ``selected`` and has not ``seen``."""
        return tuple(entry for entry in self.entries if entry not in seen and selected(entry))


def _entries(table: object, where: str) -> list[KnownEntry]:
    """The entries of one table: one, or one for each row of its ``shown``."""
    if not isinstance(table, dict):
        raise KnownFormatError(f"{where}: {table!r}; accepted: a table")
    if "shown" not in table:
        return [_entry(table, where)]
    rows = table["shown"]
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise KnownFormatError(f"{where}: 'shown' is {rows!r}; accepted: a list of tables")
    shared = {name: value for name, value in table.items() if name != "shown"}
    for row in rows:
        if both := sorted((set(row) & set(shared)) | (set(row) - {*_SHOWN, "observed"})):
            raise KnownFormatError(
                f"{where}: row has {both[0]!r}; accepted in 'shown' and there alone: "
                f"{', '.join((*_SHOWN, 'observed'))}"
            )
    return [_entry({**shared, **row}, where) for row in rows]


def _entry(table: dict[str, Any], where: str) -> KnownEntry:
    if missing := [name for name in _FIELDS if name not in table]:
        raise KnownFormatError(f"{where}: no {missing[0]!r}; accepted: all of {', '.join(_FIELDS)}")
    if unknown := sorted(set(table) - {*_FIELDS, *_OPTIONAL}):
        raise KnownFormatError(
            f"{where}: key {unknown[0]!r}; accepted: {', '.join((*_FIELDS, *_OPTIONAL))}"
        )
    for name, value in table.items():
        if not isinstance(value, str) or not value.strip():
            raise KnownFormatError(f"{where}: {name} is {value!r}; accepted: a text, not empty")
    entry = KnownEntry(**table)
    if entry.cause and entry.cause not in CAUSES:
        raise KnownFormatError(f"{where}: cause {entry.cause!r}; accepted: {', '.join(CAUSES)}")
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
