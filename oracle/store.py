"""Findings on disk: one folder each, written whole or not at all.

    .irverify/findings/<fingerprint>/finding.json   everything, for programs
                                     case.json      the case and its check, for `irverify replay`
                                     script.py      runs without us; or else
                                     no-script.txt  why there is none

A folder is written beside its place under a name of its own and then renamed. Where an older one
is in the way it is renamed aside first, so after a crash between the two renames the older one
is still there under its other name, and is read from there.
"""

from __future__ import annotations

import json
import os
import shutil
import string
import tempfile
from pathlib import Path
from typing import Any

from oracle.finding import (
    Finding,
    FindingFormatError,
    case_file_to_json,
    finding_from_json,
    finding_to_json,
)
from oracle.kinds import kind_of
from oracle.script import ScriptError

SCRIPT, NO_SCRIPT = "script.py", "no-script.txt"
DEFAULT_ROOT = Path(".irverify/findings")
_ATTEMPTS = 20


class FindingLookupError(LookupError):
    """A reference that leads to no readable finding."""


class FindingNotFoundError(FindingLookupError):
    """Nothing there: neither a path nor the beginning of a fingerprint."""


class AmbiguousFindingError(FindingLookupError):
    """A prefix that several fingerprints begin with."""


class UnreadableFindingError(FindingLookupError):
    """A file that is there and is no finding."""


class Store:
    """The findings under one folder. Reading it makes nothing; the first write makes it."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = Path(root)

    def fingerprints(self) -> list[str]:
        """The fingerprints of every finding here, sorted."""
        return sorted(self._folders())

    def write(self, finding: Finding, expected: Any) -> Path:
        """Put ``finding`` in its folder, replacing what was there, and return the folder.

        ``expected`` is what the reference says of its case, which the script embeds.
        """
        files = {
            "finding.json": _json_text(finding_to_json(finding)),
            "case.json": _json_text(case_file_to_json(finding)),
        }
        try:
            files[SCRIPT] = kind_of(finding.case).script(finding, expected)
        except ScriptError as error:
            # A finding of a subject that no script can stand for is still one to keep and replay.
            files[NO_SCRIPT] = f"{error}\n"
        self.root.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{finding.fingerprint}.new-", dir=self.root))
        try:
            # mkdtemp makes folders that only their owner may enter; a finding is meant to be read.
            fresh.chmod(0o755)
            for name, text in files.items():
                _write_through(fresh / name, text)
            return self._put(fresh, finding.fingerprint)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _put(self, fresh: Path, fingerprint: str) -> Path:
        target = self.root / fingerprint
        old = self.root / fresh.name.replace(".new-", ".old-")
        for attempt in range(_ATTEMPTS):
            try:
                fresh.rename(target)
                break
            except OSError:
                # Occupied: by an older finding, or by another process that was faster.
                if not target.exists() or attempt == _ATTEMPTS - 1:
                    raise
            if not old.exists():
                target.rename(old)
        for leftover in self.root.glob(f".{fingerprint}.old-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return target

    def load(self, reference: str | Path) -> Finding:
        """The finding at a file, in a folder, or with the one fingerprint that begins so.

        Raises a ``FindingLookupError`` that says what was given and what would be accepted.
        """
        place = self._place(reference)
        return _read(place) if place.is_file() else _read_folder(place)

    def folder(self, reference: str | Path) -> Path:
        """The folder of what ``load`` reads for ``reference``. Raises as it does."""
        place = self._place(reference)
        return place.parent if place.is_file() else place

    def _place(self, reference: str | Path) -> Path:
        path = Path(reference)
        if path.is_file() or path.is_dir():
            return path
        folders = self._folders()
        prefix = str(reference).lower()
        if prefix and set(prefix) <= set(string.hexdigits):
            matching = sorted(name for name in folders if name.startswith(prefix))
            if len(matching) == 1:
                return folders[matching[0]]
            if matching:
                raise AmbiguousFindingError(
                    f"{prefix!r} begins {len(matching)} fingerprints; "
                    f"accepted: one of {', '.join(matching)}"
                )
        there = f"findings in {self.root}: {', '.join(sorted(folders)) or 'none'}"
        raise FindingNotFoundError(
            f"no finding {str(reference)!r}; accepted: a case file, a finding's folder, or the "
            f"beginning of a fingerprint ({there})"
        )

    def _folders(self) -> dict[str, Path]:
        """Each finding's folder by fingerprint, those that a crash left renamed aside included."""
        if not self.root.is_dir():
            return {}
        found: dict[str, Path] = {}
        for entry in sorted(self.root.glob(".*.old-*")):
            found[entry.name[1:].partition(".")[0]] = entry
        for entry in self.root.iterdir():
            if entry.is_dir() and not entry.name.startswith("."):
                found[entry.name] = entry
        return found


def script_of(folder: Path) -> tuple[Path | None, str]:
    """The script in a finding's folder, or None and why there is none, empty if it is not said."""
    if (script := folder / SCRIPT).is_file():
        return script, ""
    try:
        return None, (folder / NO_SCRIPT).read_text(encoding="utf-8").strip()
    except OSError:
        return None, ""


def _json_text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=True) + "\n"


def _write_through(path: Path, text: str) -> None:
    # Renamed before its bytes reach the disk, a file can be there and empty after a power cut.
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read_folder(folder: Path) -> Finding:
    for name in ("finding.json", "case.json"):
        if (folder / name).is_file():
            return _read(folder / name)
    raise FindingNotFoundError(
        f"{folder} holds no finding; accepted: a folder with finding.json or case.json"
    )


def _read(path: Path) -> Finding:
    try:
        return finding_from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, FindingFormatError) else f"not JSON: {error}"
        raise UnreadableFindingError(
            f"{path} cannot be read: {why}; accepted: a case.json or finding.json of irverify"
        ) from error
