"""Checks of domains and alias domains in ``vmail``, and of spellings that all tables share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, func, literal, or_

from iredapi.backends.sql import tables as t
from iredapi.config.settings import Settings
from iredapi.database.dialect import domain_of
from iredapi.doctor.probes import Delete, Probe, compute_columns, set_columns
from iredapi.doctor.repair_values import bracketed, transport_with_bare_address, unreadable_setting
from iredapi.doctor.vmail_conditions import hosted, is_in
from iredapi.doctor.vmail_probes import VmailProbes
from iredapi.domain import transports


def domain_probes(make: VmailProbes, settings: Settings) -> Iterator[Probe]:
    """Return the probes of domains and alias domains, and of texts that all tables have."""
    d, a = t.domain.c, t.alias_domain.c
    for table, column in (
        (t.domain, d.domain), (t.alias_domain, a.alias_domain),
        (t.mailbox, t.mailbox.c.username), (t.alias, t.alias.c.address),
        (t.maillists, t.maillists.c.address), (t.forwardings, t.forwardings.c.address),
        (t.forwardings, t.forwardings.c.forwarding), (t.admin, t.admin.c.username),
    ):  # fmt: skip
        detail = literal(f"{table.name}.{column.name}")
        upper = and_(make.has_upper(column), *_lower_enough(column))
        yield from make.probe("NOT_LOWER_CASE", table, column, upper, detail=detail)
    yield from make.probe(
        "ALIAS_DOMAIN_IS_DOMAIN", t.alias_domain, a.alias_domain, hosted(a.alias_domain),
        detail=a.target_domain,
    )  # fmt: skip
    other = is_in(t.alias_domain, "alias_domain", a.target_domain)
    lost = ~hosted(a.target_domain)
    yield from make.probe(
        "ALIAS_DOMAIN_OF_ALIAS_DOMAIN", t.alias_domain, a.alias_domain, lost, other,
        detail=a.target_domain,
    )  # fmt: skip
    yield from make.probe(
        "ALIAS_DOMAIN_WITHOUT_TARGET", t.alias_domain, a.alias_domain, lost, ~other,
        detail=a.target_domain, fix=Delete,
    )  # fmt: skip
    default = settings.default_transport
    yield from make.probe(
        "TRANSPORT_EMPTY", t.domain, d.domain, d.transport == "", d.backupmx == 0,
        fix=set_columns(transport=default),
    )  # fmt: skip
    over_network = or_(*(d.transport.like(f"{name}:%") for name in ("relay", "smtp", "lmtp")))
    yield from make.probe(
        "TRANSPORT_BARE_ADDRESS", t.domain, d.domain, over_network, extra=(d.transport,),
        judge=transport_with_bare_address,
        fix=compute_columns(lambda row: {"transport": bracketed(row["transport"])}),
    )  # fmt: skip
    yield from make.probe(
        "BACKUP_MX_DELIVERS_HERE", t.domain, d.domain, d.backupmx == 1,
        d.transport.in_(["", *sorted(transports.LOCAL)]), detail=d.transport,
    )  # fmt: skip
    for table, column in (
        (t.domain, d.domain),
        (t.admin, t.admin.c.username),
        (t.mailbox, t.mailbox.c.username),
    ):
        stored = table.c.settings
        yield from make.probe(
            "SETTINGS_UNREADABLE", table, column, stored != "", extra=(stored,),
            judge=lambda row: unreadable_setting(row["settings"]),
        )  # fmt: skip


def _lower_enough(column: Column[Any]) -> tuple[ColumnElement[bool], ...]:
    # Mail to other servers keeps the case of its destination, which may matter there.
    if column is t.forwardings.c.forwarding:
        return (hosted(func.lower(domain_of(column))),)
    return ()
