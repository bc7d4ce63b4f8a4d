"""Suspend and resume all users of a domain with a number of statements that does not grow."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case, func, literal, or_, select, update

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.user_mapping import (
    HELD,
    HELD_BY_DOMAIN,
    NO_SETTINGS,
    is_on,
    item_of,
    service_value,
)
from iredapi.database.column_types import MYSQL
from iredapi.database.repository import now
from iredapi.database.text_matching import in_bytes
from iredapi.domain import account_settings, services, suspension


def _names(store: AccountRepository) -> list[str]:
    """Return the services for logins that have a column on this server."""
    logins = sorted(suspension.LOGINS)
    return [name for name in logins if store.schema.has(t.mailbox, f"enable{name}")]


def _settings() -> ColumnElement[str]:
    return func.coalesce(t.mailbox.c.settings, "")


async def suspend(store: AccountRepository, domain: str) -> bool:
    """Switch off logins of all users; return whether any was on, or not marked as suspended.

    What was on is written in front of the user's settings.
    """
    m, names = t.mailbox.c, _names(store)
    parts: list[ColumnElement[Any]] = [literal(f"{HELD_BY_DOMAIN}:")]
    parts += [case(*_items(m[f"enable{name}"], name), else_="") for name in names]
    parts.append(case((m.settings.is_(None), f"{NO_SETTINGS},"), else_=""))
    parts += [literal("none;"), _settings()]
    whole: ColumnElement[Any] = parts[0]
    if store.dialect in MYSQL:
        whole = func.concat(*parts)
    else:
        for part in parts[1:]:
            whole = whole.concat(part)
    # MySQL assigns from left to right: the settings come first, while the services are still on.
    values: list[tuple[Any, Any]] = [(m.settings, whole)]
    for column, name in ((m[f"enable{name}"], name) for name in names):
        off = service_value(name, on=False)
        values.append((column, case((_is_on(column, name), off), else_=column)))
    values.append((m.modified, now()))
    own = m.domain.in_(await store.domain_names(m.domain, domain))
    marked = _settings().contains(f"{HELD}:", autoescape=True)
    found = await store.run(update(t.mailbox).ordered_values(*values).where(own, ~marked))
    return bool(found + await _suspend_again(store, own, marked))


def _is_on(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    # Equality of MariaDB ignores case: a value is compared byte by byte.
    return in_bytes(column, ["Y", "y"]) if name in services.YES_NO_COLUMNS else column == 1


def _items(column: ColumnElement[Any], name: str) -> list[tuple[ColumnElement[bool], str]]:
    """Return what is held of a service that is on, by its values."""
    if name not in services.YES_NO_COLUMNS:
        return [(column == 1, f"{name},")]
    return [(in_bytes(column, [value]), f"{item_of(name, value)},") for value in ("y", "Y")]


async def _suspend_again(store: AccountRepository, *where: ColumnElement[bool]) -> int:
    """Switch off logins that another program has switched on for suspended users."""
    m, columns = t.mailbox.c, {f"enable{name}": name for name in _names(store)}
    some_on = or_(*(_is_on(m[c], name) for c, name in columns.items()))
    wanted = select(m.username, m.settings, *(m[column] for column in columns))
    rows = await store.rows(wanted.where(*where, some_on))
    off = {column: service_value(name, on=False) for column, name in columns.items()}
    for row in rows:
        settings = account_settings.parse(row["settings"])
        key = HELD if HELD in settings else HELD_BY_DOMAIN
        on = {name: item_of(name, row[c]) for c, name in columns.items() if is_on(row[c])}
        held = suspension.items_of(settings.get(key) or "")
        kept = {item for item in held if item.partition("=")[0] not in on}
        waiting = suspension.text_of(kept.union(on.values()))
        text = account_settings.replaced(row["settings"], {key: waiting})
        values = {"settings": text, "modified": now()}
        values |= {c: off[c] for c, name in columns.items() if name in on}
        await store.update(t.mailbox, values, m.username == row["username"])
    return len(rows)


async def resume(store: AccountRepository, domain: str) -> bool:
    """Switch on what ``suspend`` switched off; return whether there was anything.

    One statement for each set of services that users had.
    """
    m, there = t.mailbox.c, _names(store)
    own = m.domain.in_(await store.domain_names(m.domain, domain))
    marked = _settings().contains(f"{HELD_BY_DOMAIN}:", autoescape=True)
    found = set()
    for text in await store.column(select(m.settings).where(own, marked).distinct()):
        settings = account_settings.parse(text)
        if (value := settings.get(HELD_BY_DOMAIN)) is None:
            continue
        found.add(value)
        if f"{HELD_BY_DOMAIN}:{value};" not in text:
            # Another program has written it with blanks, or without the last semicolon.
            again = account_settings.render(settings)
            await store.update(t.mailbox, {"settings": again}, own, m.settings == text)
    for value in sorted(found):
        key = f"{HELD_BY_DOMAIN}:{value};"
        items = suspension.items_of(value)
        on = suspension.names_of(value).intersection(there)
        values: dict[str, Any] = {
            f"enable{name}": service_value(name, on=True, exact=items) for name in on
        }
        rest: ColumnElement[Any] = func.replace(m.settings, key, "")
        if NO_SETTINGS in items:
            rest = func.nullif(rest, "")
        await store.run(
            update(t.mailbox)
            .where(own, _settings().contains(key, autoescape=True))
            .values(values | {"settings": rest, "modified": now()})
        )
    return bool(found)
