"""Reports of ``iredapi doctor``: text for people, or one JSON object, printed as findings come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iredapi.doctor.findings import CHECKS, Finding
from iredapi.doctor.runner import Result

Write = Callable[[str], None]


class Text:
    """Prints findings as text; the first ``most`` of each code are named, the others counted."""

    def __init__(self, write: Write, *, most: int = 20, fix: bool = False) -> None:
        self._write = write
        self._most = most
        self._fix = fix
        self._named: dict[str, int] = {}

    def add(self, finding: Finding) -> None:
        """Print a finding; before the first one of a code, also what the code means."""
        named = self._named.get(finding.code, 0)
        if not named:
            check = finding.check
            self._write(f"{check.severity.value}: {finding.code}: {check.sentence}")
            self._write(f"    {check.meaning}")
            if check.fix and not self._fix:
                self._write(f"    --fix: {check.fix}")
            elif check.named:
                self._write(f"    --fix --named SUBJECT: {check.named}")
        self._named[finding.code] = named + 1
        if named < self._most:
            detail = f" ({finding.detail})" if finding.detail else ""
            self._write(f"  {'fixed ' if finding.fixed else '- '}{finding.subject}{detail}")

    def end(self, result: Result, removed: Mapping[str, Path]) -> None:
        """Print the numbers, and the files that restore what was ``removed``, by database."""
        if not result.found:
            self._write("Nothing is wrong.")
            return
        self._write("")
        for code, number in sorted(result.found.items()):
            fixed = result.fixed.get(code, 0)
            repaired = f", {fixed} fixed" if fixed else ""
            self._write(f"{CHECKS[code].severity.value:8}{code}: {number}{repaired}")
        for name, path in removed.items():
            self._write(f"The rows removed from {name} are in {path}, as SQL that restores them.")


class Json:
    """Prints findings as one JSON object, piece by piece."""

    def __init__(self, write: Write, versions: Mapping[str, str] | None = None) -> None:
        self._write = write
        self._versions = versions or {}
        self._first = True

    def add(self, finding: Finding) -> None:
        """Print a finding."""
        check = finding.check
        item: dict[str, Any] = {
            "code": finding.code,
            "severity": check.severity.value,
            "subject": finding.subject,
            "detail": finding.detail,
            "sentence": check.sentence,
            "fixable": bool(check.fix),
            "fixed": finding.fixed,
        }
        self._write(('{"findings": [\n' if self._first else ",\n") + json.dumps(item))
        self._first = False

    def end(self, result: Result, removed: Mapping[str, Path]) -> None:
        """See ``Text``."""
        figures: dict[str, Any] = {
            "found": result.found,
            "fixed": result.fixed,
            "status": result.status,
        }
        if removed:
            figures |= {"removed_to": {name: str(path) for name, path in removed.items()}}
        if self._versions:
            figures |= {"versions": dict(self._versions)}
        opening = '{"findings": [' if self._first else "\n"
        self._write(f'{opening}], "summary": {json.dumps(figures)}}}\n')
