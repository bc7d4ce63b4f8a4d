"""Checks of users, aliases and mailing lists in ``vmail``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from sqlalchemy import and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.sql import tables as t
from iredapi.config.settings import Settings
from iredapi.database.dialect import domain_of
from iredapi.doctor.mailbox_queue import Owners, QueuedMailboxes
from iredapi.doctor.password_checks import WrongPassword, judge_admin, judge_user, with_scheme
from iredapi.doctor.probes import Judge, Probe, Row, SqlProbe, compute_columns, set_columns
from iredapi.doctor.repair_values import (
    INTERNAL_SERVICES,
    refused_name,
    sogo_switch,
)
from iredapi.doctor.vmail_conditions import hosted, is_account, is_in
from iredapi.doctor.vmail_probes import VmailProbes
from iredapi.domain.password_readers import PasswordReader

_USUAL = ("{SSHA512}%", "{SSHA}%", "{BLF-CRYPT}%", "{CRYPT}$2%", "{CRYPT}$6$%", "{PBKDF2}%")
"""Passwords that every Dovecot takes: they are not read."""


def account_probes(make: VmailProbes, settings: Settings) -> Iterator[Probe]:
    """Return the probes of users, aliases and mailing lists."""
    m = t.mailbox.c
    for table, column in (
        (t.mailbox, m.username),
        (t.alias, t.alias.c.address),
        (t.maillists, t.maillists.c.address),
    ):
        here = hosted(domain_of(column))
        yield from make.probe(
            "ACCOUNT_WITHOUT_DOMAIN", table, column, ~here, detail=literal(table.name)
        )
        yield from make.probe(
            "ACCOUNT_DOMAIN_WRONG", table, column, here,
            table.c.domain != domain_of(column), detail=table.c.domain,
            extra=(domain_of(column).label("right"),),
            fix=compute_columns(lambda row: {"domain": row["right"]}),
        )  # fmt: skip
    yield from _address_twice(make)
    yield _mailbox_shared(make)
    yield QueuedMailboxes("vmail", _mailbox_owners(make))
    yield from make.probe(
        "LOGIN_NETWORKS_EMPTY", t.mailbox, m.username, m.allow_nets == "",
        fix=set_columns(allow_nets=None),
    )  # fmt: skip
    yield from make.probe(
        "USER_NAME_REFUSED", t.mailbox, m.username,
        judge=lambda row: refused_name(row["subject"], settings),
    )  # fmt: skip
    for name in t.SOGO_COLUMNS:
        if make.schema.has(t.mailbox, name):
            column = t.mailbox.c[name]
            yield from make.probe(
                "SOGO_SWITCH_NUMERIC", t.mailbox, m.username, column.in_(["0", "1"]),
                detail=literal(name), extra=(column.label("switch"),),
                fix=compute_columns(sogo_switch(name)),
            )  # fmt: skip
    yield from _passwords(make, settings.password_reader)
    if settings.dovecot_release != "2.3":
        unless = "" if settings.dovecot_release else "if Dovecot is 2.4"
        relayed = is_in(
            t.domain, "domain", m.domain, lambda c: and_(c.backupmx == 1, c.active == 1)
        )
        yield from make.probe(
            "BACKUP_MX_USER", t.mailbox, m.username, m.active == 1, relayed, detail=literal(unless)
        )
    switches = [f"enable{name}" for name in INTERNAL_SERVICES]
    there = [m[name] == 0 for name in switches if make.schema.has(t.mailbox, name)]
    yield from make.probe("INTERNAL_SERVICE_OFF", t.mailbox, m.username, or_(*there), m.active == 1)
    yield from make.probe(
        "LIST_WITHOUT_ID", t.maillists, t.maillists.c.address, t.maillists.c.mlid == ""
    )


def _passwords(make: VmailProbes, reader: PasswordReader) -> Iterator[Probe]:
    def user(stored: str) -> Iterable[WrongPassword]:
        return judge_user(stored, reader)

    def admin(stored: str) -> Iterable[WrongPassword]:
        return judge_admin(stored, slapd=False)

    repaired = compute_columns(lambda row: {"password": with_scheme(row["password"])})
    for table, judged, codes in (
        (t.mailbox, user, ("PASSWORD_BARE_CRYPT", "PASSWORD_BARE_ON_23")),
        (t.admin, admin, ("ADMIN_PASSWORD_BARE",)),
    ):
        password = table.c.password
        bare = or_(~password.like("{%}%"), password.like("{BCRYPT}%"))
        rows = (table, table.c.username)
        for code in codes:
            yield from make.probe(
                code, *rows, bare, extra=(password,), judge=_judge(code, judged), fix=repaired
            )
        for code, where in (
            ("PASSWORD_WITHOUT_SCHEME", bare),
            ("PASSWORD_REFUSED_BY_DOVECOT", ~or_(*map(password.like, _USUAL))),
        ):
            judge = _judge(code, judged)
            yield from make.probe(code, *rows, where, extra=(password,), judge=judge)


def _judge(code: str, judged: Callable[[str], Iterable[WrongPassword]]) -> Judge:
    """Return a judge that finds one code in a password."""

    def judge(row: Row) -> str | None:
        return next((item.detail for item in judged(row["password"]) if item.code == code), None)

    return judge


def _address_twice(make: VmailProbes) -> Iterator[Probe]:
    a, ml, f = t.alias.c, t.maillists.c, t.forwardings.c
    for table, column, others in (
        (t.alias, a.address, [(t.mailbox, "username")]),
        (t.maillists, ml.address, [(t.mailbox, "username"), (t.alias, "address")]),
    ):
        for other, name in others:
            yield from make.probe(
                "ADDRESS_TWICE", table, column, is_in(other, name, column),
                detail=literal(f"{other.name} and {table.name}"),
            )  # fmt: skip
    yield from make.probe(
        "ADDRESS_TWICE", t.forwardings, f.address, f.is_alias == 1, is_account(f.address),
        detail=make.joined("alias address of ", f.forwarding),
    )  # fmt: skip
    smaller = is_in(
        t.forwardings, "address", f.address,
        lambda c: and_(c.is_alias == 1, c.forwarding < f.forwarding),
    )  # fmt: skip
    yield from make.probe(
        "ALIAS_ADDRESS_SHARED", t.forwardings, f.address, f.is_alias == 1, smaller,
        detail=f.forwarding,
    )  # fmt: skip


def _mailbox_shared(make: VmailProbes) -> SqlProbe:
    m, path = t.mailbox.c, make.mailbox_path()
    statement = (
        select(func.min(m.username).label("subject"), func.max(m.username).label("detail"))
        .where(m.maildir != "")
        .group_by(path)
        .having(func.count() > 1)
    )
    return SqlProbe("MAILBOX_SHARED", "vmail", statement, (path,))


def _mailbox_owners(make: VmailProbes) -> Owners:
    path = make.mailbox_path()

    async def owners(connection: AsyncConnection, paths: Collection[str]) -> dict[str, str]:
        found = await connection.execute(
            select(path.label("path"), t.mailbox.c.username).where(path.in_(paths))
        )
        return {row.path: row.username for row in found}

    return owners
