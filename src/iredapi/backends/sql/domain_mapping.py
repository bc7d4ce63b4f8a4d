"""Mapping between rows of ``domain`` and records of domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.sql import domain_related_rows
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows
from iredapi.domain import account_settings
from iredapi.domain.domains import Domain

COLUMNS = {
    "description": "description",
    "quota": "maxquota",
    "users": "mailboxes",
    "aliases": "aliases",
    "lists": "maillists",
    "transport": "transport",
}
"""The columns of the fields of a domain's record."""


def record_columns() -> list[ColumnElement[Any]]:
    """Return the columns that ``record`` reads; the name is the first one."""
    d = t.domain.c
    return [
        d.domain, d.description, d.active, d.maxquota, d.mailboxes, d.aliases, d.maillists,
        d.transport, d.backupmx, d.settings,
    ]  # fmt: skip


def own_row() -> Select[Any]:
    """Select ``record_columns`` of the domain ``:name``."""
    return select(*record_columns()).where(t.domain.c.domain == domain_related_rows.name())


def record(row: Mapping[str, Any], related_rows: RelatedRows) -> Domain:
    """Return the record of a domain: its row and its related rows, as far as they were read."""
    name = row["domain"]
    related: dict[str, Any] = {}
    if related_rows:
        related = {
            "sender_bcc": related_rows.text(name, "sender_bcc"),
            "recipient_bcc": related_rows.text(name, "recipient_bcc"),
            "outbound_relay": related_rows.text("@" + name, "relay"),
            "alias_relay": related_rows.text(name, "relay_alias"),
            "catchall": frozenset(domain_related_rows.catchall(related_rows, name)),
            "dead_catchall": frozenset(domain_related_rows.dead_catchall(related_rows, name)),
            "alias_domains": frozenset(related_rows.texts(name, "alias_domain")),
            "inactive_alias_domains": frozenset(related_rows.inactive_texts(name, "alias_domain")),
        }
    return Domain(
        name=name,
        description=row["description"] or "",
        active=row["active"] == 1,
        quota=int(row["maxquota"]),
        users=int(row["mailboxes"]),
        aliases=int(row["aliases"]),
        lists=int(row["maillists"]),
        transport=row["transport"],
        backupmx=row["backupmx"] == 1,
        settings=account_settings.parse(row["settings"]),
        stored_settings=row["settings"] or "",
        **related,
    )
