"""Parsing a Python file as data, and the values that its names hold."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from iredapi.config.errors import ConfigurationError

_DYNAMIC: Final = frozenset({"exec", "execfile", "eval", "globals", "locals", "vars", "setattr"})
"""Calls after which any name may have any value."""

EVERYTHING: Final = "*"
"""Stands for all names: unknown after a statement that may set any name."""

Names = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that cannot be known without executing the file. ``where``: the line."""

    where: str


def parse(path: Path) -> ast.Module:
    try:
        source = path.read_bytes()
    except PermissionError:
        raise ConfigurationError(
            f"{path}: no permission to read it (only root and iRedAdmin may: run this as root)"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            # A warning about an invalid escape ("\d" in a password) would print the line.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        # Never the text of the line: it may hold a password.
        raise ConfigurationError(
            f"{path}: not a Python file (line {error.lineno or 1} cannot be read), so not "
            "iRedAdmin's settings"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise ConfigurationError(
            f"{path}: not a Python file, so not iRedAdmin's settings"
        ) from None


def change(names: Names, name: str, value: Any) -> None:
    """Replace the value of a name, and of all names that refer to the same list, dict or set."""
    before = names.get(name)
    for other in list(names):
        if names[other] is before and isinstance(before, list | dict | set):
            names[other] = value
    names[name] = value


def changed_by(function: ast.AST) -> set[str]:
    """Return the names whose values a function may change when it is called."""
    found: set[str] = set()
    for inner in ast.walk(function):
        match inner:
            case ast.Global(names=given):
                found.update(given)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                found.add(name)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found.add(name)
            case _ if is_dynamic(inner):
                found.add(EVERYTHING)
    return found


def is_dynamic(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(
        isinstance(inner, ast.Name)
        and (inner.id in _DYNAMIC or inner.id == "importlib" or inner.id == "__import__")
        for inner in ast.walk(node.func)
    )
