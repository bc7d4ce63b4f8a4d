"""What can be wrong in ``vmail``: accounts, routes, and what hangs on them.

Every condition is one that a database can answer along an index; the details of each are in
``findings``. Rows of ``forwardings`` are what Postfix acts on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    ScalarSelect,
    String,
    Table,
    and_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from iredapi.backends.sql import tables as t
from iredapi.config.settings import Settings
from iredapi.database.column_types import MYSQL
from iredapi.database.datetimes import is_unknown
from iredapi.database.dialect import domain_of
from iredapi.database.live_schema import Schema
from iredapi.doctor.probes import Delete, Insert, Probe, Row, SqlProbe, Update
from iredapi.domain import lists, transports
from iredapi.domain.addresses import strange_characters

Owners = Callable[[AsyncConnection, Collection[str]], Awaitable[dict[str, str]]]
"""Whose mailboxes some directories are."""
_HASH = re.compile(r"\{[A-Za-z0-9.-]+\}.+", re.DOTALL)
_CRYPT = re.compile(r"\$(?:1|2[aby]|5|6|g?y|7)\$.+")
_INTERNAL: Final = ("internal", "doveadm", "lib-storage", "quota-status", "indexer-worker")


def hosted(name: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a name is a mail domain."""
    d = t.domain.alias()
    return exists(select(d.c.domain).where(d.c.domain == name))


def target(name: ColumnElement[Any]) -> ScalarSelect[Any]:
    """The mail domain that an alias domain stands for; NULL without one."""
    a, d = t.alias_domain.alias(), t.domain.alias()
    return (
        select(a.c.target_domain)
        .join(d, d.c.domain == a.c.target_domain)
        .where(a.c.alias_domain == name)
        .scalar_subquery()
    )


def own_domain(address: ColumnElement[Any]) -> ColumnElement[Any]:
    """The mail domain that an address belongs to; NULL when it is not of this server."""
    name, d = domain_of(address), t.domain.alias()
    found = select(d.c.domain).where(d.c.domain == name).scalar_subquery()
    return func.coalesce(found, target(name))


def _is_in(
    table: Table, column: str, value: ColumnElement[Any], *where: Any
) -> ColumnElement[bool]:
    other = table.alias()
    extra = [item(other.c) for item in where]
    return exists(select(other.c[column]).where(other.c[column] == value, *extra))


