"""Spam policies: parameters, the columns of ``amavisd.policy`` behind them, and precedence.

A column that is NULL is inherited from the next policy: user, domain, global, ``amavisd.conf``. An
empty text is a value and not inherited. A ``…_lover`` flag and its quarantine target are always
written together: with the flag off and no quarantine, Amavisd discards the mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.scopes import Kind, Scope

Columns = Mapping[str, Any]
"""Values of a policy's columns, None for NULL."""

SHIPPED: Final[Columns] = MappingProxyType(
    {
        "spam_lover": "Y",
        "spam_quarantine_to": "",
        "virus_lover": "N",
        "virus_quarantine_to": "virus-quarantine",
        "banned_files_lover": "N",
        "banned_quarantine_to": "banned-quarantine",
        "bad_header_lover": "Y",
        "bad_header_quarantine_to": "",
        "bypass_spam_checks": "N",
        "bypass_virus_checks": "N",
        "bypass_banned_checks": "N",
        "bypass_header_checks": "N",
    }
)
"""The global policy of a new server."""

SUBJECT_TAG: Final = "[SPAM] "
TAG_ALWAYS: Final = -999.0
TAG_DEFAULT: Final = 2.0
_TAGS_ALWAYS: Final = -100.0
"""With a tag level up to this value, headers are always inserted."""
SCORE_DIGITS: Final = 3
"""The columns are floats of four bytes: further digits are rounding errors."""

_BYPASSES: Final = (
    "bypass_spam_checks",
    "bypass_virus_checks",
    "bypass_banned_checks",
    "bypass_header_checks",
)
_QUARANTINES: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "quarantine_spam": ("spam_lover", "spam_quarantine_to", "spam-quarantine"),
        "quarantine_virus": ("virus_lover", "virus_quarantine_to", "virus-quarantine"),
        "quarantine_banned": ("banned_files_lover", "banned_quarantine_to", "banned-quarantine"),
        "quarantine_bad_header": (
            "bad_header_lover",
            "bad_header_quarantine_to",
            "bad-header-quarantine",
        ),
    }
)
_FALSE: Final = frozenset({"", "n", "f", "0"})


@dataclass(frozen=True, slots=True)
class Policy:
    """An account's own policy. ``account`` is as it is stored: ``@.``, ``@d``, ``user@d``."""

    account: str
    columns: Columns = field(default_factory=dict)


def draft(scope: Scope) -> Policy:
    """Return the new policy of an account: everything is inherited.

    The global one starts as shipped: it would inherit from ``amavisd.conf``, which discards mail.
    """
    return Policy(scope.account, SHIPPED if scope.kind is Kind.GLOBAL else {})


def revise(before: Policy, changes: Mapping[str, Any]) -> Policy:
    """Return the changed policy; only the columns of sent parameters change."""
    new: dict[str, Any] = {}
    for name in _BYPASSES:
        if name in changes:
            new[name] = "Y" if changes[name] else "N"
    for name, (lover, target, quarantine) in _QUARANTINES.items():
        if name in changes:
            new[lover], new[target] = ("N", quarantine) if changes[name] else ("Y", "")
    if "prefix_spam_in_subject" in changes:
        new["spam_subject_tag2"] = SUBJECT_TAG if changes["prefix_spam_in_subject"] else ""
    if "banned_rulenames" in changes:
        new["banned_rulenames"] = ",".join(changes["banned_rulenames"]) or None
    if "spam_score" in changes:
        # Both levels: with one only, mail would be marked or quarantined, but not both.
        new["spam_tag2_level"] = new["spam_kill_level"] = changes["spam_score"]
    new |= _tag_level(before.columns, changes)
    return Policy(before.account, {**before.columns, **new})


