"""Validators of parameters, which ``iredapi.schemas.fields`` attaches to types.

A value is text, or a list of texts from JSON. A validator returns the parsed value, or raises
``PydanticCustomError`` whose type is one of our error codes. Functions that return a validator take
its limits: ``whole_number(0, 10)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from pydantic_core import PydanticCustomError

from iredapi.domain import (
    addresses,
    aliases,
    cursors,
    limits,
    list_footers,
    lists,
    passwords,
    sender_patterns,
    throttles,
    tokens,
    transports,
    wblists,
)
from iredapi.domain.crypt3 import why_not
from iredapi.errors import CODES
from iredapi.schemas.params import Repeated

MAX_ITEMS: Final = 10_000
"""Maximum number of items in one comma list."""
MIN_SCORE: Final = -99
MAX_SCORE: Final = 999
"""Spam scores; a tag level of -100 or less means "always insert headers"."""
MAX_DOMAINS: Final = 100
"""Maximum number of new domains in one comma list."""
MIN_SEARCH: Final = 2
MAX_SEARCH: Final = 255
"""Characters of a text to search for."""
MAX_FIELDS: Final = 100
"""Maximum number of keys that a client may choose."""
VIEWS: Final = ("native", "canonical")
_YES: Final = frozenset({"yes", "true", "1", "on", "enable", "enabled", "active"})
_NO: Final = frozenset({"no", "false", "0", "off", "disable", "disabled", "inactive"})
_DIGITS = re.compile(r"-?[0-9]{1,19}")
_LANGUAGE = re.compile(r"[a-z]{2}(?:_[A-Z]{2})?")
_FOLDER = re.compile(r"[A-Za-z0-9]{1,20}")
_SCORE = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,3})?")
_FIELD = re.compile(r"[A-Za-z0-9_.;-]{1,64}")
_RULE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def fail(code: str, detail: str = "") -> NoReturn:
    """Raise PydanticCustomError with one of our error codes."""
    raise PydanticCustomError(code, "{detail}", {"detail": detail or CODES[code].meaning})


def one(value: Any) -> str:
    """Return a single text without leading and trailing blanks."""
    if not isinstance(value, str):
        fail("INVALID_VALUE", "One value is expected, not a list.")
    return value.strip()


def filled(value: Any) -> str:
    """Return a single text that is not empty."""
    return one(value) or fail("EMPTY_NOT_ALLOWED")


def items(value: Any) -> tuple[str, ...]:
    """Return the items of a comma list or JSON list; empty items are dropped."""
    if isinstance(value, Repeated):
        value = ",".join(value)
    # Counted before splitting: a million commas would block the event loop.
    count = value.count(",") + 1 if isinstance(value, str) else len(value)
    if count > MAX_ITEMS:
        fail("INVALID_VALUE", f"More than {MAX_ITEMS} items.")
    parts = value.split(",") if isinstance(value, str) else value
    return addresses.unique(text for part in parts if (text := part.strip()))


def yes_no(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "yes or no is expected.")
    return word in _YES


def global_admin(value: Any) -> bool:
    # Older clients send "global".
    return True if one(value).lower() == "global" else yes_no(value)


def status(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "active or disabled is expected.")
    return word in _YES


def switch(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "enable or disable is expected.")
    return word in _YES


def inheritable_limit(value: Any) -> int:
    # Empty clears the limit, as it clears other values.
    return whole_number(throttles.INHERIT, throttles.MAX_LIMIT)(value) if one(value) else -1


def entries(value: Any) -> tuple[str, ...]:
    # Not checked further: malformed entries may be stored, and can be removed.
    found = addresses.unique(item.lower() for item in items(value))
    for item in found:
        if len(item) > sender_patterns.MAX_STORED or not item.isprintable():
            fail("INVALID_TEXT")
    return found


def present(value: Any) -> bool:
    del value
    return True


def whole_number(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        text = filled(value)
        if not _DIGITS.fullmatch(text) or not lowest <= int(text) <= highest:
            fail("INVALID_NUMBER", f"A whole number from {lowest} to {highest} is expected.")
        return int(text)

    return parse


def alias_policy(value: Any) -> str:
    # The meaning of an empty one depends on the storage.
    read = choice(aliases.POLICIES, dict(aliases.LEGACY_POLICIES))
    return read(value) if one(value) else ""


def optional_limit(value: Any) -> int:
    # Empty: no limit.
    return whole_number(-1, 2**31 - 1)(value) if one(value) else limits.UNLIMITED


def printable_text(longest: int) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = one(value)
        if len(text) > longest or not text.isprintable():
            fail("INVALID_TEXT", f"At most {longest} printable characters are expected.")
        return text

    return parse


def checked(check: Callable[[str], str], code: str, *, empty: bool = True) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = one(value) if empty else filled(value)
        if not text:
            return ""
        try:
            return check(text)
        except ValueError as error:
            fail(code, str(error))

    return parse


def list_of(
    check: Callable[[str], str], code: str, *, most: int = MAX_ITEMS
) -> Callable[[Any], tuple[str, ...]]:
    def parse(value: Any) -> tuple[str, ...]:
        found = []
        sent = items(value)
        if len(sent) > most:
            fail("INVALID_VALUE", f"More than {most} items.")
        for item in sent:
            try:
                found.append(check(item))
            except ValueError as error:
                fail(code, f"{item[:80]!r}: {error}")
        return addresses.unique(found)

    return parse


def names_to_remove(
    read: Callable[[str], str], code: str
) -> Callable[[Any], tuple[addresses.Name, ...]]:
    """Return a validator of names to remove: any name that may be stored, also invalid ones."""

    def parse(value: Any) -> tuple[addresses.Name, ...]:
        found: dict[str, addresses.Name] = {}
        for item in items(value):
            if len(item) > addresses.MAX_STORED or not item.isprintable():
                fail(code, f"{item[:80]!r}: not printable, or too long")
            name = addresses.Name.of(item, read)
            found.setdefault(name, name)
        return tuple(found.values())

    return parse


def words_of(allowed: Iterable[str] | None) -> Callable[[Any], tuple[str, ...]]:
    known = None if allowed is None else frozenset(allowed)

    def parse(value: Any) -> tuple[str, ...]:
        found = addresses.unique(item.lower() for item in items(value))
        unknown = () if known is None else [item for item in found if item not in known]
        if unknown and known is not None:
            fail("INVALID_VALUE", f"{unknown[0][:80]!r} is not one of {', '.join(sorted(known))}.")
        return found

    return parse


def some_words_of(allowed: Iterable[str]) -> Callable[[Any], tuple[str, ...]]:
    read = words_of(allowed)
    return lambda value: read(value) or fail("EMPTY_NOT_ALLOWED")


def choice(
    allowed: Iterable[str], synonyms: dict[str, str] | None = None, *, upper: bool = False
) -> Callable[[Any], str]:
    words = tuple(allowed)

    def parse(value: Any) -> str:
        text = filled(value)
        text = text.upper() if upper else text.lower()
        text = (synonyms or {}).get(text, text)
        if text not in words:
            fail("INVALID_VALUE", f"One of {', '.join(words)} is expected.")
        return text

    return parse


def language(value: Any) -> str:
    text = one(value)
    if text and not _LANGUAGE.fullmatch(text):
        fail("INVALID_LANGUAGE", "A language code such as en_US is expected.")
    return text


def password(value: Any) -> str:
    # Blanks at both ends are stripped here and when a password is verified, as in iRedAdmin.
    text = one(value)
    if len(text.encode()) > passwords.MAX_PASSWORD_BYTES:
        fail("PW_GREATER_THAN_MAX_LENGTH")
    return text


def password_hash(value: Any) -> str:
    text = filled(value)
    try:
        return passwords.check_hash(text)
    except ValueError as error:
        fail(str(error), why_not(text.rpartition("}")[2]))


def relay(text: str) -> str:
    # A setting decides whether a prefix is kept, so iredapi.domain drops it.
    return transports.outbound_relay(transports.with_ascii_hosts(text), keep_prefix=True)


def transport(text: str) -> str:
    return transports.transport(transports.with_ascii_hosts(text))


def next_hop(text: str) -> str:
    return transports.next_hop(transports.with_ascii_hosts(text))


def mailbox_folder(value: Any) -> str:
    text = filled(value)
    if not _FOLDER.fullmatch(text):
        fail("INVALID_VALUE", "1 to 20 letters and digits are expected.")
    return text


def spam_score(value: Any) -> float | None:
    text = one(value)
    if not text:
        return None
    if not _SCORE.fullmatch(text) or not MIN_SCORE <= float(text) <= MAX_SCORE:
        fail("INVALID_NUMBER", f"A number from {MIN_SCORE} to {MAX_SCORE} is expected.")
    return float(text)


def rule_names(value: Any) -> tuple[str, ...]:
    found = tuple(name for item in items(value) for name in item.split())
    if not all(_RULE_NAME.fullmatch(name) for name in found) or len(",".join(found)) > 64:
        fail("INVALID_TEXT", "Names of rules are expected, at most 64 characters together.")
    return found


def remote_addresses(value: Any) -> wblists.AddressList:
    return wblists.parse_addresses(items(value))


def label(value: Any) -> str:
    return printable_text(100)(filled(value))


def network(text: str) -> str:
    try:
        return tokens.network(text)
    except ValueError:
        raise ValueError("an IP address or network is expected") from None


def message_size(value: Any) -> int:
    # Empty: no limit.
    return whole_number(0, lists.MAX_SIZE)(value) if one(value) else 0


def subject_prefix(value: Any) -> str:
    # Trailing blanks are kept: they separate the prefix from the subject.
    if not isinstance(value, str):
        fail("INVALID_VALUE", "One value is expected, not a list.")
    text = value.lstrip()
    if len(text) > 128 or not text.isprintable():
        fail("INVALID_TEXT", "At most 128 printable characters are expected.")
    return text


def headers(value: Any) -> tuple[str, ...]:
    text = value if isinstance(value, str) else "\n".join(value)
    try:
        return list_footers.headers(text)
    except ValueError as error:
        fail("INVALID_TEXT", str(error))


def footer(value: Any) -> str:
    try:
        return list_footers.footer(one(value))
    except ValueError as error:
        fail("INVALID_TEXT", str(error))


def search_text(value: Any) -> str:
    text = filled(value)
    if not text.isprintable():
        fail("INVALID_TEXT", "Control characters are not allowed.")
    if not MIN_SEARCH <= len(text) <= MAX_SEARCH:
        fail("INVALID_TEXT", f"{MIN_SEARCH} to {MAX_SEARCH} characters are expected.")
    return text


def moment(value: Any) -> datetime:
    text = filled(value)
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        fail("INVALID_VALUE", "A time in UTC is expected, such as 2026-01-31 12:00:00.")
    return found.replace(microsecond=0)


def cursor(value: Any) -> str:
    text = filled(value)
    if len(text) > cursors.MAX_LENGTH:
        fail("INVALID_CURSOR")
    return text


def field_names(value: Any) -> tuple[str, ...]:
    found = items(value) or fail("EMPTY_NOT_ALLOWED")
    if len(found) > MAX_FIELDS:
        fail("INVALID_VALUE", f"More than {MAX_FIELDS} names.")
    for name in found:
        if not _FIELD.fullmatch(name):
            fail("INVALID_VALUE", f"{name[:80]!r} is no key of an item.")
    return found


def sort_order(names: Iterable[str]) -> Callable[[Any], str]:
    return choice(word for name in names for word in (name, f"-{name}"))
