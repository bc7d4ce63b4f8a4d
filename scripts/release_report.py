"""What `scripts/test-release` found: counts, versions, and the table of `docs/versions.md`."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN = "<!-- The table is written by scripts/test-release. -->"
END = "<!-- End of the table. -->"
RESULTS = ("`make run`", "tests run", "passed", "failed", "skipped", "date", "commit")
NOT_RUN = "not run yet"

# Component → the Debian package whose version it has.
COMPONENTS: Mapping[str, str] = {
    "Python": r"python3\.\d+-minimal",
    "PostgreSQL": r"postgresql-\d+",
    "MariaDB": r"mariadb-server-core.*",
    "MySQL": r"mysql-server-core.*",
    "OpenLDAP": r"slapd",
    "Postfix": r"postfix",
    "Dovecot": r"dovecot-core",
    "mlmmj": r"mlmmj",
    "Amavisd": r"amavisd-new",
    "nginx": r"nginx",
    "Chromium": r"chromium",
}


@dataclass
class Counts:
    """Results of a run of pytest."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)
    """Reason → how many tests."""


def read_junit(path: Path) -> Counts:
    """Count the tests of a file that pytest's `--junit-xml` has written.

    Raises FileNotFoundError and ElementTree.ParseError.
    """
    counts = Counts()
    document = ElementTree.parse(path)  # noqa: S314 - our own file
    for case in document.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failures.append(name)
        elif skipped is not None:
            counts.skips[skipped.get("message") or "no reason given"] += 1
        else:
            counts.passed += 1
    # A test whose teardown fails too is listed twice.
    counts.failures = list(dict.fromkeys(counts.failures))
    return counts


def component_versions(packages: str) -> dict[str, str]:
    """Component → version, from lines with a package's name and its upstream version."""
    found: dict[str, str] = {}
    for line in packages.splitlines():
        package, _, version = line.partition(" ")
        for component, pattern in COMPONENTS.items():
            if version and re.fullmatch(pattern, package):
                # "2.6.10+dfsg" is 2.6.10.
                found[component] = re.split(r"[+~]", version)[0]
    return found


def report(title: str, results: Mapping[str, str], counts: Counts | None) -> str:
    """One run as Markdown."""
    lines = [f"# {title}", "", *(f"* {name}: {value}" for name, value in results.items())]
    if counts is None:
        return "\n".join([*lines, "", "No test was run to its end: see the log.", ""])
    if counts.failures:
        lines += ["", "## Failed", "", *(f"* {name}" for name in counts.failures)]
    if counts.skips:
        lines += ["", "## Skipped", ""]
        lines += [f"* {number}: {reason}" for reason, number in counts.skips.most_common()]
    return "\n".join([*lines, ""])


def update_table(page: str, columns: Sequence[str], column: str, cells: Mapping[str, str]) -> str:
    """Return the page with the cells of one column replaced; the other columns are kept.

    Raises ValueError when the page has no table between its two comments.
    """
    head, begin, rest = page.partition(BEGIN)
    table, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no table between {BEGIN!r} and {END!r}")
    kept = _read_table(table)
    kept[column] = dict(cells)
    lines = [_line(["", *columns]), _line(["---"] * (len(columns) + 1))]
    for row in (*COMPONENTS, *RESULTS):
        values = [
            kept[name].get(row, "") if name in kept else (NOT_RUN if row == "date" else "")
            for name in columns
        ]
        lines.append(_line([row, *(value or "–" for value in values)]))
    return f"{head}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{tail}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _read_table(table: str) -> dict[str, dict[str, str]]:
    """Column → row → cell."""
    lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    if not lines:
        return {}
    names = lines[0][1:]
    return {
        name: {cells[0]: cells[number] for cells in lines[2:] if len(cells) > number}
        for number, name in enumerate(names, start=1)
    }
