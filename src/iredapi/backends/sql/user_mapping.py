"""Mapping between rows of ``mailbox`` and records of users, and INSERTs of new users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final

from sqlalchemy import Table, bindparam, delete, insert, literal_column

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, RelatedRows
from iredapi.database.bulk_parameters import label, numbered_parameters, texts
from iredapi.database.compiled_statement import Statement
from iredapi.database.dialect import insert_ignore
from iredapi.database.live_schema import Schema
from iredapi.database.repository import now
from iredapi.domain import account_settings, services, suspension
from iredapi.domain.addresses import domain_of
from iredapi.domain.mailbox_paths import Location
from iredapi.domain.users import User

HELD = "suspended_services"
HELD_BY_DOMAIN = "domain_suspended_services"
"""Keys of a user's settings: what was on before the user, or its domain, was suspended."""
NEVER = datetime(1970, 1, 1, 1, 1, 1)  # noqa: DTZ001 (the tables hold no zone)
"""The sentinel of ``passwordlastchange`` that makes iRedAPD ask for a new password."""
_SWITCHES = tuple(f"enable{name}" for name in sorted(services.MANAGED))
COLUMNS = {
    "password": "password",
    "name": "name",
    "given_name": "first_name",
    "surname": "last_name",
    "mobile": "mobile",
    "telephone": "telephone",
    "language": "language",
    "quota": "quota",
    "employee_id": "employeeid",
    "transport": "transport",
    "mailbox_format": "mailboxformat",
    "mailbox_folder": "mailboxfolder",
}
"""The columns of the fields of a user's record."""
OPTIONAL = {
    "gn": "first_name",
    "sn": "last_name",
    "mobile": "mobile",
    "telephone_number": "telephone",
    "mailbox_format": "mailboxformat",
    "mailbox_folder": "mailboxfolder",
}
"""Parameters whose columns older releases lack."""
FLAGS = {"active": "active", "is_admin": "isadmin", "is_global": "isglobaladmin"}
"""The columns of fields that are stored as 0 or 1."""


NO_SETTINGS = "settings=NULL"
"""Item of what is held: the settings are NULL."""


def service_value(column: str, *, on: bool, exact: Collection[str] = ()) -> int | str:
    """Return the value of a service's column: 0 or 1, in some columns ``n`` or ``y``.

    ``exact`` has the items that ``item_of`` returned.
    """
    if column in services.YES_NO_COLUMNS:
        return ("Y" if f"{column}=Y" in exact else "y") if on else "n"
    return int(on)


def is_on(value: Any) -> bool:
    """Tell whether the value of a service's column means that it is on."""
    return value in (1, "y", "Y")


def item_of(column: str, value: Any) -> str:
    """Return how it is held that a service is on: other programs write ``Y``, too."""
    return f"{column}=Y" if value == "Y" else column


def new_values(
    schema: Schema, user: User, moment: datetime, changed: datetime, *, usual: bool
) -> dict[str, Any]:
    """Return the parameters of ``insert_statements`` for a user.

    ``changed`` is the date of the password. ``usual``: every service is enabled, and the statement
    has the values of these columns as constants.
    """
    mail, domain, location = user.mail, domain_of(user.mail), user.location
    found: dict[str, Any] = {
        **({} if usual else _switches(user.services)),
        **{column: getattr(user, name) for name, column in _TEXTS},
        **{column: int(getattr(user, name)) for name, column in _MARKS},
        "mail": mail,
        "m_username": mail,
        "m_domain": domain,
        "m_storagebasedirectory": location.base,
        "m_storagenode": location.node,
        "m_maildir": location.maildir,
        "m_created": moment,
        "m_modified": moment,
        "m_passwordlastchange": changed,
        # Without this route Postfix delivers nothing to a user.
        "f_address": mail,
        "f_forwarding": mail,
        "f_domain": domain,
        "f_dest_domain": domain,
        "f_active": int(user.active),
    }
    for name in schema.statement(
        ("user_rows.lacking", usual), lambda: _lacking(schema, tuple(found))
    ):
        del found[name]
    return found


_FIXED: Mapping[str, int | str] = {
    "m_settings": "",
    "m_disclaimer": "",
    "f_is_forwarding": 1,
    "f_is_alias": 0,
}
"""Constants of every new user."""
_TEXTS = [(name, f"m_{column}") for name, column in COLUMNS.items()]
_MARKS = [(name, f"m_{column}") for name, column in FLAGS.items()]


def _switches(on: Collection[str]) -> Mapping[str, int | str]:
    return {f"m_enable{name}": service_value(name, on=name in on) for name in services.MANAGED}


def _lacking(schema: Schema, names: Collection[str]) -> list[str]:
    """Return which values belong to optional columns that this server lacks."""
    columns = [name.removeprefix("m_") for name in names if name.startswith("m_")]
    there = schema.values(t.mailbox, dict.fromkeys(columns))
    return [f"m_{column}" for column in columns if column not in there]


def insert_statements(
    schema: Schema, names: Collection[str], size: int, dialect: str, *, usual: bool
) -> list[Statement]:
    """Return statements that insert ``size`` users; ``names`` are those of ``new_values``."""
    given = {**_FIXED, **(_switches(services.MANAGED) if usual else {})}
    lacking = _lacking(schema, tuple(given))
    fixed: dict[str, Any] = {
        name: literal_column(repr(value)) for name, value in given.items() if name not in lacking
    }

    def rows(table: Table, prefix: str) -> Any:
        own = [column for column in table.columns if f"{prefix}{column.name}" in names]
        constants = {
            column.name: fixed[f"{prefix}{column.name}"]
            for column in table.columns
            if f"{prefix}{column.name}" in fixed
        }
        return [
            constants
            | {c.name: bindparam(label(f"{prefix}{c.name}", n, size), type_=c.type) for c in own}
            for n in range(size)
        ]

    return [
        insert(t.mailbox).values(rows(t.mailbox, "m_")),
        # Left-over rights of an earlier account with this address must not become valid.
        delete(t.domain_admins).where(t.domain_admins.c.username.in_(texts("mail", size))),
        insert_ignore(t.forwardings, dialect).values(rows(t.forwardings, "f_")),
    ]


