"""The page about the log has a line of each event that the source logs, as the source logs it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import iredapi

_SOURCE = Path(iredapi.__file__).parent
_PAGE = Path(__file__).parents[2] / "docs/operations.md"
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_ADDED = {"event", "level", "timestamp", "request_id", "exception", "logger"}
_NOT_LISTED: set[str] = set()
"""Events of the level DEBUG, or that no operator needs."""
_CHOSEN = {"what": ("ldap_server_takes_writes", "ldap_server_reads_only")}
"""Variables that hold the name of an event: `Servers.set_role`."""


@dataclass(frozen=True)
class _Logged:
    """A place that logs."""

    event: str
    """A word, or a text with ``%s`` and ``%r``."""
    level: str
    fields: frozenset[str]
    """Empty for lines whose values are made elsewhere."""
    place: str

    def is_line(self, event: str) -> bool:
        parts = [re.escape(part) for part in re.split(r"%[sr]", self.event)]
        return re.fullmatch(".+".join(parts), event) is not None


def _loggers(tree: ast.Module) -> set[str]:
    """Return the names of a module's loggers."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) in {"structlog.get_logger", "logging.getLogger"}
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _logged() -> Iterator[_Logged]:
    for file in sorted(_SOURCE.rglob("*.py")):
        if file.name in {"logging.py", "access_log.py"}:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        loggers = _loggers(tree)
        own = "from iredapi.observability.logging import" in file.read_text("utf-8")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function, first = node.func, node.args[0]
            place = f"{file.relative_to(_SOURCE)}:{node.lineno}"
            fields = frozenset(str(word.arg) for word in node.keywords)
            if isinstance(function, ast.Attribute) and function.attr in _LEVELS:
                if not isinstance(function.value, ast.Name) or function.value.id not in loggers:
                    continue
                level = "error" if function.attr == "exception" else function.attr
            elif own and isinstance(function, ast.Name) and function.id in {"line", "lines"}:
                level = "info"
            else:
                continue
            names = (
                (str(first.value),)
                if isinstance(first, ast.Constant)
                else _CHOSEN[ast.unparse(first)]
            )
            for name in names:
                yield _Logged(name, level, fields, place)


_EVERY = list(_logged())


def _shown() -> list[dict[str, Any]]:
    lines = _PAGE.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"')]


def test_every_event_is_on_the_page() -> None:
    assert len(_EVERY) > 60
    shown = [line["event"] for line in _shown()]
    missing = {
        f"{one.event} ({one.place})"
        for one in _EVERY
        if one.event not in _NOT_LISTED and not any(map(one.is_line, shown))
    }
    assert not missing


@pytest.mark.parametrize("line", _shown(), ids=lambda line: line["event"])
def test_the_lines_of_the_page_are_as_the_source_logs_them(line: dict[str, Any]) -> None:
    places = [one for one in _EVERY if one.is_line(line["event"])]
    assert places, "nothing logs it"
    assert line["level"] in {one.level for one in places}
    fields = set(line) - _ADDED
    known = [one.fields for one in places if one.fields or not fields]
    # Those of `audit` are made by a function.
    assert not known or fields in known, [sorted(one) for one in known]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
