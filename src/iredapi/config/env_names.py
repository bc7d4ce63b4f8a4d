"""Names in the environment and in env files: one that is almost a setting is refused.

An unknown name is never skipped: without ``IREDAPI_ALLOWED_NETWORKS`` the API is open, and without
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
_OTHERS: Final = frozenset({"IREDAPD", "IREDADMIN", "IREDMAIL"})
"""Programs of iRedMail whose names are near ours, and whose variables are none of our business."""
_NEAR: Final = 0.8
"""difflib's ratio from which on the first word of a name counts as ours, misspelt."""


class EnvLine(NamedTuple):
    """An assignment in an env file. ``number`` counts lines from 1."""

    number: int
    name: str
    value: str


class WrongEnvFile(ValueError):
    """An env file cannot be read as one; the message names file and line, never a value."""


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
        if found.key is None:  # a comment, or nothing
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
    """Yield a sentence for each name that is no setting, but looks like one.

    ``known`` are the settings' names with their prefix, ``environment`` the names there,
    ``lines`` those of the env file ``path``.
    """
    told = set()
    for line in lines:
        name = line.name.upper()
        if _is_ours(name, known, own_file=True):
            told.add(name)
            yield f"{path}, line {line.number}: {_unknown(line.name, known)}"
    for given in sorted(environment):
        name = given.upper()
        # systemd hands the names of the file on in the environment.
        if name not in told and _is_ours(name, known):
            yield f"environment: {_unknown(given, known)}"


def _is_ours(name: str, known: Collection[str], *, own_file: bool = False) -> bool:
    """Whether an unknown name is meant to be a setting; in our own file also without a prefix."""
    if name in known:
        return False
    if name.startswith(PREFIX):
        return True
    if own_file and "_" in name and PREFIX + name in known:
        return True
    first, _, rest = re.sub(r"[^A-Z0-9_]", "", name).replace("IRED_API", _WORD).partition("_")
    near = difflib.SequenceMatcher(None, first, _WORD).ratio() >= _NEAR
    return near and first not in _OTHERS and bool(_nearest(rest, known, 0.85))


def _unknown(name: str, known: Collection[str]) -> str:
    # A name may hold what a terminal would act on.
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
    """Return the setting whose name without its prefix is nearest; "" when none is near."""
    rests = sorted(item.removeprefix(PREFIX) for item in known)
    found = difflib.get_close_matches(name, rests, n=1, cutoff=cutoff)
    return PREFIX + found[0] if found else ""
