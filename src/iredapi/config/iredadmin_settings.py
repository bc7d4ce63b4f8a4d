"""Read iRedAdmin's ``settings.py`` as data: the value of each name at the end of the file.

Statements are interpreted in their order, also in imported modules of the same directory. Nothing
is executed. A statement that cannot be interpreted makes the names that it may change unknown.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from iredapi.config.errors import ConfigurationError
from iredapi.config.python_source import (
    EVERYTHING,
    Names,
    Unknown,
    change,
    changed_by,
    is_dynamic,
    parse,
)

_DEFAULTS: Final = "libs.default_settings"
"""The module of iRedAdmin's defaults. It may be missing, because our defaults are the same."""
_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception"})
_HARMLESS: Final = frozenset(
    {"print", "len", "str", "int", "bool", "sorted", "list", "tuple", "set", "repr", "isinstance"}
)
"""Builtins that do not change their arguments."""
_CHANGES: Final = frozenset({"append", "extend"})
_MAX_DEPTH: Final = 20


@dataclass(frozen=True)
class IredadminSettings:
    """The values of the names of one ``settings.py`` after its last statement."""

    path: Path
    values: Mapping[str, Any]
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Name whose value cannot be known → the statement that is the reason."""


def read_iredadmin(path: Path | str) -> IredadminSettings:
    """Read iRedAdmin's ``settings.py``, and the modules of its directory that it imports.

    Raises ConfigurationError when a file cannot be read, is not Python, or imports all names of a
    module that does not exist: its restrictions would be lost.
    """
    path = Path(path)
    names = _Module(path, path).run({})
    known = {name: value for name, value in names.items() if not isinstance(value, Unknown)}
    unknown = {name: value.where for name, value in names.items() if isinstance(value, Unknown)}
    return IredadminSettings(path, MappingProxyType(known), MappingProxyType(unknown))


class _Missing(Exception):
    """An imported module is not in the directory of the file."""


class _Module:
    """Interprets one file. ``root`` is the file that imports the others."""

    def __init__(self, path: Path, root: Path, depth: int = 0) -> None:
        self._path = path
        self._root = root
        self._depth = depth
        self._changed_by_functions: set[str] = set()
        if depth > _MAX_DEPTH:
            raise ConfigurationError(f"{path}: modules import each other in a circle")

    def run(self, names: Names) -> Names:
        """Return the values of all names after the last statement."""
        tree = parse(self._path)
        self._block(tree.body, names)
        # It is unknown whether and when a function is called.
        for name in self._changed_by_functions:
            names[name] = Unknown(f"a function of {self._path.name}")
        return names

    def _where(self, node: ast.AST) -> str:
        line = f"line {getattr(node, 'lineno', 1)}"
        return line if self._path == self._root else f"{line} of {self._path}"

    def _block(self, statements: Iterable[ast.stmt], names: Names) -> None:
        for statement in statements:
            self._statement(statement, names)

    def _statement(self, statement: ast.stmt, names: Names) -> None:
        match statement:
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Delete():
                self._assignment(statement, names)
            case ast.Expr(value=value):
                self._expression(value, names)
            case ast.If():
                self._if(statement, names)
            case ast.Try():
                self._try(statement, names)
            case ast.Import(names=modules):
                for item in modules:
                    bound = item.asname or item.name.partition(".")[0]
                    names[bound] = Unknown(self._where(statement))
            case ast.ImportFrom():
                try:
                    self._import(statement, names)
                except _Missing:
                    raise ConfigurationError(
                        f"{self._path}: {self._where(statement)} imports all names of the module "
                        f"{statement.module}, which is not in the same directory: put it there, or "
                        "its restrictions would be lost"
                    ) from None
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[statement.name] = Unknown(self._where(statement))
                self._changed_by_functions |= changed_by(statement)
            case ast.Pass() | ast.Raise() | ast.Assert() | ast.Global() | ast.Nonlocal():
                pass
            case _:
                # A loop, with, match: it is unknown whether it runs, and how often.
                self._forget_changed(statement, names)

    def _assignment(
        self, statement: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Delete, names: Names
    ) -> None:
        match statement:
            case ast.Assign(targets=targets, value=value):
                found = self._value(value, names)
                for target in targets:
                    self._assign(target, found, names)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self._value(value, names), names)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                before = names.get(name, Unknown(self._where(statement)))
                after = self._sum(before, self._value(value, names), statement)
                if isinstance(before, list):
                    change(names, name, after)
                else:
                    names[name] = after
            case ast.AugAssign(target=target):
                self._assign(target, Unknown(self._where(statement)), names)
            case ast.Delete(targets=targets):
                for target in targets:
                    if isinstance(target, ast.Name):
                        names.pop(target.id, None)
                    else:
                        self._assign(target, Unknown(self._where(statement)), names)

    # -- values ------------------------------------------------------------------------------------

    def _value(self, node: ast.expr, names: Names) -> Any:
        """Return the value of an expression of literals and known names; otherwise Unknown."""
        unknown = Unknown(self._where(node))
        if any(is_dynamic(inner) for inner in ast.walk(node)):
            self._forget_all(names, node)
            return unknown
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            pass
        self._taint(node, names)
        match node:
            case ast.Name(id=name):
                return names.get(name, unknown)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                found = [self._value(item, names) for item in items]
                if any(isinstance(item, Unknown) for item in found):
                    return unknown
                return tuple(found) if isinstance(node, ast.Tuple) else found
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._sum(self._value(left, names), self._value(right, names), node)
            case ast.JoinedStr(values=parts):
                texts = [self._part(part, names) for part in parts]
                return unknown if None in texts else "".join(text for text in texts if text)
        return unknown

    def _part(self, part: ast.expr, names: Names) -> str | None:
        """Return the text of a part of an f-string."""
        if isinstance(part, ast.Constant):
            return str(part.value)
        if isinstance(part, ast.FormattedValue) and part.format_spec is None:
            found = self._value(part.value, names)
            if part.conversion == -1 and isinstance(found, str | int):
                return str(found)
        return None

    def _sum(self, left: Any, right: Any, node: ast.AST) -> Any:
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, tuple) and isinstance(right, tuple):
            return left + right
        if isinstance(left, list) and isinstance(right, list | tuple):  # += takes both
            return [*left, *right]
        return Unknown(self._where(node))

    def _taint(self, node: ast.expr, names: Names) -> None:
        """Make lists, dicts and sets unknown that calls in an expression may change."""
        for inner in ast.walk(node):
            match inner:
                case ast.Name(id=name, ctx=ast.Store()):
                    names[name] = Unknown(self._where(node))
                case ast.Call(func=ast.Name(id=called)) if called in _HARMLESS:
                    pass
                case ast.Call(func=called, args=args, keywords=keywords):
                    used = [called, *args, *(keyword.value for keyword in keywords)]
                    for name in {part.id for item in used for part in ast.walk(item)
                                 if isinstance(part, ast.Name)}:  # fmt: skip
                        if isinstance(names.get(name), list | dict | set):
                            change(names, name, Unknown(self._where(node)))

    def _assign(self, target: ast.expr, value: Any, names: Names) -> None:
        match target:
            case ast.Name(id=name):
                names[name] = value
            case ast.Tuple(elts=items) | ast.List(elts=items):
                fits = isinstance(value, list | tuple) and len(value) == len(items)
                if any(isinstance(item, ast.Starred) for item in items):
                    fits = False
                for place, item in enumerate(items):
                    unknown = Unknown(self._where(target))
                    self._assign(item, value[place] if fits else unknown, names)
            case ast.Starred(value=inner) | ast.Subscript(value=inner) | ast.Attribute(value=inner):
                # An item or attribute changes.
                if isinstance(inner, ast.Name):
                    change(names, inner.id, Unknown(self._where(target)))
                else:
                    self._assign(inner, Unknown(self._where(target)), names)
            case _:
                pass

    def _expression(self, node: ast.expr, names: Names) -> None:
        """Interpret ``append`` and ``extend`` of a list; other calls may make names unknown."""
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=method), args=[argument]
            ) if method in _CHANGES and name in names:
                found = self._value(argument, names)
                added = [found] if method == "append" else found
                if isinstance(found, Unknown) or not isinstance(names[name], list):
                    change(names, name, Unknown(self._where(node)))
                else:
                    change(names, name, self._sum(names[name], added, node))
            case _:
                self._taint(node, names)
                self._forget_changed(node, names)

    # -- what is not known -------------------------------------------------------------------------

    def _forget_changed(self, node: ast.AST, names: Names) -> None:
        """Make all names unknown that a statement or expression may change."""
        unknown = Unknown(self._where(node))
        for inner in ast.walk(node):
            match inner:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    names[name] = unknown
                case (
                    ast.Subscript(ctx=ast.Store() | ast.Del())
                    | ast.Attribute(ctx=ast.Store() | ast.Del())
                ):
                    self._assign(inner, unknown, names)
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in names:
                    change(names, name, unknown)
                case ast.ImportFrom():
                    taken: Names = {}
                    try:
                        self._import(inner, taken)
                    except _Missing:
                        self._forget_all(names, inner)
                    names.update(dict.fromkeys(taken, unknown))
                case ast.Import(names=modules):
                    names.update({item.asname or item.name: unknown for item in modules})
                case _ if is_dynamic(inner):
                    self._forget_all(names, inner)

    def _forget_all(self, names: Names, node: ast.AST) -> None:
        """Make all names unknown, also those that have not been assigned yet."""
        for name in (*names, EVERYTHING):
            names[name] = Unknown(self._where(node))

    def _if(self, statement: ast.If, names: Names) -> None:
        condition = self._value(statement.test, names)
        if not isinstance(condition, Unknown):
            self._block(statement.body if condition else statement.orelse, names)
            return
        branches = []
        for body in (statement.body, statement.orelse):
            taken = dict(names)
            try:
                self._block(body, taken)
            except ConfigurationError:
                self._forget_all(taken, statement)
            branches.append(taken)
        self._merge(branches, names, statement)

    def _merge(self, branches: list[Names], names: Names, node: ast.AST) -> None:
        """Keep the values that are the same after both branches."""
        absent = object()
        for name in set().union(*branches):
            found = [branch.get(name, absent) for branch in branches]
            same = all(value is found[0] or value == found[0] for value in found)
            names[name] = found[0] if same else Unknown(self._where(node))

    def _try(self, statement: ast.Try, names: Names) -> None:
        """Interpret ``try`` around imports, whose failure is known; otherwise names are unknown."""
        imports = all(isinstance(item, ast.Import | ast.ImportFrom) for item in statement.body)
        if not imports:
            self._forget_changed(statement, names)
            return
        try:
            for item in statement.body:
                if isinstance(item, ast.ImportFrom):
                    self._import(item, names)
                else:
                    self._statement(item, names)
        except _Missing:
            for handler in statement.handlers:
                kinds = {node.id for node in ast.walk(handler.type or ast.Name("Exception"))
                         if isinstance(node, ast.Name)}  # fmt: skip
                if kinds & _IMPORT_ERRORS:
                    self._block(handler.body, names)
                    break
        else:
            self._block(statement.orelse, names)
        self._block(statement.finalbody, names)

    # -- imports -----------------------------------------------------------------------------------

    def _import(self, statement: ast.ImportFrom, names: Names) -> None:
        """Import names of a module. Raises _Missing for ``*`` of a module that does not exist."""
        module = statement.module or ""
        path = self._find(module)
        star = any(item.name == "*" for item in statement.names)
        if path is None:
            if star and not (
                module == _DEFAULTS or module.partition(".")[0] in sys.stdlib_module_names
            ):
                raise _Missing
            if not star:
                for item in statement.names:
                    names[item.asname or item.name] = Unknown(self._where(statement))
            return
        theirs = _Module(path, self._root, self._depth + 1).run({})
        if star:
            public = theirs.get("__all__")
            for name, value in theirs.items():
                listed = name in public if isinstance(public, list | tuple) else name[:1] != "_"
                if listed or name == EVERYTHING:
                    names[name] = value
            return
        for item in statement.names:
            unknown = Unknown(self._where(statement))
            names[item.asname or item.name] = theirs.get(item.name, unknown)

    def _find(self, module: str) -> Path | None:
        """Return the file of a module in the settings' directory; links are resolved last."""
        parts = module.split(".")
        for directory in (self._root.parent, self._path.parent, self._root.resolve().parent):
            plain = directory.joinpath(*parts)
            for path in (plain.with_name(f"{plain.name}.py"), plain / "__init__.py"):
                if module and path.exists():
                    return path
        return None


def all_unknown(found: IredadminSettings, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, statement) for those of ``names`` whose value cannot be known."""
    everything = found.unknown.get(EVERYTHING)
    for name in names:
        where = found.unknown.get(name) or (everything if name not in found.values else None)
        if where:
            yield name, where
