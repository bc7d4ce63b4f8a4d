"""Checks of ``amavisd``, ``iredapd`` and ``iredadmin``, for accounts in SQL and in LDAP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    String,
    Table,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.policies import tables as t
from iredapi.backends.sql import tables as accounts
from iredapi.database.live_schema import Schema
from iredapi.doctor.mailbox_queue import Owners, QueuedMailboxes
from iredapi.doctor.orphaned_rows import Directory, OrphanedRows, WiderSettings, scope_of
from iredapi.doctor.probes import (
    Delete,
    DeleteNamed,
    Probe,
    Row,
    SqlProbe,
    Update,
    having_keys,
)
from iredapi.doctor.vmail_probes import date_probes, shared_folder_probes
from iredapi.domain import sender_patterns
from iredapi.domain.addresses import InvalidAddress
from iredapi.domain.greylists import derived_comment

_MAIL_KINDS = ("virus", "spam", "banned", "bad_header")
_LOVERS = {"banned": "banned_files_lover"}
_LONGEST_EXPIRE = 30 * 86400
"""Seconds; iRedAdmin's hourly job removes proofs of ownership with a larger ``expire``."""


def user_data_probes(
    schema: Schema, quota: Table, directory: Directory, owners: Owners
) -> Iterator[Probe]:
    """Return the probes of the mail users' data in ``iredadmin`` when accounts are in LDAP.

    ``quota`` is the table ``used_quota``, under the name that the settings give it.
    """
    s, a = accounts.share_folder, accounts.anyone_shares
    for code, table, column in (
        ("USAGE_WITHOUT_USER", quota, quota.c.username),
        ("USAGE_WITHOUT_USER", accounts.last_login, accounts.last_login.c.username),
        ("SHARE_WITHOUT_USER", s, s.c.from_user),
        ("SHARE_WITHOUT_USER", s, s.c.to_user),
        ("SHARE_WITHOUT_USER", a, a.c.from_user),
    ):
        if schema.has(table):
            yield OrphanedRows(code, "iredadmin", table, column, directory)
    yield from shared_folder_probes(schema, "iredadmin")
    if schema.has(accounts.deleted_mailboxes):
        yield QueuedMailboxes("iredadmin", owners)
        yield from date_probes(schema, accounts.deleted_mailboxes, "iredadmin")