def record(row: Mapping[str, Any], related_rows: RelatedRows) -> User:
    """Return the record of a user: its row and its related rows."""
    mail = row["username"]
    texts: dict[str, Any] = {name: row.get(column) or "" for name, column in COLUMNS.items()}
    del texts["quota"]
    managed: frozenset[str] = frozenset()
    if related_rows:
        managed = frozenset(related_rows.texts(mail, "managed"))
        texts |= {
            "forwardings": frozenset(related_rows.texts(mail, "forwarding")),
            "aliases": frozenset(related_rows.texts(mail, "alias")),
            "sender_bcc": related_rows.text(mail, "sender_bcc"),
            "recipient_bcc": related_rows.text(mail, "recipient_bcc"),
            "managed_domains": managed - {"ALL"},
        }
    is_global = bool(row["isglobaladmin"])
    on, exact = _managed_services(tuple([row.get(column) for column in _SWITCHES]))
    if (settings := row.get("settings")) and HELD in settings:
        found = account_settings.parse(settings)
        texts["held"] = suspension.of_settings(found, HELD)
        texts["held_by_domain"] = suspension.of_settings(found, HELD_BY_DOMAIN)
        texts_held = (found.get(key) or "" for key in (HELD, HELD_BY_DOMAIN))
        held = (item for text in texts_held for item in suspension.items_of(text))
        exact |= {item for item in held if "=" in item}
    elif settings is None and "settings" in row:
        exact |= {NO_SETTINGS}
    texts["settings"] = settings or ""
    return User(
        mail=mail,
        **texts,
        quota=int(row["quota"]),
        active=bool(row["active"]),
        is_admin=bool(row["isadmin"]),
        is_global=is_global or "ALL" in managed,
        marks_agree=is_global == ("ALL" in managed),
        location=Location(row["storagebasedirectory"], row["storagenode"], row["maildir"]),
        services=on,
        exact=exact,
    )


@lru_cache(maxsize=1024)
def _managed_services(values: tuple[Any, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the enabled services, and ``User.exact`` of them.

    Values are in the order of ``_SWITCHES``.
    """
    on = {
        column.removeprefix("enable"): value
        for column, value in zip(_SWITCHES, values, strict=True)
        if is_on(value)
    }
    items = {item_of(name, value) for name, value in on.items()}
    return frozenset(on), frozenset(items - on.keys())


def settings_of(text: str, user: User) -> str | None:
    """Return the text of a user's settings, with the services that wait until it is resumed."""
    values: dict[str, str | None] = {}
    for key, names in ((HELD, user.held), (HELD_BY_DOMAIN, user.held_by_domain)):
        if names is None:
            values[key] = None
            continue
        items = {item for item in user.exact if item.partition("=")[0] in names}
        items |= names - {item.partition("=")[0] for item in items}
        values[key] = suspension.text_of(items | ({NO_SETTINGS} & user.exact))
    return account_settings.replaced(text, values) or (None if NO_SETTINGS in user.exact else "")


def row_changes(before: User, after: User) -> dict[str, Any]:
    """Return the columns of the user's row that differ, with their new values."""
    values: dict[str, Any] = {
        column: getattr(after, name)
        for name, column in COLUMNS.items()
        if getattr(before, name) != getattr(after, name)
    }
    values |= {
        column: int(getattr(after, name))
        for name, column in FLAGS.items()
        if getattr(before, name) != getattr(after, name)
    }
    if before.marks_agree != after.marks_agree:
        values["isglobaladmin"] = int(after.is_global)
    if before.location != after.location:
        values |= {
            "storagebasedirectory": after.location.base,
            "storagenode": after.location.node,
            "maildir": after.location.maildir,
        }
    values |= {
        f"enable{name}": service_value(name, on=name in after.services, exact=before.exact)
        for name in before.services ^ after.services
    }
    if before.held != after.held or before.held_by_domain != after.held_by_domain:
        values["settings"] = settings_of(before.settings, after)
    if "password" in values:
        values["passwordlastchange"] = now()
    values["modified"] = now()
    return values


_FEW: Final = 8
"""Numbers of users up to this have a statement each; larger ones are sums of powers of two."""


def _sizes(count: int) -> list[int]:
    """Split a number of users, so that few different statements are compiled."""
    found = []
    while count > _FEW:
        found.append(1 << (count.bit_length() - 1))
        count -= found[-1]
    return [*found, count] if count else found


async def add_users(
    store: AccountRepository, users: Sequence[User], *, changed: datetime | None
) -> None:
    """Insert users who receive mail at their own address and are no admins or members."""
    moment = now()
    usual = all(user.services == services.MANAGED for user in users)
    values = [
        new_values(store.schema, user, moment, changed or NEVER, usual=usual) for user in users
    ]
    names = tuple(values[0])
    at = 0
    for size in _sizes(len(values)):
        build = partial(insert_statements, store.schema, names, size, store.dialect, usual=usual)
        some = values[at : at + size]
        await store.change_all(("users.add", names, size), build, **numbered_parameters(some))
        at += size
    for user in users:
        if user.held is not None or user.held_by_domain is not None:
            values_of = {"settings": settings_of("", user)}
            await store.update(t.mailbox, values_of, t.mailbox.c.username == user.mail)
