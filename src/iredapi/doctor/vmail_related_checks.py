"""Checks of the rows of ``vmail`` that belong to accounts: BCC, relays, usage, rights."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, and_, func, literal, or_

from iredapi.backends.sql import tables as t
from iredapi.config.settings import Settings
from iredapi.database.dialect import domain_of
from iredapi.doctor.probes import (
    Delete,
    DeleteNamed,
    Probe,
    compute_columns,
    insert_into,
    set_columns,
)
from iredapi.doctor.repair_values import relay_with_prefix
from iredapi.doctor.vmail_conditions import hosted, is_address, is_gone, is_in, is_user
from iredapi.doctor.vmail_probes import VmailProbes, shared_folder_probes
from iredapi.domain import transports


def sender_probes(make: VmailProbes, settings: Settings) -> Iterator[Probe]:
    """Return the probes of BCC addresses and relay hosts."""
    for table in (t.sender_bcc_user, t.recipient_bcc_user):
        c, name = table.c, literal(table.name)
        yield from make.probe(
            "BCC_WITHOUT_ACCOUNT", table, c.username,
            or_(~hosted(domain_of(c.username)), ~is_address(c.username)),
            detail=name, fix=Delete,
        )  # fmt: skip
        yield from make.probe(
            "BCC_DOMAIN_WRONG", table, c.username, c.domain != domain_of(c.username),
            detail=name, extra=(domain_of(c.username).label("right"),),
            fix=compute_columns(lambda row: {"domain": row["right"]}),
        )  # fmt: skip
    for table in (t.sender_bcc_domain, t.recipient_bcc_domain):
        c, name = table.c, literal(table.name)
        yield from make.probe(
            "BCC_WITHOUT_ACCOUNT", table, c.domain, ~hosted(c.domain), detail=name, fix=Delete
        )
        yield from make.probe(
            "BCC_INACTIVE_BUT_USED", table, c.domain, c.active == 0, detail=name, fix=Delete
        )
    r = t.sender_relayhost.c
    yield from make.probe(
        "RELAY_EMPTY", t.sender_relayhost, r.account, r.relayhost == "", fix=Delete
    )
    if not settings.relay_keep_prefix:
        prefixed = or_(*(r.relayhost.like(f"{name}:%") for name in ("smtp", "relay", "lmtp")))
        yield from make.probe(
            "RELAY_WITH_PREFIX", t.sender_relayhost, r.account, prefixed,
            extra=(r.relayhost,), judge=relay_with_prefix,
            fix=compute_columns(
                lambda row: {"relayhost": transports.outbound_relay(row["relayhost"])}
            ),
        )  # fmt: skip
    yield from make.probe(
        "RELAY_WITHOUT_ACCOUNT", t.sender_relayhost, r.account, ~r.account.like("@%"),
        is_gone(r.account), detail=r.relayhost, fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "RELAY_OF_ALIAS", t.sender_relayhost, r.account,
        or_(is_in(t.alias, "address", r.account), is_in(t.maillists, "address", r.account)),
        ~is_user(r.account), detail=r.relayhost, fix=DeleteNamed,
    )  # fmt: skip


def leftover_probes(make: VmailProbes, quota_table: Table) -> Iterator[Probe]:
    """Return the probes of rows that outlived their user, alias or list."""
    for table in (quota_table, t.last_login):
        yield from make.probe(
            "USAGE_WITHOUT_USER", table, table.c.username, ~is_user(table.c.username),
            detail=literal(table.name), fix=Delete,
        )  # fmt: skip
    s, a = t.share_folder.c, t.anyone_shares.c
    yield from make.probe(
        "SHARE_WITHOUT_USER", t.share_folder, s.from_user,
        or_(~is_user(s.from_user), ~is_user(s.to_user)),
        detail=make.joined("to ", s.to_user), fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "SHARE_WITHOUT_USER", t.anyone_shares, a.from_user, ~is_user(a.from_user),
        detail=literal("to anyone"), fix=Delete,
    )  # fmt: skip
    yield from shared_folder_probes(make.schema, "vmail")
    for table, who in ((t.moderators, "moderator"), (t.maillist_owners, "owner")):
        c = table.c
        whom = make.joined(f"{who} ", c[who])
        group = or_(is_in(t.alias, "address", c.address), is_in(t.maillists, "address", c.address))
        yield from make.probe(
            "MODERATOR_WITHOUT_LIST", table, c.address, ~group, detail=whom, fix=Delete
        )
        yield from make.probe(
            "MODERATOR_GONE", table, c.address, ~c[who].like("*%"), is_gone(c[who]),
            # mlmmjadmin makes postmaster@ the first owner, whether that account exists or not.
            ~c[who].like("postmaster@%"),
            detail=whom, fix=Delete,
        )  # fmt: skip


def admin_probes(make: VmailProbes) -> Iterator[Probe]:
    """Return the probes of admins and their rights."""
    d, m, a = t.domain_admins.c, t.mailbox.c, t.admin.c
    manages = make.joined("manages ", d.domain)
    standalone = is_in(t.admin, "username", d.username)
    yield from make.probe(
        "ADMIN_WITHOUT_ACCOUNT", t.domain_admins, d.username, ~standalone,
        ~is_user(d.username), detail=manages, fix=Delete,
    )  # fmt: skip
    yield from make.probe(
        "ADMIN_OF_NO_DOMAIN", t.domain_admins, d.username, d.domain != "ALL",
        ~hosted(d.domain), detail=manages, fix=Delete,
    )  # fmt: skip
    has_all = is_in(t.domain_admins, "username", m.username, lambda c: c.domain == "ALL")
    yield from make.probe(
        "GLOBAL_MARK_WITHOUT_ALL", t.mailbox, m.username, m.isglobaladmin == 1, ~has_all,
        fix=insert_into(t.domain_admins, lambda row: {"username": row["subject"], "domain": "ALL"}),
    )  # fmt: skip
    yield from make.probe(
        "ALL_WITHOUT_GLOBAL_MARK", t.domain_admins, d.username, d.domain == "ALL", ~standalone,
        is_in(t.mailbox, "username", d.username, lambda c: c.isglobaladmin == 0),
    )  # fmt: skip
    manages_any = is_in(t.domain_admins, "username", m.username)
    yield from make.probe(
        "ADMIN_MARK_WITHOUT_DOMAIN", t.mailbox, m.username, m.isadmin == 1,
        m.isglobaladmin == 0, ~manages_any, fix=set_columns(isadmin=0),
    )  # fmt: skip
    unmarked = is_in(
        t.mailbox, "username", d.username,
        lambda c: and_(c.isadmin == 0, c.isglobaladmin == 0),
    )  # fmt: skip
    yield from make.probe(
        "DOMAIN_WITHOUT_ADMIN_MARK", t.domain_admins, d.username, d.domain != "ALL",
        hosted(d.domain), ~standalone, unmarked, detail=manages,
    )  # fmt: skip
    name = domain_of(a.username)
    yield from make.probe(
        "ADMIN_IN_HOSTED_DOMAIN", t.admin, a.username,
        or_(hosted(name), is_in(t.alias_domain, "alias_domain", name)),
    )  # fmt: skip
    may_create = func.coalesce(a.settings, "").contains("create_new_domains")
    yield from make.probe(
        "ADMIN_WITHOUT_RIGHTS", t.admin, a.username, ~may_create,
        ~is_in(t.domain_admins, "username", a.username),
    )  # fmt: skip
