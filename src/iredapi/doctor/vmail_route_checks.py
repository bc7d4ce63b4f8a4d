"""Checks of ``forwardings``, the rows that Postfix delivers by."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, exists, func, or_, select

from iredapi.backends.sql import tables as t
from iredapi.database.dialect import domain_of
from iredapi.doctor.probes import (
    Delete,
    DeleteNamed,
    Probe,
    compute_columns,
    insert_into,
    set_columns,
)
from iredapi.doctor.vmail_conditions import hosted, is_account, is_gone, is_in, is_user, own_domain
from iredapi.doctor.vmail_probes import VmailProbes
from iredapi.domain import lists


def dead_route_probes(make: VmailProbes) -> Iterator[Probe]:
    """Return the probes of rows whose address, domain or destination is wrong."""
    f = t.forwardings.c
    own = own_domain(f.address)
    arrow = make.joined("to ", f.forwarding)
    yield from make.probe(
        "ROUTE_WITHOUT_DOMAIN", t.forwardings, f.address, own.is_(None), ~hosted(f.domain),
        detail=arrow, fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "ROUTE_OF_FOREIGN_ADDRESS", t.forwardings, f.address, own.is_(None), hosted(f.domain),
        detail=arrow,
    )  # fmt: skip
    yield from make.probe(
        "ROUTE_DOMAIN_WRONG", t.forwardings, f.address, own != f.domain,
        detail=make.joined("to ", f.forwarding, ", domain ", f.domain),
        extra=(own.label("right"),), fix=compute_columns(lambda row: {"domain": row["right"]}),
    )  # fmt: skip
    right = domain_of(f.forwarding)
    yield from make.probe(
        "ROUTE_DESTINATION_WRONG", t.forwardings, f.address, f.dest_domain != right,
        func.lower(f.dest_domain) != func.lower(right),
        detail=arrow, extra=(right.label("right"),),
        fix=compute_columns(lambda row: {"dest_domain": row["right"]}),
    )  # fmt: skip
    no_kind = and_(
        *(f[name] == 0 for name in ("is_alias", "is_list", "is_forwarding", "is_maillist"))
    )
    with_at = f.address.contains("@")
    yield from make.probe(
        "ROUTE_WITHOUT_KIND", t.forwardings, f.address, no_kind, with_at, detail=arrow,
        fix=DeleteNamed,
    )  # fmt: skip
    not_user = and_(f.is_forwarding == 1, with_at, ~is_user(f.address))
    yield from make.probe(
        "SELF_ROUTE_WITHOUT_ACCOUNT", t.forwardings, f.address,
        f.address == f.forwarding, ~is_account(f.address),
        or_(f.is_forwarding == 1, f.is_maillist == 1), fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "FORWARDING_WITHOUT_USER", t.forwardings, f.address, not_user,
        f.address != f.forwarding, detail=arrow, fix=DeleteNamed,
    )  # fmt: skip
    yield from make.probe(
        "MEMBERS_WITHOUT_ALIAS", t.forwardings, f.address, f.is_list == 1,
        ~is_in(t.alias, "address", f.address), f.address != f.forwarding, detail=arrow,
        fix=DeleteNamed,
    )  # fmt: skip
    yield from make.probe(
        "ALIAS_ADDRESS_WITHOUT_USER", t.forwardings, f.address, f.is_alias == 1,
        ~is_account(f.forwarding), hosted(domain_of(f.forwarding)),
        detail=arrow, fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "ALIAS_OF_ITSELF", t.forwardings, f.address, f.is_list == 1,
        f.address == f.forwarding, ~is_user(f.address), fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "DEAD_DESTINATION", t.forwardings, f.address, f.address != f.forwarding,
        f.is_alias == 0, is_gone(f.forwarding, source=f.address), detail=arrow,
    )  # fmt: skip


def user_route_probes(make: VmailProbes) -> Iterator[Probe]:
    """Return the probes of the rows of users."""
    f, m = t.forwardings.c, t.mailbox.c
    yield from make.probe(
        "USER_WITHOUT_ROUTE", t.mailbox, m.username,
        ~is_in(t.forwardings, "address", m.username, lambda c: c.is_forwarding == 1),
        extra=(domain_of(m.username).label("right"), m.active),
        fix=insert_into(t.forwardings, lambda row: {
            "address": row["subject"],
            "forwarding": row["subject"],
            "domain": row["right"],
            "dest_domain": row["right"],
            "is_forwarding": 1,
            "active": row["active"],
        }),
    )  # fmt: skip
    disabled = or_(
        is_in(t.mailbox, "username", f.forwarding, lambda c: c.active != 1),
        and_(
            f.is_forwarding == 1,
            is_in(t.mailbox, "username", f.address, lambda c: c.active != 1),
        ),
    )
    yield from make.probe(
        "DISABLED_USER_ROUTED", t.forwardings, f.address, f.active == 1, disabled,
        detail=make.joined("to ", f.forwarding), fix=set_columns(active=0),
    )  # fmt: skip
    yield from make.probe(
        "ACTIVE_USER_NOT_ROUTED", t.forwardings, f.address, f.active == 0,
        f.is_forwarding == 1, f.address == f.forwarding,
        is_in(t.mailbox, "username", f.address, lambda c: c.active == 1),
        fix=set_columns(active=1),
    )  # fmt: skip


def group_route_probes(make: VmailProbes) -> Iterator[Probe]:
    """Return the probes of the rows of aliases and mailing lists."""
    f, ml = t.forwardings.c, t.maillists.c
    yield from make.probe(
        "LIST_WITHOUT_ROUTE", t.maillists, ml.address,
        ~is_in(t.forwardings, "address", ml.address, lambda c: c.forwarding == ml.address),
        extra=(domain_of(ml.address).label("right"), ml.active),
        fix=insert_into(t.forwardings, lambda row: {
            "address": row["subject"],
            "forwarding": row["subject"],
            "domain": row["right"],
            "dest_domain": row["right"],
            "is_maillist": 1,
            "active": row["active"],
        }),
    )  # fmt: skip
    if make.schema.has(t.maillists):
        closed = func.lower(t.maillists.c.accesspolicy).in_(sorted(lists.BY_IREDAPD))
        yield from make.probe(
            "LIST_ADDRESS_OPEN", t.forwardings, f.address, f.is_list == 0,
            f.is_forwarding == 0, f.address != f.forwarding, f.address.contains("@"),
            exists(select(ml.address).where(ml.address == f.forwarding, closed)),
            detail=f.forwarding,
        )  # fmt: skip
    if make.schema.has(t.moderators):
        a = t.alias.c
        yield from make.probe(
            "ALIAS_CLOSED", t.alias, a.address,
            func.lower(a.accesspolicy).in_(["moderatorsonly", "allowedonly"]),
            ~is_in(t.moderators, "address", a.address),
        )  # fmt: skip
    disabled_member = is_in(t.mailbox, "username", f.forwarding, lambda c: c.active != 1)
    for table, mark in ((t.alias, f.is_list), (t.maillists, f.is_maillist)):
        for active, code in ((1, "DISABLED_ALIAS_ROUTED"), (0, "ACTIVE_ALIAS_NOT_ROUTED")):
            yield from make.probe(
                code, t.forwardings, f.address, f.active == active, mark == 1,
                is_in(table, "address", f.address, lambda c, on=active: c.active != on),
                *(() if active else (~disabled_member,)),
                detail=make.joined("to ", f.forwarding), fix=set_columns(active=1 - active),
            )  # fmt: skip