def is_user(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an address is a mail user."""
    return _is_in(t.mailbox, "username", address)


def is_account(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether an address is a user, an alias or a list."""
    return or_(
        is_user(address),
        _is_in(t.alias, "address", address),
        _is_in(t.maillists, "address", address),
    )


def is_address(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether mail to an address ends somewhere: an account, or a user's alias address."""
    return or_(
        is_account(address), _is_in(t.forwardings, "address", address, lambda c: c.is_alias == 1)
    )


def gone(
    address: ColumnElement[Any], *, source: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """Whether an address is in a hosted domain and does not exist there.

    An extension, a catch-all, or a backup MX, which knows no addresses, are the benefit of a doubt;
    not the catch-all that itself leads there (``source``).
    """
    d, f, name = t.domain.alias(), t.forwardings.alias(), domain_of(address)
    return and_(
        exists(select(d.c.domain).where(d.c.domain == name, d.c.backupmx == 0)),
        address.contains("@"),
        ~address.contains("+"),
        ~is_address(address),
        or_(
            ~exists(select(f.c.address).where(f.c.address == name)),
            *(() if source is None else (source == name,)),
        ),
    )


class _WithoutSlash(FunctionElement[str]):
    """A path without the slashes at its end."""

    name = "without_slash"
    type = String()
    inherit_cache = True


@compiles(_WithoutSlash)
def _rtrim(element: Any, compiler: Any, **kw: Any) -> str:
    return f"rtrim({compiler.process(element.clauses, **kw)}, '/')"


@compiles(_WithoutSlash, *MYSQL)
def _trim(element: Any, compiler: Any, **kw: Any) -> str:
    return f"TRIM(TRAILING '/' FROM {compiler.process(element.clauses, **kw)})"


def _tidy(path: ColumnElement[Any]) -> FunctionElement[str]:
    return _WithoutSlash(func.replace(func.lower(path), "//", "/"))


def _text(value: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(value, String(255))


class Vmail:
    """The probes of one account database, as far as it has the tables."""

    def __init__(
        self, schema: Schema, quota_table: Table, dialect: str, settings: Settings
    ) -> None:
        self._schema = schema
        self._quota_table = quota_table
        self._dialect = dialect
        self._settings = settings

    def probes(self) -> Iterator[Probe]:
        """Return all probes; repairs of earlier ones may mend what later ones would find."""
        for part in (
            self._domains, self._accounts, self._dead_routes, self._users_routes,
            self._groups_routes, self._side_rows, self._left_overs, self._admins,
            self._dates,
        ):  # fmt: skip
            yield from part()

    # -- making probes -----------------------------------------------------------------------------

    def _probe(
        self,
        code: str,
        table: Table,
        subject: ColumnElement[Any],
        *where: ColumnElement[bool],
        detail: ColumnElement[Any] | None = None,
        extra: tuple[ColumnElement[Any], ...] = (),
        source: FromClause | None = None,
        remove: bool = False,
        change: dict[str, Any] | None = None,
        compute: Callable[[Row], dict[str, Any]] | None = None,
        insert: Insert | None = None,
        judge: Callable[[Row], str | None] | None = None,
    ) -> Iterator[SqlProbe]:
        """Make a probe for rows of a table, which ``where`` selects, along its primary key."""
        if not self._schema.has(table):
            return
        key = tuple(table.primary_key.columns)
        if table is t.last_login:
            key = (table.c.username,)
        columns = [subject.label("subject"), *extra]
        if detail is not None:
            columns.append(_text(detail).label("detail"))
        statement = select(*columns).select_from(table if source is None else source)
        fix: Any = insert
        if remove:
            fix = Delete(table, key)
        elif change is not None or compute is not None:
            fix = Update(table, key, change or {}, compute)
        yield SqlProbe(code, "vmail", statement.where(*where), key, fix, judge)

    def _joined(self, *parts: Any) -> ColumnElement[str]:
        """Join texts."""
        texts = [
            cast(part, String(255)) if isinstance(part, ColumnElement) else literal(part)
            for part in parts
        ]
        joined: ColumnElement[str] = func.concat(*texts)
        if self._dialect not in MYSQL:
            joined = texts[0]
            for item in texts[1:]:
                joined = joined.concat(item)
        return joined

    def _has_upper(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        if self._dialect in MYSQL:
            # Its collation takes both for the same.
            return func.binary(column) != func.binary(func.lower(column))
        return column != func.lower(column)

    def _path(self) -> ColumnElement[str]:
        """The directory of a mailbox as Dovecot sees it: lower case, no slash at its end."""
        m = t.mailbox.c
        whole = self._joined(m.storagebasedirectory, "/", m.storagenode, "/", m.maildir)
        return _tidy(whole)

    # -- domains -----------------------------------------------------------------------------------

    def _domains(self) -> Iterator[Probe]:
        d, a = t.domain.c, t.alias_domain.c
        for table, column in (
            (t.domain, d.domain), (t.alias_domain, a.alias_domain),
            (t.mailbox, t.mailbox.c.username), (t.alias, t.alias.c.address),
            (t.maillists, t.maillists.c.address), (t.forwardings, t.forwardings.c.address),
            (t.forwardings, t.forwardings.c.forwarding), (t.admin, t.admin.c.username),
        ):  # fmt: skip
            detail = literal(f"{table.name}.{column.name}")
            shown = and_(self._has_upper(column), *self._lower_enough(column))
            yield from self._probe("NOT_LOWER_CASE", table, column, shown, detail=detail)
        yield from self._probe(
            "ALIAS_DOMAIN_IS_DOMAIN", t.alias_domain, a.alias_domain, hosted(a.alias_domain),
            detail=a.target_domain,
        )  # fmt: skip
        other = _is_in(t.alias_domain, "alias_domain", a.target_domain)
        lost = ~hosted(a.target_domain)
        yield from self._probe(
            "ALIAS_DOMAIN_OF_ALIAS_DOMAIN", t.alias_domain, a.alias_domain, lost, other,
            detail=a.target_domain,
        )  # fmt: skip
        yield from self._probe(
            "ALIAS_DOMAIN_WITHOUT_TARGET", t.alias_domain, a.alias_domain, lost, ~other,
            detail=a.target_domain, remove=True,
        )  # fmt: skip
        default = self._settings.default_transport
        yield from self._probe(
            "TRANSPORT_EMPTY", t.domain, d.domain, d.transport == "", d.backupmx == 0,
            change={"transport": default},
        )  # fmt: skip
        over_network = or_(*(d.transport.like(f"{name}:%") for name in ("relay", "smtp", "lmtp")))
        yield from self._probe(
            "TRANSPORT_BARE_ADDRESS", t.domain, d.domain, over_network, extra=(d.transport,),
            judge=_bare_address, compute=lambda row: {"transport": bracketed(row["transport"])},
        )  # fmt: skip
        yield from self._probe(
            "BACKUP_MX_DELIVERS_HERE", t.domain, d.domain, d.backupmx == 1,
            d.transport.in_(["", *sorted(transports.LOCAL)]), detail=d.transport,
        )  # fmt: skip
        for table, column in (
            (t.domain, d.domain),
            (t.admin, t.admin.c.username),
            (t.mailbox, t.mailbox.c.username),
        ):
            settings = table.c.settings
            yield from self._probe(
                "SETTINGS_UNREADABLE", table, column, settings != "", extra=(settings,),
                judge=lambda row: _unreadable(row["settings"]),
            )  # fmt: skip

    def _lower_enough(self, column: Column[Any]) -> tuple[ColumnElement[bool], ...]:
        # An extension of a stranger's address keeps its case.
        if column is t.forwardings.c.forwarding:
            return (hosted(func.lower(domain_of(column))),)
        return ()

    # -- accounts ----------------------------------------------------------------------------------

    def _accounts(self) -> Iterator[Probe]:
        m = t.mailbox.c
        for table, column in (
            (t.mailbox, m.username),
            (t.alias, t.alias.c.address),
            (t.maillists, t.maillists.c.address),
        ):
            here = hosted(domain_of(column))
            yield from self._probe(
                "ACCOUNT_WITHOUT_DOMAIN", table, column, ~here, detail=literal(table.name)
            )
            yield from self._probe(
                "ACCOUNT_DOMAIN_WRONG", table, column, here,
                table.c.domain != domain_of(column), detail=table.c.domain,
                extra=(domain_of(column).label("right"),),
                compute=lambda row: {"domain": row["right"]},
            )  # fmt: skip
        yield from self._address_twice()
        yield self._mailbox_shared()
        yield QueuedMailboxes("vmail", self._owners)
        yield from self._probe(
            "LOGIN_NETWORKS_EMPTY", t.mailbox, m.username, m.allow_nets == "",
            change={"allow_nets": None},
        )  # fmt: skip
        yield from self._probe(
            "USER_NAME_REFUSED", t.mailbox, m.username,
            judge=lambda row: refused_name(row["subject"], self._settings),
        )  # fmt: skip
        for name in t.SOGO_COLUMNS:
            if self._schema.has(t.mailbox, name):
                column = t.mailbox.c[name]
                yield from self._probe(
                    "SOGO_SWITCH_NUMERIC", t.mailbox, m.username, column.in_(["0", "1"]),
                    detail=literal(name), extra=(column.label("switch"),),
                    compute=_switch(name),
                )  # fmt: skip
        for table, column in ((t.mailbox, m.username), (t.admin, t.admin.c.username)):
            bare = ~table.c.password.like("{%}%")
            unknown = table.c.password.like("{BCRYPT}%")
            yield from self._probe(
                "PASSWORD_BARE_CRYPT", table, column, or_(bare, unknown),
                extra=(table.c.password,), judge=_bare_crypt,
                compute=lambda row: {"password": with_scheme(row["password"])},
            )  # fmt: skip
            yield from self._probe(
                "PASSWORD_WITHOUT_SCHEME", table, column, bare,
                extra=(table.c.password,), judge=_no_scheme,
            )  # fmt: skip
        switches = [f"enable{name}" for name in _INTERNAL]
        there = [m[name] == 0 for name in switches if self._schema.has(t.mailbox, name)]
        yield from self._probe(
            "INTERNAL_SERVICE_OFF", t.mailbox, m.username, or_(*there), m.active == 1
        )
        yield from self._probe(
            "LIST_WITHOUT_ID", t.maillists, t.maillists.c.address, t.maillists.c.mlid == ""
        )

    def _address_twice(self) -> Iterator[Probe]:
        a, ml, f = t.alias.c, t.maillists.c, t.forwardings.c
        for table, column, others in (
            (t.alias, a.address, [(t.mailbox, "username")]),
            (t.maillists, ml.address, [(t.mailbox, "username"), (t.alias, "address")]),
        ):
            for other, name in others:
                yield from self._probe(
                    "ADDRESS_TWICE", table, column, _is_in(other, name, column),
                    detail=literal(f"{other.name} and {table.name}"),
                )  # fmt: skip
        yield from self._probe(
            "ADDRESS_TWICE", t.forwardings, f.address, f.is_alias == 1, is_account(f.address),
            detail=self._joined("alias address of ", f.forwarding),
        )  # fmt: skip
        smaller = _is_in(
            t.forwardings, "address", f.address,
            lambda c: and_(c.is_alias == 1, c.forwarding < f.forwarding),
        )  # fmt: skip
        yield from self._probe(
            "ALIAS_ADDRESS_SHARED", t.forwardings, f.address, f.is_alias == 1, smaller,
            detail=f.forwarding,
        )  # fmt: skip

    def _mailbox_shared(self) -> SqlProbe:
        m, path = t.mailbox.c, self._path()
        statement = (
            select(func.min(m.username).label("subject"), func.max(m.username).label("detail"))
            .where(m.maildir != "")
            .group_by(path)
            .having(func.count() > 1)
        )
        return SqlProbe("MAILBOX_SHARED", "vmail", statement, (path,))

    async def _owners(self, connection: AsyncConnection, paths: Collection[str]) -> dict[str, str]:
        path = self._path()
        found = await connection.execute(
            select(path.label("path"), t.mailbox.c.username).where(path.in_(paths))
        )
        return {row.path: row.username for row in found}

    # -- routes ------------------------------------------------------------------------------------

    def _dead_routes(self) -> Iterator[Probe]:
        f = t.forwardings.c
        own = own_domain(f.address)
        arrow = self._joined("to ", f.forwarding)
        yield from self._probe(
            "ROUTE_WITHOUT_DOMAIN", t.forwardings, f.address, own.is_(None), ~hosted(f.domain),
            detail=arrow, remove=True,
        )  # fmt: skip
        yield from self._probe(
            "ROUTE_OF_FOREIGN_ADDRESS", t.forwardings, f.address, own.is_(None), hosted(f.domain),
            detail=arrow,
        )  # fmt: skip
        yield from self._probe(
            "ROUTE_DOMAIN_WRONG", t.forwardings, f.address, own != f.domain,
            detail=self._joined("to ", f.forwarding, ", domain ", f.domain),
            extra=(own.label("right"),), compute=lambda row: {"domain": row["right"]},
        )  # fmt: skip
        right = domain_of(f.forwarding)
        yield from self._probe(
            "ROUTE_DESTINATION_WRONG", t.forwardings, f.address, f.dest_domain != right,
            func.lower(f.dest_domain) != func.lower(right),
            detail=arrow, extra=(right.label("right"),),
            compute=lambda row: {"dest_domain": row["right"]},
        )  # fmt: skip
        no_kind = and_(
            *(f[name] == 0 for name in ("is_alias", "is_list", "is_forwarding", "is_maillist"))
        )
        with_at = f.address.contains("@")
        yield from self._probe(
            "ROUTE_WITHOUT_KIND", t.forwardings, f.address, no_kind, with_at, detail=arrow
        )
        not_user = and_(f.is_forwarding == 1, with_at, ~is_user(f.address))
        yield from self._probe(
            "SELF_ROUTE_WITHOUT_ACCOUNT", t.forwardings, f.address,
            f.address == f.forwarding, ~is_account(f.address),
            or_(f.is_forwarding == 1, f.is_maillist == 1), remove=True,
        )  # fmt: skip
        yield from self._probe(
            "FORWARDING_WITHOUT_USER", t.forwardings, f.address, not_user,
            f.address != f.forwarding, detail=arrow,
        )  # fmt: skip
        yield from self._probe(
            "MEMBERS_WITHOUT_ALIAS", t.forwardings, f.address, f.is_list == 1,
            ~_is_in(t.alias, "address", f.address), f.address != f.forwarding, detail=arrow,
        )  # fmt: skip
        yield from self._probe(
            "ALIAS_ADDRESS_WITHOUT_USER", t.forwardings, f.address, f.is_alias == 1,
            ~is_account(f.forwarding), hosted(domain_of(f.forwarding)),
            detail=arrow, remove=True,
        )  # fmt: skip
        yield from self._probe(
            "ALIAS_OF_ITSELF", t.forwardings, f.address, f.is_list == 1,
            f.address == f.forwarding, ~is_user(f.address), remove=True,
        )  # fmt: skip
        yield from self._probe(
            "DEAD_DESTINATION", t.forwardings, f.address, f.address != f.forwarding,
            f.is_alias == 0, gone(f.forwarding, source=f.address), detail=arrow,
        )  # fmt: skip

    def _users_routes(self) -> Iterator[Probe]:
        f, m = t.forwardings.c, t.mailbox.c
        yield from self._probe(
            "USER_WITHOUT_ROUTE", t.mailbox, m.username,
            ~_is_in(t.forwardings, "address", m.username, lambda c: c.is_forwarding == 1),
            extra=(domain_of(m.username).label("right"), m.active),
            insert=Insert(t.forwardings, lambda row: {
                "address": row["subject"],
                "forwarding": row["subject"],
                "domain": row["right"],
                "dest_domain": row["right"],
                "is_forwarding": 1,
                "active": row["active"],
            }),
        )  # fmt: skip
        disabled = or_(
            _is_in(t.mailbox, "username", f.forwarding, lambda c: c.active == 0),
            and_(
                f.is_forwarding == 1,
                _is_in(t.mailbox, "username", f.address, lambda c: c.active == 0),
            ),
        )
        yield from self._probe(
            "DISABLED_USER_ROUTED", t.forwardings, f.address, f.active == 1, disabled,
            detail=self._joined("to ", f.forwarding), change={"active": 0},
        )  # fmt: skip
        yield from self._probe(
            "ACTIVE_USER_NOT_ROUTED", t.forwardings, f.address, f.active == 0,
            f.is_forwarding == 1, f.address == f.forwarding,
            _is_in(t.mailbox, "username", f.address, lambda c: c.active == 1),
            change={"active": 1},
        )  # fmt: skip

    def _groups_routes(self) -> Iterator[Probe]:
        f, ml = t.forwardings.c, t.maillists.c
        yield from self._probe(
            "LIST_WITHOUT_ROUTE", t.maillists, ml.address,
            ~_is_in(t.forwardings, "address", ml.address, lambda c: c.forwarding == ml.address),
            extra=(domain_of(ml.address).label("right"), ml.active),
            insert=Insert(t.forwardings, lambda row: {
                "address": row["subject"],
                "forwarding": row["subject"],
                "domain": row["right"],
                "dest_domain": row["right"],
                "is_maillist": 1,
                "active": row["active"],
            }),
        )  # fmt: skip
        if self._schema.has(t.maillists):
            closed = func.lower(t.maillists.c.accesspolicy).in_(sorted(lists.BY_IREDAPD))
            yield from self._probe(
                "LIST_ADDRESS_OPEN", t.forwardings, f.address, f.is_list == 0,
                f.is_forwarding == 0, f.address != f.forwarding, f.address.contains("@"),
                exists(select(ml.address).where(ml.address == f.forwarding, closed)),
                detail=f.forwarding,
            )  # fmt: skip
        if self._schema.has(t.moderators):
            a = t.alias.c
            yield from self._probe(
                "ALIAS_CLOSED", t.alias, a.address,
                func.lower(a.accesspolicy).in_(["moderatorsonly", "allowedonly"]),
                ~_is_in(t.moderators, "address", a.address),
            )  # fmt: skip
        disabled_member = _is_in(t.mailbox, "username", f.forwarding, lambda c: c.active == 0)
        for table, mark in ((t.alias, f.is_list), (t.maillists, f.is_maillist)):
            for active, code in ((1, "DISABLED_ALIAS_ROUTED"), (0, "ACTIVE_ALIAS_NOT_ROUTED")):
                yield from self._probe(
                    code, t.forwardings, f.address, f.active == active, mark == 1,
                    _is_in(table, "address", f.address, lambda c, on=active: c.active != on),
                    *(() if active else (~disabled_member,)),
                    detail=self._joined("to ", f.forwarding), change={"active": 1 - active},
                )  # fmt: skip

    # -- what hangs on accounts --------------------------------------------------------------------

    def _side_rows(self) -> Iterator[Probe]:
        for table in (t.sender_bcc_user, t.recipient_bcc_user):
            c, name = table.c, literal(table.name)
            yield from self._probe(
                "BCC_WITHOUT_ACCOUNT", table, c.username,
                or_(~hosted(domain_of(c.username)), ~is_address(c.username)),
                detail=name, remove=True,
            )  # fmt: skip
            yield from self._probe(
                "BCC_DOMAIN_WRONG", table, c.username, c.domain != domain_of(c.username),
                detail=name, extra=(domain_of(c.username).label("right"),),
                compute=lambda row: {"domain": row["right"]},
            )  # fmt: skip
        for table in (t.sender_bcc_domain, t.recipient_bcc_domain):
            c, name = table.c, literal(table.name)
            yield from self._probe(
                "BCC_WITHOUT_ACCOUNT", table, c.domain, ~hosted(c.domain), detail=name, remove=True
            )
            yield from self._probe(
                "BCC_INACTIVE_BUT_USED", table, c.domain, c.active == 0, detail=name, remove=True
            )
        r = t.sender_relayhost.c
        yield from self._probe(
            "RELAY_EMPTY", t.sender_relayhost, r.account, r.relayhost == "", remove=True
        )
        if not self._settings.relay_keep_prefix:
            prefixed = or_(*(r.relayhost.like(f"{name}:%") for name in ("smtp", "relay", "lmtp")))
            yield from self._probe(
                "RELAY_WITH_PREFIX", t.sender_relayhost, r.account, prefixed,
                extra=(r.relayhost,), judge=_prefixed,
                compute=lambda row: {"relayhost": transports.outbound_relay(row["relayhost"])},
            )  # fmt: skip
        yield from self._probe(
            "RELAY_WITHOUT_ACCOUNT", t.sender_relayhost, r.account, ~r.account.like("@%"),
            gone(r.account), detail=r.relayhost, remove=True,
        )  # fmt: skip

    def _left_overs(self) -> Iterator[Probe]:
        for table in (self._quota_table, t.last_login):
            yield from self._probe(
                "USAGE_WITHOUT_USER", table, table.c.username, ~is_user(table.c.username),
                detail=literal(table.name), remove=True,
            )  # fmt: skip
        s, a = t.share_folder.c, t.anyone_shares.c
        yield from self._probe(
            "SHARE_WITHOUT_USER", t.share_folder, s.from_user,
            or_(~is_user(s.from_user), ~is_user(s.to_user)),
            detail=self._joined("to ", s.to_user), remove=True,
        )  # fmt: skip
        yield from self._probe(
            "SHARE_WITHOUT_USER", t.anyone_shares, a.from_user, ~is_user(a.from_user),
            detail=literal("to anyone"), remove=True,
        )  # fmt: skip
        for table, who in ((t.moderators, "moderator"), (t.maillist_owners, "owner")):
            c = table.c
            whom = self._joined(f"{who} ", c[who])
            group = or_(
                _is_in(t.alias, "address", c.address), _is_in(t.maillists, "address", c.address)
            )
            yield from self._probe(
                "MODERATOR_WITHOUT_LIST", table, c.address, ~group, detail=whom, remove=True
            )
            yield from self._probe(
                "MODERATOR_GONE", table, c.address, ~c[who].like("*%"), gone(c[who]),
                # Every domain has a postmaster; new lists have it until somebody else is named.
                ~c[who].like("postmaster@%"),
                detail=whom, remove=True,
            )  # fmt: skip

    # -- rights ------------------------------------------------------------------------------------

    def _admins(self) -> Iterator[Probe]:
        d, m, a = t.domain_admins.c, t.mailbox.c, t.admin.c
        manages = self._joined("manages ", d.domain)
        standalone = _is_in(t.admin, "username", d.username)
        yield from self._probe(
            "ADMIN_WITHOUT_ACCOUNT", t.domain_admins, d.username, ~standalone,
            ~is_user(d.username), detail=manages, remove=True,
        )  # fmt: skip
        yield from self._probe(
            "ADMIN_OF_NO_DOMAIN", t.domain_admins, d.username, d.domain != "ALL",
            ~hosted(d.domain), detail=manages, remove=True,
        )  # fmt: skip
        has_all = _is_in(t.domain_admins, "username", m.username, lambda c: c.domain == "ALL")
        yield from self._probe(
            "GLOBAL_MARK_WITHOUT_ALL", t.mailbox, m.username, m.isglobaladmin == 1, ~has_all,
            insert=Insert(
                t.domain_admins, lambda row: {"username": row["subject"], "domain": "ALL"}
            ),
        )  # fmt: skip
        yield from self._probe(
            "ALL_WITHOUT_GLOBAL_MARK", t.domain_admins, d.username, d.domain == "ALL", ~standalone,
            _is_in(t.mailbox, "username", d.username, lambda c: c.isglobaladmin == 0),
        )  # fmt: skip
        manages_any = _is_in(t.domain_admins, "username", m.username)
        yield from self._probe(
            "ADMIN_MARK_WITHOUT_DOMAIN", t.mailbox, m.username, m.isadmin == 1,
            m.isglobaladmin == 0, ~manages_any, change={"isadmin": 0},
        )  # fmt: skip
        unmarked = _is_in(
            t.mailbox, "username", d.username,
            lambda c: and_(c.isadmin == 0, c.isglobaladmin == 0),
        )  # fmt: skip
        yield from self._probe(
            "DOMAIN_WITHOUT_ADMIN_MARK", t.domain_admins, d.username, d.domain != "ALL",
            hosted(d.domain), ~standalone, unmarked, detail=manages,
        )  # fmt: skip
        name = domain_of(a.username)
        yield from self._probe(
            "ADMIN_IN_HOSTED_DOMAIN", t.admin, a.username,
            or_(hosted(name), _is_in(t.alias_domain, "alias_domain", name)),
        )  # fmt: skip
        may_create = func.coalesce(a.settings, "").contains("create_new_domains")
        yield from self._probe(
            "ADMIN_WITHOUT_RIGHTS", t.admin, a.username, ~may_create,
            ~_is_in(t.domain_admins, "username", a.username),
        )  # fmt: skip

    # -- dates -------------------------------------------------------------------------------------

    def _dates(self) -> Iterator[Probe]:
        for table in t.metadata.sorted_tables:
            if self._schema.has(table):
                yield from dates(self._schema, table, "vmail")


def dates(schema: Schema, table: Table, database: str) -> Iterator[Probe]:
    """Make probes for the columns of a table that hold dates."""
    key = tuple(table.primary_key.columns)
    for column in schema.columns(table):
        if isinstance(column.type, Date | DateTime):
            where = literal(f"{table.name}.{column.name}").label("detail")
            subject = _text(table.c.get("username", key[0])).label("subject")
            statement = select(subject, where).select_from(table).where(is_unknown(column))
            yield SqlProbe("DATE_UNKNOWN", database, statement, key)


class QueuedMailboxes:
    """Rows of ``deleted_mailboxes`` with a date that name the directory of a living mailbox.

    ``owners`` says whose the directories are, in lower case without a slash at their end.
    """

    code = "MAILBOX_IN_REMOVAL_QUEUE"
    fixable = True

    def __init__(self, database: str, owners: Owners) -> None:
        q = t.deleted_mailboxes
        self.database = database
        self._owners = owners
        self._inner = SqlProbe(
            self.code,
            self.database,
            select(_tidy(q.c.maildir).label("subject")).where(q.c.delete_date.is_not(None)),
            (q.c.id,),
            Delete(q, (q.c.id,)),
        )

    @property
    def removes(self) -> Table | None:
        """See ``Probe``."""
        return t.deleted_mailboxes

    async def number(self, connection: Any, rows: Any) -> int:
        """See ``Probe``."""
        return await self._inner.number(connection, rows)

    async def page(self, connection: Any, after: Any) -> tuple[list[tuple[Row, str]], Any]:
        """See ``Probe``."""
        rows, following = await self._inner.page(connection, after)
        return await self._living(connection, [row for row, _ in rows]), following

    async def repair(self, connection: Any, rows: Any) -> list[Row]:
        """See ``Probe``."""
        still = [row for row, _ in await self._living(connection, rows)]
        return await self._inner.repair(connection, still) if still else []

    async def _living(self, connection: Any, rows: Any) -> list[tuple[Row, str]]:
        paths = {row["subject"] for row in rows}
        owners = await self._owners(connection, paths) if paths else {}
        return [
            (row, f"mailbox of {owners[row['subject']]}")
            for row in rows
            if row["subject"] in owners
        ]


def refused_name(mail: str, settings: Settings) -> str | None:
    """Return the characters that Dovecot refuses in a user's name, or None."""
    return " ".join(strange_characters(mail, settings.auth_username_chars)) or None


def _switch(name: str) -> Callable[[Row], dict[str, Any]]:
    return lambda row: {name: "n" if row["switch"] == "0" else "y"}


def _unreadable(settings: str | None) -> str | None:
    for item in (settings or "").split(";"):
        if item.strip() and item.count(":") != 1:
            return item.strip()[:40]
    return None


def bracketed(transport: str) -> str:
    """Return a transport with its address in brackets, if it is one."""
    name, _, rest = transport.partition(":")
    try:
        return f"{name}:{transports.next_hop(rest)}"
    except transports.InvalidTransport:
        return transport


def _bare_address(row: Row) -> str | None:
    transport: str = row["transport"]
    _, _, rest = transport.partition(":")
    return transport if "[" not in rest and "[" in bracketed(transport) else None


def without_prefix(relay: str) -> str | None:
    """Return a relay host without the transport before it; None: there is none."""
    before, _, rest = relay.partition(":")
    # smtp:25 is port 25 of a host that is called smtp.
    if before.lower() not in {"smtp", "relay", "lmtp"} or rest.isdigit():
        return None
    try:
        return transports.outbound_relay(relay)
    except transports.InvalidTransport:
        return None


def _prefixed(row: Row) -> str | None:
    value: str = row["relayhost"]
    return None if without_prefix(value) is None else value


def bare_crypt(password: str) -> bool:
    """Tell whether a hash lacks its scheme, or has one that Dovecot does not know."""
    _, brace, rest = password.partition("{BCRYPT}")
    return bool(_CRYPT.fullmatch(rest if brace else password))


def _bare_crypt(row: Row) -> str | None:
    return "" if bare_crypt(row["password"]) else None


def with_scheme(password: str) -> str:
    """Return a hash with the scheme that it lacks."""
    if password.startswith("{BCRYPT}"):
        return "{BLF-CRYPT}" + password.removeprefix("{BCRYPT}")
    return "{CRYPT}" + password


def _no_scheme(row: Row) -> str | None:
    # Never the text itself: it may be a password.
    password = row["password"]
    if _HASH.fullmatch(password) or bare_crypt(password):
        return None
    return "empty" if not password else "not a hash with a scheme"
