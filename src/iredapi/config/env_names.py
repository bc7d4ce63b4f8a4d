"""Names in the environment and in env files: an unknown name that resembles a setting is refused.

It is never ignored: without ``IREDAPI_ALLOWED_NETWORKS`` the API is open, and without
``IREDAPI_VMAIL_URL`` the accounts are in SQLite files of our own.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dotenv.parser import parse_stream

PREFIX: Final = "IREDAPI_"
_WORD: Final = PREFIX.removesuffix("_")
OF_COMMANDS: Final = frozenset({f"{PREFIX}TOKEN"})
"""Names that are no settings: commands that call a remote service read them."""
_OTHERS: Final = frozenset({"IREDAPD", "IREDADMIN", "IREDMAIL"})
"""Programs of iRedMail with names similar to ours; their variables are ignored."""
_NEAR: Final = 0.8
"""Minimum ratio (difflib) for the first word of a name to count as a misspelt prefix."""


class EnvLine(NamedTuple):
    """An assignment in an env file. ``number`` counts lines from 1."""

    number: int
    name: str
    value: str


class WrongEnvFile(ValueError):
    """An env file is not valid. The message names file and line, but never a value."""


def read(path: Path) -> list[EnvLine]:
    """Read the assignments of an env file, in their order.

    Raises WrongEnvFile for a line that is not one, which python-dotenv would skip, and OSError.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise WrongEnvFile(f"{path}, line {number}: not UTF-8 text") from None
    lines = []
    for found in parse_stream(io.StringIO(text)):
        source = found.original.string
        blank = source[: len(source) - len(source.lstrip())]
        number = found.original.line + blank.count("\n")
        where = f"{path}, line {number}"
        if found.error or found.key == "":
            reason = (
                "a quotation mark is not closed, or something stands after it"
                if "=" in source.partition("\n")[0]
                else "there is no = in it"
            )
            raise WrongEnvFile(f"{where}: this is not NAME=value: {reason}")
        if found.key is None:  # a comment, or an empty line
            continue
        if found.value is None:
            raise WrongEnvFile(f"{where}: this is not NAME=value: there is no = after {found.key}")
        if "\n" in source.strip("\n"):
            raise WrongEnvFile(
                f"{where}: the value of {found.key} goes on in the next line: close its quotation "
                "mark"
            )
        lines.append(EnvLine(number, found.key, found.value))
    return lines


def complaints(
    known: Collection[str],
    environment: Iterable[str],
    path: Path | None = None,
    lines: Iterable[EnvLine] = (),
) -> Iterator[str]:
    """Yield an error text for each name that is no setting, but looks like one.

    ``known`` are the settings' names with their prefix, ``environment`` the names there,
    ``lines`` those of the env file ``path``.
    """
    reported = set()
    for line in lines:
        name = line.name.upper()
        if _is_ours(name, known, own_file=True):
            reported.add(name)
            yield f"{path}, line {line.number}: {_unknown(line.name, known)}"
    for given in sorted(environment):
        name = given.upper()
        # systemd also puts the names of the file into the environment.
        if name not in reported and _is_ours(name, known):
            yield f"environment: {_unknown(given, known)}"


def _is_ours(name: str, known: Collection[str], *, own_file: bool = False) -> bool:
    """Return whether an unknown name is probably a setting; in our file also without prefix."""
    if name in known or name in OF_COMMANDS:
        return False
    if name.startswith(PREFIX):
        return True
    if own_file and "_" in name and PREFIX + name in known:
        return True
    first, _, rest = re.sub(r"[^A-Z0-9_]", "", name).replace("IRED_API", _WORD).partition("_")
    near = difflib.SequenceMatcher(None, first, _WORD).ratio() >= _NEAR
    return near and first not in _OTHERS and bool(_nearest(rest, known, 0.85))


def _unknown(name: str, known: Collection[str]) -> str:
    # A name may have control characters, which a terminal would interpret.
    shown = name.encode("ascii", "backslashreplace").decode()
    whole = name.upper()
    found = next(
        (near for rest in (whole.removeprefix(PREFIX), whole.partition("_")[2], whole)
         if (near := _nearest(rest, known, 0.65))),
        "",
    )  # fmt: skip
    hint = (
        f"did you mean {found}?"
        if found
        else "remove it (`iredapi docs configuration` prints every setting)"
    )
    return f"there is no setting {shown}: {hint}"


def _nearest(name: str, known: Collection[str], cutoff: float) -> str:
    """Return the setting with the most similar name (without prefix); "" when there is none."""
    rests = sorted(item.removeprefix(PREFIX) for item in known)
    found = difflib.get_close_matches(name, rests, n=1, cutoff=cutoff)
    return PREFIX + found[0] if found else ""
