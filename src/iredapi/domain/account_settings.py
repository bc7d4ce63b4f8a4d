"""The ``settings`` text columns of ``domain``, ``mailbox`` and ``admin``.

The format is iRedAdmin's: ``key:value;key:value;``; lists are sorted and have commas without
blanks; a key whose value is 0 or empty is left out. iRedAdmin fails on a value with ``:`` or
``;``, so none is ever written. Reading is tolerant, and an update keeps unknown keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

LISTS: Final = frozenset(
    {
        "enabled_services",
        "disabled_domain_profiles",
        "disabled_user_profiles",
        "disabled_user_preferences",
        "disabled_mail_services",
        "default_groups",
        "default_mailing_lists",
    }
)
NUMBERS: Final = frozenset(
    {
        "default_user_quota",
        "max_user_quota",
        "min_passwd_length",
        "max_passwd_length",
        "create_max_domains",
        "create_max_quota",
        "create_max_users",
        "create_max_aliases",
        "create_max_lists",
    }
)

_MARKS: Final = frozenset(":;,\r\n\0")

Settings = Mapping[str, str | None]
"""Keys in their stored order. None: the item has no colon and is written back without one."""


def parse(text: str | None) -> Settings:
    """Parse a column. NULL is empty; the first colon of an item separates key and value."""
    found: dict[str, str | None] = {}
    for item in (text or "").split(";"):
        key, colon, value = item.partition(":")
        if key.strip():
            found[key.strip()] = value.strip() if colon else None
    return found


def render(settings: Settings) -> str:
    """Return the text of a column."""
    return "".join(
        f"{key};" if value is None else f"{key}:{value};" for key, value in settings.items()
    )


def updated(text: str, before: Settings, after: Settings) -> str:
    """Return the text of a column, parsed as ``before``, with the keys of ``after`` that differ.

    All other items stay as other programs have written them: in their order, with blanks, and keys
    that are there several times.
    """
    keys = {*before, *after}
    changed = {
        key for key in keys if (key in before, before.get(key)) != (key in after, after.get(key))
    }
    items, written = [], set[str]()
    for item in text.split(";"):
        key = item.partition(":")[0].strip()
        if key not in changed:
            items.append(item)
        elif key in after and key not in written:
            written.add(key)
            items.append(render({key: after[key]}).removesuffix(";"))
    rest = ";".join(items)
    if rest.strip() and not rest.rstrip().endswith(";"):
        rest += ";"
    return rest + render({key: value for key, value in after.items() if key in changed - written})


def replaced(text: str, values: Mapping[str, str | None]) -> str:
    """Return the text of a column with some keys in front; the others are exactly as they were.

    None: without the key. So a key that is added and removed leaves nothing behind.
    """
    rest = [item for item in text.split(";") if item.partition(":")[0].strip() not in values]
    new = {key: value for key, value in values.items() if value is not None}
    return render(new) + ";".join(rest)


def number(settings: Settings, key: str) -> int:
    """Return an integer; 0 when the key is missing or its value is not an integer."""
    found = settings.get(key)
    if not found:
        return 0
    value = found.strip()
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 19 else 0


def words(settings: Settings, key: str) -> frozenset[str]:
    """Return the items of a list, lower case."""
    value = settings.get(key)
    if not value:
        return frozenset()
    return frozenset(item.strip().lower() for item in value.split(",") if item.strip())


def with_value(settings: Settings, key: str, value: int | str | Iterable[str]) -> Settings:
    """Return the settings with one key changed; 0 and empty values remove the key, -1 does not.

    A text must not contain colons or semicolons: the caller has checked it.
    """
    if isinstance(value, int):
        text = str(value) if value else ""
    elif isinstance(value, str):
        text = value
    else:
        # An item with a colon or semicolon could not be read back and makes iRedAdmin fail.
        text = ",".join(sorted(item for item in value if not _MARKS & set(item)))
    changed = dict(settings)
    if text:
        changed[key] = text
    else:
        changed.pop(key, None)
    return changed


def to_response(settings: Settings) -> dict[str, Any]:
    """Return the settings for a response: lists as lists, numbers as numbers."""
    return {
        key: (
            sorted(words(settings, key))
            if key in LISTS
            else number(settings, key)
            if key in NUMBERS
            else value or ""
        )
        for key, value in settings.items()
    }
