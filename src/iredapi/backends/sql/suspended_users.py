"""Suspend and resume all users of a domain with a number of statements that does not grow."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, select, update

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.user_mapping import HELD, HELD_BY_DOMAIN, service_value
from iredapi.database.column_types import MYSQL
from iredapi.database.repository import now
from iredapi.domain import account_settings, suspension


def _names(store: AccountRepository) -> list[str]:
    """Return the services for logins that have a column on this server."""
    logins = sorted(suspension.LOGINS)
    return [name for name in logins if store.schema.has(t.mailbox, f"enable{name}")]


def _settings() -> ColumnElement[str]:
    return func.coalesce(t.mailbox.c.settings, "")


async def suspend(store: AccountRepository, domain: str) -> bool:
    """Switch off logins of all users who are not suspended; return whether there were any.

    What was on is written in front of the user's settings.
    """
    m, names = t.mailbox.c, _names(store)
    parts: list[ColumnElement[Any]] = [literal(f"{HELD_BY_DOMAIN}:")]
    parts += [
        case((m[f"enable{name}"] == service_value(name, on=True), f"{name},"), else_="")
        for name in names
    ]
    parts += [literal("none;"), _settings()]
    whole: ColumnElement[Any] = parts[0]
    if store.dialect in MYSQL:
        whole = func.concat(*parts)
    else:
        for part in parts[1:]:
            whole = whole.concat(part)
    # MySQL assigns from left to right: the settings come first, while the services are still on.
    values: list[tuple[Any, Any]] = [(m.settings, whole)]
    values += [(m[f"enable{name}"], service_value(name, on=False)) for name in names]
    values.append((m.modified, now()))
    chosen = and_(
        m.domain.in_(await store.domain_names(m.domain, domain)),
        ~_settings().contains(f"{HELD}:", autoescape=True),
    )
    return bool(await store.run(update(t.mailbox).ordered_values(*values).where(chosen)))


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
        on = suspension.names_of(value).intersection(there)
        values: dict[str, Any] = {f"enable{name}": service_value(name, on=True) for name in on}
        await store.run(
            update(t.mailbox)
            .where(own, _settings().contains(key, autoescape=True))
            .values(values | {"settings": func.replace(m.settings, key, ""), "modified": now()})
        )
    return bool(found)
