"""What does not run on OpenLDAP is declared, with a reason, and listed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
LIST = Path(__file__).with_name("sql_only.txt")


def declared() -> Iterator[str]:
    """Each ``sql_only``: the module or the test, and why."""
    for path in sorted(TESTS.rglob("test_*.py")):
        name = path.relative_to(TESTS).as_posix()
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            where, marks = name, []
            if isinstance(node, ast.Assign):
                marks = [node.value]
                if isinstance(node.value, ast.List):
                    marks = node.value.elts
            elif isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                where, marks = f"{name}::{node.name}", node.decorator_list
            for mark in marks:
                if (
                    isinstance(mark, ast.Call)
                    and isinstance(mark.func, ast.Attribute)
                    and mark.func.attr == "sql_only"
                ):
                    (reason,) = mark.args
                    yield f"{where}: {ast.literal_eval(reason)}"


def test_sql_only_is_listed() -> None:
    found = list(declared())
    print("\n".join(found))
    assert LIST.read_text(encoding="utf-8").splitlines() == found
    assert all(len(line.partition(": ")[2]) > 20 for line in found)
