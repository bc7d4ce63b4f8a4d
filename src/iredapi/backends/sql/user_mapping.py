"""Mapping between rows of ``mailbox`` and records of users, and INSERTs of new users."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final

from sqlalchemy import Table, bindparam, delete, insert, literal_column, select

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, RelatedRows
from iredapi.database.bulk_parameters import (
    ANY_NUMBER,
    array_parameters,
    label,
    numbered_parameters,
    rows_of_arrays,
    texts,
)
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
    location = user.location
    found: dict[str, Any] = {
        **({} if usual else _switches(user.services)),
        **{column: getattr(user, name) for name, column in _TEXTS},
        **{column: int(getattr(user, name)) for name, column in _MARKS},
        "m_username": user.mail,
        "m_domain": domain_of(user.mail),
        "m_storagebasedirectory": location.base,
        "m_storagenode": location.node,
        "m_maildir": location.maildir,
        "m_created": moment,
        "m_modified": moment,
        "m_passwordlastchange": changed,
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
_ROUTE: Mapping[str, str] = {
    "address": "m_username",
    "forwarding": "m_username",
    "domain": "m_domain",
    "dest_domain": "m_domain",
    "active": "m_active",
}
"""The columns of a new user's row of ``forwardings``: without it Postfix delivers nothing."""
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
    """Return statements that insert ``size`` users; ``names`` are those of ``new_values``.

    ``ANY_NUMBER`` of users: each parameter is an array (PostgreSQL).
    """
    given = {**_FIXED, **(_switches(services.MANAGED) if usual else {})}
    lacking = _lacking(schema, tuple(given))
    fixed: dict[str, Any] = {
        name: literal_column(repr(value)) for name, value in given.items() if name not in lacking
    }

    own = {column.name: f"m_{column.name}" for column in t.mailbox.columns}
    own = {column: name for column, name in own.items() if name in names}
    types_of = {name: t.mailbox.c[column].type for column, name in own.items()}

    def constants(table: Table, prefix: str) -> dict[str, Any]:
        return {
            column.name: fixed[f"{prefix}{column.name}"]
            for column in table.columns
            if f"{prefix}{column.name}" in fixed
        }

    # A delete: left-over rights of an earlier account with this address must not become valid.
    rights, route = delete(t.domain_admins), insert_ignore(t.forwardings, dialect)
    admin = t.domain_admins.c.username
    if size == ANY_NUMBER:
        rows = rows_of_arrays("new", types_of)

        def selected(table: Table, columns: Mapping[str, str], prefix: str) -> Any:
            given = {column: rows.c[name] for column, name in columns.items()}
            given |= constants(table, prefix)
            return [*given], select(*given.values())

        return [
            insert(t.mailbox).from_select(*selected(t.mailbox, own, "m_")),
            rights.where(admin.in_(select(rows.c.m_username))),
            route.from_select(*selected(t.forwardings, _ROUTE, "f_")),
        ]

    def values(table: Table, columns: Mapping[str, str], prefix: str) -> list[dict[str, Any]]:
        types = {
            column: t.mailbox.c[name.removeprefix("m_")].type for column, name in columns.items()
        }
        return [
            constants(table, prefix)
            | {
                column: bindparam(label(name, n, size), type_=types[column])
                for column, name in columns.items()
            }
            for n in range(size)
        ]

    return [
        insert(t.mailbox).values(values(t.mailbox, own, "m_")),
        rights.where(admin.in_(texts("m_username", size))),
        route.values(values(t.forwardings, _ROUTE, "f_")),
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
    is_global = row["isglobaladmin"] == 1
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
        active=row["active"] == 1,
        is_admin=row["isadmin"] == 1,
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
_MANY: Final = 64
"""Maximum number of users of one statement: it has 50 columns for each."""


def _sizes(count: int) -> list[int]:
    """Split a number of users, so that few different statements are compiled."""
    found = []
    while count > _FEW:
        found.append(min(1 << (count.bit_length() - 1), _MANY))
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

    def statements(size: int) -> tuple[object, Callable[[], Sequence[Statement]]]:
        build = partial(insert_statements, store.schema, names, size, store.dialect, usual=usual)
        return ("users.add", names, size), build

    # PostgreSQL plans each run of a statement with thousands of parameters anew.
    if store.dialect == "postgresql" and len(values) > 1:
        await store.change_all(*statements(ANY_NUMBER), **array_parameters(values))
    elif store.dialect == "sqlite":
        await store.change_each(*statements(1), values)
    else:
        at = 0
        for size in _sizes(len(values)):
            some = numbered_parameters(values[at : at + size])
            await store.change_all(*statements(size), **some)
            at += size
    for user in users:
        if user.held is not None or user.held_by_domain is not None:
            values_of = {"settings": settings_of("", user)}
            await store.update(t.mailbox, values_of, t.mailbox.c.username == user.mail)