def _tag_level(before: Columns, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the score from which X-Spam headers are inserted; never above the spam score."""
    present, old = before.get("spam_tag_level"), before.get("spam_tag2_level")
    score = changes.get("spam_score", old)
    needed = score if score is not None and score < TAG_DEFAULT else None
    if "always_insert_x_spam_headers" in changes:
        if changes["always_insert_x_spam_headers"]:
            return {"spam_tag_level": TAG_ALWAYS}
        return {"spam_tag_level": TAG_DEFAULT if needed is None else needed}
    if "spam_score" not in changes or (present is not None and present <= _TAGS_ALWAYS):
        return {}
    if present is not None and present == old and old < TAG_DEFAULT:
        return {"spam_tag_level": needed}  # it was lowered for the previous score
    if needed is not None and (present is None or present > needed):
        return {"spam_tag_level": needed}
    return {}


def described(columns: Columns) -> dict[str, Any]:
    """Return a policy by parameter names; None: inherited."""
    values: dict[str, Any] = {name: _is_true(columns.get(name)) for name in _BYPASSES}
    for name, (_, target, _) in _QUARANTINES.items():
        values[name] = _is_filled(columns.get(target))
    values["prefix_spam_in_subject"] = _is_filled(columns.get("spam_subject_tag2"))
    level = columns.get("spam_tag_level")
    values["always_insert_x_spam_headers"] = None if level is None else _yes(level <= _TAGS_ALWAYS)
    values["spam_score"] = _score(columns.get("spam_tag2_level"))
    values["banned_rulenames"] = _names(columns.get("banned_rulenames"))
    return values


_COLUMN_OF: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in _BYPASSES}
    | {name: target for name, (_, target, _) in _QUARANTINES.items()}
    | {
        "prefix_spam_in_subject": "spam_subject_tag2",
        "always_insert_x_spam_headers": "spam_tag_level",
        "spam_score": "spam_tag2_level",
    }
)
"""Parameter → the column that its value is read from."""

COLUMNS: Final = frozenset(
    {*SHIPPED, "spam_subject_tag2", "spam_tag_level", "spam_tag2_level", "spam_kill_level"}
    | {"banned_rulenames"}
)
"""Columns of the parameters; a policy has more columns, which stay unchanged."""


def _is_true(value: str | None) -> str | None:
    return None if value is None else _yes(value.strip().lower() not in _FALSE)


def _is_filled(value: str | None) -> str | None:
    return None if value is None else _yes(value != "")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _score(value: float | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if value == int(value) else value


def _names(value: str | None) -> list[str]:
    # Amavisd splits at commas and blanks.
    return (value or "").replace(",", " ").split()


def lookups(scope: Scope) -> list[str]:
    """Return the accounts that Amavisd looks up, the most specific first."""
    keys = []
    if scope.kind is Kind.USER:
        keys += [scope.name, local_part_of(scope.name)]
    if scope.domain:
        labels = domain_of(scope.name).split(".")
        keys += [f"@{scope.domain}"]
        keys += [f"@.{'.'.join(labels[start:])}" for start in range(len(labels))]
    return [*keys, "@."]


def effective(scope: Scope, layers: Iterable[Policy]) -> dict[str, Any]:
    """Return the effective values of an account, and the account whose policy has each of them.

    ``layers`` are the policies that Amavisd finds, by priority, with the accounts where it finds
    them. The first value that is not NULL applies. Without any, value and ``from`` are None:
    ``amavisd.conf`` decides.
    """
    found: dict[str, tuple[str, Any]] = {}
    rules: dict[str, None] = {}
    sources: list[str] = []
    for layer in layers:
        for column, value in layer.columns.items():
            if value is not None and column in COLUMNS:
                found.setdefault(column, (layer.account, value))
        names = _names(layer.columns.get("banned_rulenames"))
        if names:
            # Amavisd joins the lists of all policies.
            rules |= dict.fromkeys(names)
            sources.append(layer.account)
    values = described({column: value for column, (_, value) in found.items()})
    answer: dict[str, Any] = {
        name: {"value": values[name], "from": found.get(column, (None,))[0]}
        for name, column in _COLUMN_OF.items()
    }
    answer["banned_rulenames"] = {"value": list(rules), "from": sources}
    columns = {column: {"value": v, "from": a} for column, (a, v) in sorted(found.items())}
    return {"account": scope.account, "effective": answer, "columns": columns}