class OuterJoinProbe(SqlProbe):
    """A probe of an outer join; PostgreSQL cannot lock one, so its repair reads without a lock."""

    async def repair(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """See ``Probe``."""
        statement = self._keyed().where(having_keys(self.key, rows))
        found = [dict(row) for row in (await connection.execute(statement)).mappings()]
        if found and self.fix is not None:
            await self.fix.apply(connection, found)
        return list(found)


def policy_probes(name: str, schema: Schema, directory: Directory) -> Iterator[Probe]:
    """Return the probes of ``amavisd``, ``iredapd`` or ``iredadmin``."""
    yield from {"amavisd": _amavisd, "iredapd": _iredapd, "iredadmin": _iredadmin}[name](
        schema, directory
    )


def _priority(database: str, table: Table, account: Any, column: str, scale: Any) -> SqlProbe:
    """Return a probe for rows whose priority is not the one of their kind of account."""

    def right(row: Row) -> int | None:
        found: int | None = scale(row["subject"])
        return found

    def judge(row: Row) -> str | None:
        wanted = right(row)
        if wanted is None or row["priority"] == wanted:
            return None
        return f"{table.name}.{column} {row['priority']}, not {wanted}"

    key = (table.c.id,)
    return SqlProbe(
        "PRIORITY_WRONG",
        database,
        select(account.label("subject"), table.c[column].label("priority")),
        key,
        Update(table, key, computed=lambda row: {column: right(row)}),
        judge,
    )


def _amavisd_priority(account: str) -> int | None:
    scope = scope_of(account)
    return None if scope is None else scope.amavisd_priority


def _iredapd_priority(account: str) -> int | None:
    scope = scope_of(account)
    return None if scope is None else scope.iredapd_priority


def _amavisd_sender_priority(address: str) -> int | None:
    try:
        return sender_patterns.priority_amavisd(address)
    except InvalidAddress:
        return None


def _not_lower(database: str, table: Table, column: Any) -> SqlProbe:
    def judge(row: Row) -> str | None:
        return table.name if row["subject"] != row["subject"].lower() else None

    return SqlProbe(
        "POLICY_NOT_LOWER_CASE", database, select(column.label("subject")), (table.c.id,),
        judge=judge,
    )  # fmt: skip


def _amavisd(_schema: Schema, directory: Directory) -> Iterator[Probe]:
    u, p = t.users.c, t.policy.c
    yield _not_lower("amavisd", t.users, u.email)
    yield OrphanedRows("POLICY_WITHOUT_ACCOUNT", "amavisd", t.users, u.email, directory)
    yield OrphanedRows(
        "POLICY_WITHOUT_ACCOUNT", "amavisd", t.policy, p.policy_name, directory,
        p.policy_name.is_not(None),
    )  # fmt: skip
    yield WiderSettings("WIDER_SETTING", "amavisd", t.users, u.email, directory)
    yield _priority("amavisd", t.users, u.email, "priority", _amavisd_priority)
    yield _priority("amavisd", t.mailaddr, t.mailaddr.c.email, "priority", _amavisd_sender_priority)
    key = (u.id,)
    tied = t.users.join(t.policy, p.id == u.policy_id)
    columns = (u.email.label("subject"), p.policy_name.label("policy"))
    yield SqlProbe(
        "POLICY_OF_EVERYBODY", "amavisd",
        select(*columns).select_from(tied).where(p.policy_name == "@."), key,
        Update(t.users, key, {"policy_id": 0}),
        lambda row: "" if row["subject"] != "@." else None,
    )  # fmt: skip
    yield SqlProbe(
        "POLICY_OF_ANOTHER", "amavisd",
        select(*columns).select_from(tied).where(p.policy_name.is_not(None)), key,
        judge=lambda row: (
            f"policy of {row['policy']}"
            if row["policy"] not in ("@.", "") and row["policy"].lower() != row["subject"].lower()
            else None
        ),
    )  # fmt: skip
    yield OuterJoinProbe(
        "POLICY_MISSING", "amavisd",
        select(u.email.label("subject")).select_from(
            t.users.outerjoin(t.policy, p.id == u.policy_id)
        ).where(u.policy_id != 0, p.id.is_(None)),
        key, Update(t.users, key, {"policy_id": 0}),
    )  # fmt: skip
    loses = or_(
        *(
            and_(
                p[_LOVERS.get(kind, f"{kind}_lover")] == "N",
                p[f"{kind}_quarantine_to"] == "",
            )
            for kind in _MAIL_KINDS
        )
    )
    yield SqlProbe(
        "POLICY_LOSES_MAIL", "amavisd",
        select(func.coalesce(p.policy_name, cast(p.id, String(20))).label("subject")).where(loses),
        (p.id,),
    )  # fmt: skip
    for table, account, remote in (
        (t.wblist, t.wblist.c.rid, t.wblist.c.sid),
        (t.outbound_wblist, t.outbound_wblist.c.sid, t.outbound_wblist.c.rid),
    ):
        pair = (table.c.rid, table.c.sid)
        without = (
            table.outerjoin(t.users, u.id == account)
            .outerjoin(t.mailaddr, t.mailaddr.c.id == remote)
        )  # fmt: skip
        dangling = (
            select(cast(account, String(20)).label("subject"), literal(table.name).label("detail"))
            .select_from(without)
            .where(or_(u.id.is_(None), t.mailaddr.c.id.is_(None)))
        )
        yield OuterJoinProbe("WBLIST_DANGLING", "amavisd", dangling, pair, Delete(table, pair))


def _iredapd(_schema: Schema, directory: Directory) -> Iterator[Probe]:
    th, g, w = t.throttle.c, t.greylisting.c, t.greylisting_whitelists.c
    yield _not_lower("iredapd", t.throttle, th.account)
    yield _not_lower("iredapd", t.greylisting, g.account)
    yield OrphanedRows("THROTTLE_WITHOUT_ACCOUNT", "iredapd", t.throttle, th.account, directory)
    for table, column in ((t.greylisting, g.account), (t.greylisting_whitelists, w.account)):
        yield OrphanedRows("GREYLISTING_WITHOUT_ACCOUNT", "iredapd", table, column, directory)
    for table, column in (
        (t.throttle, th.account), (t.greylisting, g.account), (t.greylisting_whitelists, w.account)
    ):  # fmt: skip
        yield WiderSettings("WIDER_SETTING", "iredapd", table, column, directory)
    yield SqlProbe(
        "GREYLISTING_OF_SENDER", "iredapd",
        select(g.account.label("subject"), g.sender.label("detail")).where(
            g.sender != sender_patterns.EVERYBODY
        ),
        (g.id,), DeleteNamed(t.greylisting, (g.id,)),
    )  # fmt: skip
    yield _priority("iredapd", t.throttle, th.account, "priority", _iredapd_priority)
    yield _priority("iredapd", t.greylisting, g.account, "priority", _iredapd_priority)
    other = t.throttle.alias()
    yield SqlProbe(
        "THROTTLE_TWICE", "iredapd",
        select(th.account.label("subject"), th.kind.label("detail")).where(
            select(other.c.id)
            .where(other.c.account == th.account, other.c.kind == th.kind, other.c.id < th.id)
            .exists()
        ),
        (th.id,),
    )  # fmt: skip
    yield SqlProbe(
        "THROTTLE_WITHOUT_PERIOD", "iredapd",
        select(th.account.label("subject"), th.kind.label("detail")).where(th.period == 0),
        (th.id,),
    )  # fmt: skip
    s, d = t.greylisting_whitelist_domain_spf.c, t.greylisting_whitelist_domains.c
    mark = derived_comment("")
    listed = select(d.domain).where(d.domain == func.substr(s.comment, len(mark) + 1)).exists()
    yield SqlProbe(
        "SPF_ROW_WITHOUT_DOMAIN", "iredapd",
        select(s.sender.label("subject"), s.comment.label("detail")).where(
            s.comment.like(f"{mark}%"), ~listed
        ),
        (s.id,), Delete(t.greylisting_whitelist_domain_spf, (s.id,)),
    )  # fmt: skip


def _iredadmin(schema: Schema, directory: Directory) -> Iterator[Probe]:
    if schema.has(t.settings):
        yield OrphanedRows(
            "PANEL_SETTING_WITHOUT_ACCOUNT", "iredadmin", t.settings, t.settings.c.account,
            directory,
        )  # fmt: skip
    if schema.has(t.domain_ownership):
        o = t.domain_ownership.c
        yield SqlProbe(
            "OWNERSHIP_EXPIRES_AT_ONCE", "iredadmin",
            select(o.domain.label("subject"), o.admin.label("detail")).where(
                o.expire > _LONGEST_EXPIRE, o.verified == 0
            ),
            (o.id,), Update(t.domain_ownership, (o.id,), {"expire": 0}),
        )  # fmt: skip
