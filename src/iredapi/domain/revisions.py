"""What a change has made of a record: the names of the changed parameters, with their values.

A ``Revision`` refers to the records that an operation has read and written anyway. It is described
later, outside of the request (docs/adr/0017). No secret is ever described.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, Final, cast

from iredapi.domain import account_settings, canonical, phones, services, suspension
from iredapi.domain.addresses import local_part_of
from iredapi.domain.admins import Admin
from iredapi.domain.aliases import Alias
from iredapi.domain.changed_parameters import of_user_fields
from iredapi.domain.domains import Domain
from iredapi.domain.lists import MailingList, stored_to_response
from iredapi.domain.maillists import MailList
from iredapi.domain.users import User
from iredapi.observability.logging import masked

Values = Mapping[str, Any]
"""JSON values by the names of parameters."""

SECRET: Final = frozenset({"password", "password_hash"})
HIDDEN: Final = "***"
"""Stands for each value of a secret."""
_MOST: Final = 100
"""Items of a list up to which it is kept whole; of a longer one so many of the differences are."""
_LONGEST: Final = 1000
"""Characters of a text that are kept."""


class About(StrEnum):
    """What kind of record was changed."""

    NOTHING = ""
    """No record: a login, say, or a creation."""
    USER = "user"
    DOMAIN = "domain"
    ALIAS = "alias"
    LIST = "list"
    ADMIN = "admin"
    """A standalone admin."""
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Revision:
    """The changed parameters of a record; ``old`` and ``new`` return the values, as far as known.

    None: they are not known.
    """

    about: About
    names: Sequence[str]
    old: Callable[[], Values] | None = None
    new: Callable[[], Values] | None = None

    def described(self) -> list[dict[str, Any]]:
        """Return an item for each name: ``param``, and ``old`` and ``new`` where they are known."""
        old = {} if self.old is None else self.old()
        new = {} if self.new is None else self.new()
        return [_item(name, old, new) for name in sorted(self.names)]


def _item(name: str, old: Values, new: Values) -> dict[str, Any]:
    if name in SECRET:
        return {"param": name, "old": HIDDEN, "new": HIDDEN}
    was, now = old.get(name), new.get(name)
    partial = _is_long(was) or _is_long(now)
    if isinstance(was, list) and isinstance(now, list) and partial:
        was, now = _without(was, now), _without(now, was)
    item: dict[str, Any] = {"param": name}
    if name in old:
        item["old"] = _short(was)
    if name in new:
        item["new"] = _short(now)
    return item | {"partial": True} if partial else item


def _is_long(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) > _LONGEST
    return isinstance(value, list) and len(value) > _MOST


def _without(items: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    gone = set(map(str, others))
    return [item for item in items if str(item) not in gone]


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value[:_LONGEST])
    if isinstance(value, list | tuple | set | frozenset):
        items = value if isinstance(value, list | tuple) else sorted(value)
        return [_short(item) for item in items[:_MOST]]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _short(str(value))


# Records as values --------------------------------------------------------------------------------


def _services(user: User) -> list[str]:
    columns, words = suspension.released(user)
    return sorted({*services.service_names(columns, services.MANAGED), *words})


_OF_USER: Final[Mapping[str, Callable[[User], Any]]] = {
    "name": lambda user: user.name or local_part_of(user.mail),
    "gn": lambda user: user.given_name,
    "sn": lambda user: user.surname or local_part_of(user.mail),
    "accountStatus": lambda user: "active" if user.active else "disabled",
    "quota": lambda user: user.quota,
    "language": lambda user: user.language,
    "employeeid": lambda user: user.employee_id,
    "telephoneNumber": lambda user: list(phones.numbers(user.telephone)),
    "mobile": lambda user: list(phones.numbers(user.mobile)),
    "transport": lambda user: user.transport,
    "forwarding": lambda user: sorted(user.destinations),
    "aliases": lambda user: sorted(user.aliases),
    "senderBcc": lambda user: user.sender_bcc,
    "recipientBcc": lambda user: user.recipient_bcc,
    "services": _services,
    "suspend": lambda user: "no" if user.held is None else "yes",
    "isGlobalAdmin": lambda user: "yes" if user.is_global else "no",
    "mailboxFormat": lambda user: user.mailbox_format,
    "mailboxFolder": lambda user: user.mailbox_folder,
    "maildir": lambda user: user.location.path,
}
"""The values of ``view=canonical``, one by one: the whole view costs as much as twenty of them."""


def _user(record: User, names: Iterable[str]) -> Values:
    return {name: _OF_USER[name](record) for name in names if name in _OF_USER}


class _KnownFields(SimpleNamespace):
    """The known fields of a user; the others are those of a new one. A ``User`` costs much more."""

    destinations = User.destinations


for _field in fields(User):
    if _field.default is not MISSING:
        setattr(_KnownFields, _field.name, _field.default)


def _known_user(mail: str, known: Mapping[str, Any]) -> User:
    return cast("User", _KnownFields(mail=mail, **known))


def of_user(names: Sequence[str], before: User, after: User) -> Revision:
    """Return what was changed of a user."""
    return Revision(About.USER, names, lambda: _user(before, names), lambda: _user(after, names))


def of_fields_of_user(
    names: Sequence[str], mail: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Revision:
    """Return what was changed of a user of whom some fields are known only.

    ``old`` and ``new`` have values by the names of fields; None: the value is not known.
    """

    def values(stored: Mapping[str, Any]) -> Values:
        known = {name: value for name, value in stored.items() if value is not None}
        return _user(_known_user(mail, known), of_user_fields(known))

    return Revision(About.USER, names, lambda: values(old), lambda: values(new))


def of_domain(names: Sequence[str], before: Domain, after: Domain) -> Revision:
    """Return what was changed of a domain."""
    return Revision(About.DOMAIN, names, lambda: _domain(before), lambda: _domain(after))


def _domain(record: Domain) -> Values:
    view = canonical.domain(record, ())
    view["suspend"] = view["suspended"]
    del view["admins"]
    return account_settings.to_response(record.settings) | view


def of_admin(names: Sequence[str], before: Admin, after: Admin) -> Revision:
    """Return what was changed of a standalone admin."""
    return Revision(
        About.ADMIN, names, lambda: canonical.admin(before), lambda: canonical.admin(after)
    )


def of_alias(names: Sequence[str], before: Alias | MailList, after: Alias | MailList) -> Revision:
    """Return what was changed of an alias account or an unsubscribable list."""
    about = About.ALIAS if isinstance(before, Alias) else About.LIST
    return Revision(about, names, lambda: _alias(before), lambda: _alias(after))


def _alias(record: Alias | MailList) -> Values:
    view = canonical.alias(record) if isinstance(record, Alias) else canonical.maillist(record)
    return view | {"accessPolicy": record.access_policy}


def of_list(
    names: Sequence[str],
    before: MailingList,
    after: MailingList,
    server: tuple[Values, Values] = ({}, {}),
) -> Revision:
    """Return what was changed of a mailing list; ``server``: what the list server had and has."""
    old, new = server
    return Revision(
        About.LIST,
        names,
        lambda: {**stored_to_response(before), **old},
        lambda: {**stored_to_response(after), **new},
    )


def of_mail(names: Sequence[str], about: About, before: str, after: str) -> Revision:
    """Return what was changed when an account got another address."""
    return of_values(names, about, {"mail": before}, {"mail": after})


def of_set(
    names: Sequence[str], about: About, before: Collection[str], after: Collection[str]
) -> Revision:
    """Return what was changed of a set of names, the only changed parameter."""
    old, new = sorted(before), sorted(after)
    return Revision(about, names, lambda: {names[0]: old}, lambda: {names[0]: new})


def of_values(
    names: Sequence[str], about: About, old: Values | None = None, new: Values | None = None
) -> Revision:
    """Return what was changed of something whose values are at hand."""
    return Revision(
        about,
        names,
        None if old is None else lambda: old,
        None if new is None else lambda: new,
    )
