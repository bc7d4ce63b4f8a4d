"""The attribute ``accountSetting`` (values ``key:value``), mapped to the settings of the rules.

The rules use the names of the SQL storage (``domain.account_settings``). In LDAP some keys have
other names, and lists have one value per item. Values of unknown keys are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from iredapi.backends.ldap.entry_diff import Edit
from iredapi.domain import account_settings
from iredapi.domain.account_settings import Settings

ATTRIBUTE: Final = "accountSetting"
_NAMES: Final[Mapping[str, str]] = {
    "default_user_quota": "defaultQuota",
    "max_user_quota": "maxUserQuota",
    "min_passwd_length": "minPasswordLength",
    "max_passwd_length": "maxPasswordLength",
    "default_language": "defaultLanguage",
    "default_groups": "defaultList",
    "disabled_domain_profiles": "disabledDomainProfile",
    "disabled_user_profiles": "disabledUserProfile",
    "disabled_user_preferences": "disabledUserPreference",
    "disabled_mail_services": "disabledMailService",
}
_SQL_NAMES: Final = {name.lower(): word for word, name in _NAMES.items()}
_ONE_VALUE_PER_ITEM: Final = frozenset(
    {"disableddomainprofile", "disableduserprofile", "disableduserpreference"}
    | {"disabledmailservice"}
)
"""Keys with one value per item; ``defaultList`` has its items in one value."""
_RECORD_FIELDS: Final = frozenset(
    {"domainquota", "numberofusers", "numberofaliases", "numberoflists"}
)
"""Keys that are fields of the record of a domain."""
_NUMBERS: Final = frozenset(
    {"defaultquota", "maxuserquota", "minpasswordlength", "maxpasswordlength"}
    | {"numberofusers", "numberofaliases", "numberoflists"}
    | {"create_max_domains", "create_max_quota", "create_max_users"}
    | {"create_max_aliases", "create_max_lists"}
)
_UNITS: Final[Mapping[str, int]] = {"MB": 1, "GB": 1024, "TB": 1024 * 1024}


def _pairs(values: Iterable[str]) -> list[tuple[str, str]]:
    found = []
    for value in values:
        key, colon, text = value.partition(":")
        if colon and key.strip():
            found.append((key.strip(), text.strip()))
    return sorted(found)


def parse(values: Collection[str]) -> Settings:
    """Return the settings by the names of the rules."""
    found: dict[str, str | None] = {}
    for key, text in _pairs(values):
        low = key.lower()
        if low in _RECORD_FIELDS:
            continue
        word = _SQL_NAMES.get(low, key)
        if low in _ONE_VALUE_PER_ITEM and found.get(word):
            found[word] = f"{found[word]},{text}"
        else:
            found[word] = text
    return found


def number(values: Collection[str], key: str) -> int:
    """Return a whole number; 0 if the key is missing or has another value."""
    return account_settings.number(dict(_lowered(values)), key.lower())


def megabytes(values: Collection[str]) -> int:
    """Return ``domainQuota``, which is ``amount:unit``, in MB."""
    amount, _, unit = (dict(_lowered(values)).get("domainquota") or "").partition(":")
    size = account_settings.number({"n": amount}, "n")
    return size * _UNITS.get(unit.strip().upper() or "MB", 1) if size > 0 else size


def _lowered(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(key.lower(), text) for key, text in _pairs(values)]


def write(edit: Edit, before: Settings, after: Settings) -> None:
    """Put the difference of two settings into an edit; values of other keys stay."""
    for word in sorted(before.keys() | after.keys()):
        if before.get(word) != after.get(word):
            put(edit, _NAMES.get(word, word), after.get(word) or "")


def put(edit: Edit, key: str, text: str) -> None:
    """Set one key; an empty text removes it."""
    low = key.lower()
    gone = [
        value for value in edit.now(ATTRIBUTE) if value.partition(":")[0].strip().lower() == low
    ]
    edit.discard(ATTRIBUTE, gone)
    items = (
        [item for item in text.split(",") if item]
        if low in _ONE_VALUE_PER_ITEM
        else [text]
        if text
        else []
    )
    edit.add(ATTRIBUTE, [f"{key}:{item}" for item in items])


def put_number(edit: Edit, key: str, value: int) -> None:
    """Set a number; 0 removes the key, -1 is stored."""
    put(edit, key, str(value) if value else "")


def to_response(values: Collection[str]) -> dict[str, Any]:
    """Return the settings for a profile: numbers, lists, and all other values as text."""
    found: dict[str, Any] = {}
    for key, text in _pairs(values):
        low = key.lower()
        if low in _ONE_VALUE_PER_ITEM:
            found.setdefault(key, []).append(text)
        elif low == "defaultlist":
            found[key] = sorted(item.strip() for item in text.split(",") if item.strip())
        elif low in _NUMBERS:
            found[key] = account_settings.number({key: text}, key)
        else:
            found[key] = text
    return found
