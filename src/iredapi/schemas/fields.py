"""The vocabulary of parameters: each meaning once, as an annotated type.

A value arrives as text, or, from JSON, as a list of texts; ``web.params`` has turned booleans into
yes/no, numbers into digits and null into the empty text. Absent is not empty: what was not sent is
not in a form's ``changes()``. A validator raises ``PydanticCustomError`` whose type is one of our
error codes.

============================  ==========  ==================
wire meaning                  empty       words
============================  ==========  ==================
yes / no                      error       YesNo, Status
amount, never empty           error       Megabytes, Limit …
one value, empty clears       removes     OptionalMail, …
comma list, empty clears      removes all Mails, Domains, …
comma list of what is to go   nothing     GoneMails, …
comma list, bad ones dropped  nothing     RemoteAddresses
present means yes             yes         Present
============================  ==========  ==================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, NoReturn

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from iredapi.domain import (
    addresses,
    aliases,
    domains,
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
from iredapi.schemas.params import LongList, Repeated

MAX_ITEMS: Final = 10_000
"""Most items in one comma list."""
MIN_SCORE: Final = -99
MAX_SCORE: Final = 999
"""Spam scores; from -100 down a tag level means "always insert headers"."""
MAX_DOMAINS: Final = 100
"""Most new domains in one comma list."""
VIEWS: Final = ("native", "canonical")
_YES: Final = frozenset({"yes", "true", "1", "on", "enable", "enabled", "active"})
_NO: Final = frozenset({"no", "false", "0", "off", "disable", "disabled", "inactive"})
_DIGITS = re.compile(r"-?[0-9]{1,19}")
_LANGUAGE = re.compile(r"[a-z]{2}(?:_[A-Z]{2})?")
_FOLDER = re.compile(r"[A-Za-z0-9]{1,20}")
_SCORE = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,3})?")
_RULE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def fail(code: str, detail: str = "") -> NoReturn:
    """Refuse a value with one of our codes."""
    raise PydanticCustomError(code, "{detail}", {"detail": detail or CODES[code].meaning})


def one(value: Any) -> str:
    """Return a single text, without blanks at its ends."""
    if not isinstance(value, str):
        fail("INVALID_VALUE", "One value is expected, not a list.")
    return value.strip()


def filled(value: Any) -> str:
    """Return a single text that is not empty."""
    return one(value) or fail("EMPTY_NOT_ALLOWED")


def items(value: Any) -> tuple[str, ...]:
    """Return the items of a comma list or JSON list; blanks and empty items do not matter."""
    if isinstance(value, Repeated):
        value = ",".join(value)
    # Counted before anything is built: a million commas would hold everybody up.
    count = value.count(",") + 1 if isinstance(value, str) else len(value)
    if count > MAX_ITEMS:
        fail("INVALID_VALUE", f"More than {MAX_ITEMS} items.")
    parts = value.split(",") if isinstance(value, str) else value
    return addresses.unique(text for part in parts if (text := part.strip()))


def _yes_no(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "yes or no is expected.")
    return word in _YES


def _global_admin(value: Any) -> bool:
    # An older client says "global".
    return True if one(value).lower() == "global" else _yes_no(value)


def _status(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "active or disabled is expected.")
    return word in _YES


def _switch(value: Any) -> bool:
    word = filled(value).lower()
    if word not in _YES | _NO:
        fail("INVALID_VALUE", "enable or disable is expected.")
    return word in _YES


def _inheritable(value: Any) -> int:
    # Empty clears the limit, as it clears other values.
    return _number(throttles.INHERIT, throttles.MAX_LIMIT)(value) if one(value) else -1


def _entries(value: Any) -> tuple[str, ...]:
    # Whether it is well-formed does not matter when it is stored; the operation looks.
    found = addresses.unique(item.lower() for item in items(value))
    for item in found:
        if len(item) > sender_patterns.MAX_STORED or not item.isprintable():
            fail("INVALID_TEXT")
    return found


def _present(value: Any) -> bool:
    del value
    return True


def _number(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        text = filled(value)
        if not _DIGITS.fullmatch(text) or not lowest <= int(text) <= highest:
            fail("INVALID_NUMBER", f"A whole number from {lowest} to {highest} is expected.")
        return int(text)

    return parse


def _alias_policy(value: Any) -> str:
    # Whether an empty one says anything depends on the storage.
    read = _choice(aliases.POLICIES, dict(aliases.LEGACY_POLICIES))
    return read(value) if one(value) else ""


def _optional_limit(value: Any) -> int:
    # Empty: no limit.
    return _number(-1, 2**31 - 1)(value) if one(value) else limits.UNLIMITED


def _text(longest: int) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = one(value)
        if len(text) > longest or not text.isprintable():
            fail("INVALID_TEXT", f"At most {longest} printable characters are expected.")
        return text

    return parse


def _checked(check: Callable[[str], str], code: str, *, empty: bool = True) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = one(value) if empty else filled(value)
        if not text:
            return ""
        try:
            return check(text)
        except ValueError as error:
            fail(code, str(error))

    return parse


def _list(
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


def _names(read: Callable[[str], str], code: str) -> Callable[[Any], tuple[addresses.Name, ...]]:
    """Read names of what is to be removed: whatever may be stored, by whatever grammar."""

    def parse(value: Any) -> tuple[addresses.Name, ...]:
        found: dict[str, addresses.Name] = {}
        for item in items(value):
            if len(item) > addresses.MAX_STORED or not item.isprintable():
                fail(code, f"{item[:80]!r}: not printable, or too long")
            name = addresses.Name.of(item, read)
            found.setdefault(name, name)
        return tuple(found.values())

    return parse


def _words(allowed: Iterable[str] | None) -> Callable[[Any], tuple[str, ...]]:
    known = None if allowed is None else frozenset(allowed)

    def parse(value: Any) -> tuple[str, ...]:
        found = addresses.unique(item.lower() for item in items(value))
        unknown = () if known is None else [item for item in found if item not in known]
        if unknown and known is not None:
            fail("INVALID_VALUE", f"{unknown[0][:80]!r} is not one of {', '.join(sorted(known))}.")
        return found

    return parse


def _choice(
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


def _language(value: Any) -> str:
    text = one(value)
    if text and not _LANGUAGE.fullmatch(text):
        fail("INVALID_LANGUAGE", "A language code such as en_US is expected.")
    return text


def _password(value: Any) -> str:
    # Blanks at the ends go here and when a password is verified, as iRedAdmin does it.
    text = one(value)
    if len(text.encode()) > passwords.MAX_PASSWORD_BYTES:
        fail("PW_GREATER_THAN_MAX_LENGTH")
    return text


def _password_hash(value: Any) -> str:
    text = filled(value)
    try:
        return passwords.check_hash(text)
    except ValueError as error:
        fail(str(error), why_not(text.rpartition("}")[2]))


def _relay(text: str) -> str:
    # Whether a prefix is kept is a setting, so a rule of the domain decides it.
    return transports.outbound_relay(transports.with_ascii_hosts(text), keep_prefix=True)


def _transport(text: str) -> str:
    return transports.transport(transports.with_ascii_hosts(text))


def _next_hop(text: str) -> str:
    return transports.next_hop(transports.with_ascii_hosts(text))


def _folder(value: Any) -> str:
    text = filled(value)
    if not _FOLDER.fullmatch(text):
        fail("INVALID_VALUE", "1 to 20 letters and digits are expected.")
    return text


def _score(value: Any) -> float | None:
    text = one(value)
    if not text:
        return None
    if not _SCORE.fullmatch(text) or not MIN_SCORE <= float(text) <= MAX_SCORE:
        fail("INVALID_NUMBER", f"A number from {MIN_SCORE} to {MAX_SCORE} is expected.")
    return float(text)


def _rule_names(value: Any) -> tuple[str, ...]:
    found = tuple(name for item in items(value) for name in item.split())
    if not all(_RULE_NAME.fullmatch(name) for name in found) or len(",".join(found)) > 64:
        fail("INVALID_TEXT", "Names of rules are expected, at most 64 characters together.")
    return found


def _remote_addresses(value: Any) -> wblists.AddressList:
    return wblists.parse_addresses(items(value))


def _label(value: Any) -> str:
    return _text(100)(filled(value))


def _network(text: str) -> str:
    try:
        return tokens.network(text)
    except ValueError:
        raise ValueError("an IP address or network is expected") from None


def _bytes(value: Any) -> int:
    # Empty: no limit.
    return _number(0, lists.MAX_SIZE)(value) if one(value) else 0


def _prefix(value: Any) -> str:
    # What follows it in the subject may begin with a blank of its own.
    if not isinstance(value, str):
        fail("INVALID_VALUE", "One value is expected, not a list.")
    text = value.lstrip()
    if len(text) > 128 or not text.isprintable():
        fail("INVALID_TEXT", "At most 128 printable characters are expected.")
    return text


def _headers(value: Any) -> tuple[str, ...]:
    text = value if isinstance(value, str) else "\n".join(value)
    try:
        return list_footers.headers(text)
    except ValueError as error:
        fail("INVALID_TEXT", str(error))


def _footer(value: Any) -> str:
    try:
        return list_footers.footer(one(value))
    except ValueError as error:
        fail("INVALID_TEXT", str(error))


def _schema(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


YesNo = Annotated[bool, BeforeValidator(_yes_no), _schema("string", enum=["yes", "no"])]
GlobalAdmin = Annotated[bool, BeforeValidator(_global_admin), _schema("string", enum=["yes", "no"])]
Status = Annotated[bool, BeforeValidator(_status), _schema("string", enum=["active", "disabled"])]
Present = Annotated[bool, BeforeValidator(_present), _schema("string")]
Switch = Annotated[bool, BeforeValidator(_switch), _schema("string", enum=["enable", "disable"])]
Megabytes = Annotated[
    int,
    BeforeValidator(_number(0, limits.MAX_QUOTA)),
    _schema("integer", minimum=0, maximum=limits.MAX_QUOTA),
]
Limit = Annotated[
    int,
    BeforeValidator(_number(-1, 2**31 - 1)),
    _schema("integer", minimum=-1, maximum=2**31 - 1),
]
OptionalLimit = Annotated[
    int,
    BeforeValidator(_optional_limit),
    _schema("integer", minimum=-1, maximum=2**31 - 1),
]
PasswordLength = Annotated[
    int, BeforeValidator(_number(0, 255)), _schema("integer", minimum=0, maximum=255)
]
Days = Annotated[
    int, BeforeValidator(_number(0, 36500)), _schema("integer", minimum=0, maximum=36500)
]
Period = Annotated[
    int,
    BeforeValidator(_number(1, throttles.MAX_PERIOD)),
    _schema("integer", minimum=1, maximum=throttles.MAX_PERIOD),
]
ThrottleLimit = Annotated[
    int,
    BeforeValidator(_inheritable),
    _schema("integer", minimum=throttles.INHERIT, maximum=throttles.MAX_LIMIT),
]
Name = Annotated[str, BeforeValidator(_text(255)), _schema("string", maxLength=255)]
Description = Annotated[str, BeforeValidator(_text(1024)), _schema("string", maxLength=1024)]
Language = Annotated[str, BeforeValidator(_language), _schema("string", maxLength=5)]
OptionalMail = Annotated[
    str, BeforeValidator(_checked(addresses.any_mail, "INVALID_MAIL")), _schema("string")
]
Transport = Annotated[
    str,
    BeforeValidator(_checked(_transport, "INVALID_TRANSPORT")),
    _schema("string", maxLength=255),
]
NextHop = Annotated[
    str,
    BeforeValidator(_checked(_next_hop, "INVALID_RELAY", empty=False)),
    _schema("string"),
]
Relay = Annotated[str, BeforeValidator(_checked(_relay, "INVALID_RELAY")), _schema("string")]
Mails = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(addresses.any_mail, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
AccountMails = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(addresses.new_account, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
ExistingMails = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(addresses.existing_mail, "INVALID_MAIL")),
    _schema("string"),
    LongList(),
]
GoneMails = Annotated[
    tuple[str, ...],
    PlainValidator(_names(addresses.existing_mail, "INVALID_MAIL")),
    _schema("string"),
]
GoneDomains = Annotated[
    tuple[str, ...],
    PlainValidator(_names(addresses.existing_domain, "INVALID_DOMAIN_NAME")),
    _schema("string"),
]
Domains = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(addresses.domain_name, "INVALID_DOMAIN_NAME", most=MAX_DOMAINS)),
    _schema("string"),
]
ExistingDomains = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(addresses.existing_domain, "INVALID_DOMAIN_NAME")),
    _schema("string"),
    LongList(),
]
GreylistingSenders = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(sender_patterns.greylisting_sender, "INVALID_SENDER")),
    _schema("string"),
    LongList(),
]
Entries = Annotated[tuple[str, ...], BeforeValidator(_entries), _schema("string"), LongList()]
Services = Annotated[tuple[str, ...], BeforeValidator(_words(None)), _schema("string")]
DomainProfiles = Annotated[
    tuple[str, ...], BeforeValidator(_words(domains.PROFILES)), _schema("string")
]
UserProfiles = Annotated[
    tuple[str, ...], BeforeValidator(_words(domains.USER_PROFILES)), _schema("string")
]
UserPreferences = Annotated[
    tuple[str, ...], BeforeValidator(_words(domains.USER_PREFERENCES)), _schema("string")
]
Password = Annotated[str, BeforeValidator(_password), _schema("string", format="password")]
PasswordHash = Annotated[str, BeforeValidator(_password_hash), _schema("string", maxLength=255)]
View = Annotated[str, BeforeValidator(_choice(VIEWS)), _schema("string", enum=list(VIEWS))]
QuotaUnit = Annotated[
    str,
    BeforeValidator(_choice(("MB", "GB", "TB"), upper=True)),
    _schema("string", enum=["MB", "GB", "TB"]),
]
AccessPolicy = Annotated[
    str,
    BeforeValidator(_choice(aliases.POLICIES, dict(aliases.LEGACY_POLICIES))),
    _schema("string", enum=list(aliases.POLICIES)),
]
AliasPolicy = Annotated[
    str, BeforeValidator(_alias_policy), _schema("string", enum=list(aliases.POLICIES))
]
MailboxFormat = Annotated[
    str,
    BeforeValidator(_choice(("maildir", "mdbox", "sdbox"))),
    _schema("string", enum=["maildir", "mdbox", "sdbox"]),
]
MailboxFolder = Annotated[
    str, BeforeValidator(_folder), _schema("string", pattern="^[A-Za-z0-9]{1,20}$")
]
Path = Annotated[
    str, BeforeValidator(_checked(str, "INVALID_MAILDIR", empty=False)), _schema("string")
]
Label = Annotated[str, BeforeValidator(_label), _schema("string", minLength=1, maxLength=100)]
TokenDays = Annotated[
    int,
    BeforeValidator(_number(1, tokens.MAX_DAYS)),
    _schema("integer", minimum=1, maximum=tokens.MAX_DAYS),
]
Overlap = Annotated[
    int,
    BeforeValidator(_number(0, tokens.MAX_OVERLAP)),
    _schema("integer", minimum=0, maximum=tokens.MAX_OVERLAP),
]
Networks = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(_network, "INVALID_NETWORK", most=tokens.MAX_NETWORKS)),
    _schema("string"),
]
LoginName = Annotated[str, BeforeValidator(_text(255)), _schema("string")]
SpamScore = Annotated[
    float | None,
    BeforeValidator(_score),
    _schema("string", pattern=r"^(-?[0-9]{1,3}(\.[0-9]{1,3})?)?$"),
]
RuleNames = Annotated[
    tuple[str, ...], BeforeValidator(_rule_names), _schema("string", maxLength=64)
]
RemoteAddresses = Annotated[
    wblists.AddressList, BeforeValidator(_remote_addresses), _schema("string"), LongList()
]
MessageSize = Annotated[
    int, BeforeValidator(_bytes), _schema("integer", minimum=0, maximum=lists.MAX_SIZE)
]
SubjectPrefix = Annotated[str, BeforeValidator(_prefix), _schema("string", maxLength=128)]
Headers = Annotated[tuple[str, ...], BeforeValidator(_headers), _schema("string")]
HeaderNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(list_footers.header_name, "INVALID_TEXT", most=list_footers.MAX_HEADERS)),
    _schema("string"),
]
Footer = Annotated[
    str, BeforeValidator(_footer), _schema("string", maxLength=list_footers.MAX_FOOTER)
]
Subscribers = Annotated[
    tuple[str, ...],
    BeforeValidator(_list(lists.stored_subscriber, "")),
    _schema("string"),
    LongList(),
]
ListPolicy = Annotated[
    str,
    BeforeValidator(_choice(lists.POLICIES, dict(aliases.LEGACY_POLICIES))),
    _schema("string", enum=list(lists.POLICIES)),
]
Subscription = Annotated[
    str, BeforeValidator(_choice(lists.VERSIONS)), _schema("string", enum=list(lists.VERSIONS))
]
