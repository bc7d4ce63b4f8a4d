"""Every known incident has a test, or a line that says why it has none.

The 51 incidents became public in comparable systems. A test that covers one carries its number:
``test_lesson_04_…``, or ``test_lesson_05_07_…`` for two.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = frozenset(range(1, 52))
_NUMBERS = re.compile(r"test_lesson((?:_\d{2})+)_")
_LINE = re.compile(r"^\| (\d+) \| no test \| \S.+ \|$", re.MULTILINE)


def rows_with_tests() -> dict[int, list[str]]:
    """Return the names of the tests of each row; only functions that run count."""
    found: dict[int, list[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if match := _NUMBERS.match(f"{node.name}_"):
                for number in match[1].strip("_").split("_"):
                    found.setdefault(int(number), []).append(node.name)
    return found


def excused() -> frozenset[int]:
    """Return the rows of which ``docs/security.md`` says that the feature does not exist."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    return frozenset(int(number) for number in _LINE.findall(text))


def test_all_rows_are_covered() -> None:
    """51 rows, no more and no fewer, and none is both tested and excused."""
    rows = rows_with_tests()
    assert rows.keys() <= ROWS
    assert rows.keys() | excused() == ROWS
    assert not rows.keys() & excused(), "a row with a test needs no excuse"
