"""Standalone admins, and who may log in, in ``vmail``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    and_,
    bindparam,
    cast,
    literal,
    or_,
    select,
)

from iredapi.backends.protocols.values import Profile
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.database.datetimes import is_unknown
from iredapi.database.dialect import domain_of as domain_part
from iredapi.database.repository import chunks, now, row_to_response
from iredapi.database.text_matching import is_like
from iredapi.domain import account_settings
from iredapi.domain.actors import Principal
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.admins import Admin
from iredapi.domain.inventory import AnyAdmin

_EPOCH_SENTINEL = datetime(1971, 1, 1)  # noqa: DTZ001 (the tables hold no zone)


class SqlAdmins(AccountRepository):
    """See ``protocols.admins.Admins``."""

    async def principal(self, username: str) -> Principal | None:
        columns, rows = await self.fetch_batched("admins.principal", _principal, username=username)
        return _read_principal(username, [dict(zip(columns, row, strict=True)) for row in rows])

    async def every(self) -> list[AnyAdmin]:
        a, m, d = t.admin.c, t.mailbox.c, t.domain_admins.c
        mark = or_(m.isadmin == 1, m.isglobaladmin == 1)
        users = select(m.username, m.name, m.language, m.active, m.settings, m.isglobaladmin)
        admins = select(a.username, a.name, a.language, a.active, a.settings, literal(0))
        managed: dict[str, set[str]] = {}
        for name, domain in await self.row_objects(
            select(d.username, d.domain).where(d.active == 1)
        ):
            managed.setdefault(fold(name), set()).add(domain)
        found: dict[str, AnyAdmin] = {}
        for chosen, standalone in ((users.where(mark), False), (admins, True)):
            for mail, name, language, active, settings, marked in await self.row_objects(chosen):
                domains = managed.get(fold(mail), set())
                found[fold(mail)] = AnyAdmin(
                    Admin(
                        mail,
                        name=name,
                        language=language,
                        active=active == 1,
                        is_global="ALL" in domains or marked == 1,
                        settings=account_settings.parse(settings),
                        managed_domains=frozenset(domains - {"ALL"}),
                    ),
                    standalone=standalone,
                )
        return [*found.values()]

    async def hashes(self, mails: Collection[str]) -> Mapping[str, str]:
        a, found = t.admin.c, dict[str, str]()
        for some in chunks(mails):
            chosen = select(a.username, a.password).where(a.username.in_(some))
            found |= {
                fold(row.username): row.password or "" for row in await self.row_objects(chosen)
            }
        return found

    async def inside(self, domains: Collection[str]) -> frozenset[str]:
        a = t.admin.c
        found = await self.column(
            select(a.username).where(is_like(domain_part(a.username), domains))
        )
        return frozenset(map(fold, found))

    async def hold(self, mails: Collection[str]) -> None:
        for table in (t.admin, t.mailbox):
            for some in chunks(mails):
                await self.column(
                    select(table.c.username)
                    .where(table.c.username.in_(some))
                    .order_by(table.c.username)
                    .with_for_update()
                )

    async def exists(self, mails: Collection[str]) -> frozenset[str]:
        found: set[str] = set()
        for some in chunks(mails):
            found.update(
                await self.column(
                    select(t.admin.c.username)
                    .where(or_(t.admin.c.username.in_(some), is_like(t.admin.c.username, some)))
                    .union(select(t.mailbox.c.username).where(t.mailbox.c.username.in_(some)))
                )
            )
        return frozenset(map(fold, found))

    async def get(self, mail: str) -> Admin | None:
        return await self._read(mail, lock=False)

    async def claim(self, mail: str) -> Admin | None:
        return await self._read(mail, lock=True)

    async def _read(self, mail: str, *, lock: bool) -> Admin | None:
        return await self.find(t.admin.c.username, mail, partial(self._exact, lock=lock))

    async def _row(self, mail: str, *, lock: bool = False) -> Mapping[str, Any] | None:
        statement = select(*self.schema.columns(t.admin)).where(t.admin.c.username == mail)
        rows = await self.rows(statement.with_for_update() if lock else statement)
        return rows[0] if rows and fold(rows[0]["username"]) == fold(mail) else None

    async def _exact(self, mail: str, *, lock: bool) -> Admin | None:
        row, d = await self._row(mail, lock=lock), t.domain_admins.c
        if row is None:
            return None
        mail = row["username"]
        managed = frozenset(
            await self.column(select(d.domain).where(is_like(d.username, [mail]), d.active == 1))
        )
        return Admin(
            mail,
            password=row["password"],
            name=row["name"],
            language=row["language"],
            active=row["active"] == 1,
            is_global="ALL" in managed,
            settings=account_settings.parse(row["settings"]),
            stored_settings=row["settings"] or "",
            managed_domains=managed - {"ALL"},
        )

    async def profile(self, mail: str) -> Profile | None:
        return await self.find(t.admin.c.username, mail, self._profile)

    async def _profile(self, mail: str) -> Profile | None:
        row, d = await self._row(mail), t.domain_admins.c
        if row is None:
            return None
        managed = await self.column(
            select(d.domain)
            .where(is_like(d.username, [row["username"]]), d.active == 1)
            .order_by(d.domain)
        )
        return row_to_response(row) | {
            "settings": account_settings.to_response(account_settings.parse(row["settings"])),
            "accountStatus": "active" if row["active"] == 1 else "disabled",
            "isglobaladmin": int("ALL" in managed),
            "managed_domains": [domain for domain in managed if domain != "ALL"],
        }

    async def password(self, mail: str) -> str | None:
        a, m = t.admin.c, t.mailbox.c

        async def of_admin(name: str) -> str | None:
            found = await self.column(select(a.password).where(a.username == name))
            return found[0] if found else None

        async def of_user(name: str) -> str | None:
            mark = or_(m.isadmin == 1, m.isglobaladmin == 1)
            found = await self.column(select(m.password).where(m.username == name, mark))
            return found[0] if found else None

        found = await self.find(a.username, mail, of_admin)
        if found is not None:
            return found
        return await self.find(m.username, mail, of_user, domain_column=m.domain)

    async def limits_of_user(self, mail: str) -> account_settings.Settings:
        m = t.mailbox.c
        found = await self.column(select(m.settings).where(m.username == mail))
        return account_settings.parse(found[0]) if found else {}

    async def slow_hashes(self) -> list[str]:
        a, m = t.admin.c, t.mailbox.c

        def slow(password: ColumnElement[Any]) -> ColumnElement[bool]:
            return and_(*(password.not_like(f"{{{name}}}%") for name in ("SSHA512", "SSHA")))

        return list(
            await self.column(
                select(a.password)
                .where(slow(a.password))
                .union(
                    select(m.password).where(
                        or_(m.isadmin == 1, m.isglobaladmin == 1), slow(m.password)
                    )
                )
            )
        )

    async def rehash(self, mail: str, old: str, new: str, *, standalone: bool) -> bool:
        table = t.admin if standalone else t.mailbox
        found = await self.column(
            select(table.c.password).where(table.c.username == mail).with_for_update()
        )
        # Compared in Python: MariaDB's equality ignores case.
        if found != [old]:
            return False
        await self.update(table, {"password": new}, table.c.username == mail)
        return True

    async def add(self, admin: Admin) -> None:
        moment = now()
        await self.insert(
            t.admin,
            {
                "username": admin.mail,
                "password": admin.password,
                "name": admin.name,
                "language": admin.language,
                "settings": account_settings.render(admin.settings),
                "created": moment,
                "modified": moment,
                "passwordlastchange": moment,
                "active": int(admin.active),
            },
        )
        # Left-over rights of an earlier account with this name must not become valid.
        await self.delete(t.domain_admins, is_like(t.domain_admins.c.username, [admin.mail]))
        if admin.is_global:
            await self.set_global(admin.mail, is_global=True)

    async def save(self, before: Admin, after: Admin) -> None:
        if before == after:
            return
        values: dict[str, Any] = {
            name: getattr(after, name)
            for name in ("password", "name", "language")
            if getattr(before, name) != getattr(after, name)
        }
        if before.active != after.active:
            values["active"] = int(after.active)
        if before.settings != after.settings:
            values["settings"] = account_settings.updated(
                before.stored_settings, before.settings, after.settings
            )
        if "password" in values:
            values["passwordlastchange"] = now()
        values["modified"] = now()
        await self.update(t.admin, values, t.admin.c.username == before.mail)
        if before.is_global != after.is_global:
            await self.set_global(after.mail, is_global=after.is_global)

    async def remove(self, mail: str) -> None:
        d, names = t.domain_admins.c, names_of(mail)
        # An account with the same name in another spelling keeps its rights.
        others = [
            name
            for column in (t.admin.c.username, t.mailbox.c.username)
            for name in await self.column(select(column).where(column.in_(names)))
            if name != mail and len(names) > 1
        ]
        mine = d.username == mail if others else is_like(d.username, [mail])
        await self.delete(t.domain_admins, mine)
        await self.delete(t.admin, t.admin.c.username == mail)

    async def globals_without(self, mails: Collection[str], *, domain: str = "") -> int:
        a, m, d = t.admin.c, t.mailbox.c, t.domain_admins.c
        marked = select(d.username).where(d.domain == "ALL", d.active == 1)
        if self._connections.writing:
            # Lock both marks in a fixed order before counting: a parallel removal waits here and
            # then counts what this one has committed.
            rights = select(d.username).where(d.domain == "ALL")
            await self.column(rights.order_by(d.username).with_for_update())
            marked_users = select(m.username).where(m.isglobaladmin == 1)
            await self.column(marked_users.order_by(m.username).with_for_update())
        # Count only admins who can log in: the conditions of ``principal``.
        names = await self.column(
            select(a.username)
            .where(a.active == 1, _is_unexpired(a.expired), a.username.in_(marked))
            .union(
                select(m.username).where(
                    m.active == 1,
                    _is_unexpired(m.expired),
                    or_(m.isglobaladmin == 1, and_(m.isadmin == 1, m.username.in_(marked))),
                )
            )
        )
        gone = set(map(fold, mails))
        return sum(
            name not in gone and not (domain and domain_of(name) == domain)
            for name in {name.lower() for name in names}
        )


def _is_unexpired(expired: ColumnElement[Any]) -> ColumnElement[bool]:
    """Match accounts that have not expired; dates before 1971 and invalid dates are no expiry."""
    return or_(expired > now(), expired < _EPOCH_SENTINEL, is_unknown(expired))


def _principal() -> CompoundSelect[Any]:
    """Select the standalone admin and the user ``:username``, a row for each managed domain."""
    m, d = t.mailbox.c, t.domain_admins.c
    username = bindparam("username", type_=String(255))

    def branch(
        standalone: int, table: Any, mark: ColumnElement[Any], *where: ColumnElement[bool]
    ) -> Select[Any]:
        c = table.c
        return (
            select(
                literal(standalone).label("standalone"),
                c.username,
                c.password,
                c.settings,
                c.expired,
                c.active,
                c.created,
                mark.label("mark"),
                cast(d.domain, String(255)).label("domain"),
            )
            .select_from(
                table.outerjoin(t.domain_admins, and_(d.username == c.username, d.active == 1))
            )
            .where(c.username == username, *where)
        )

    return branch(1, t.admin, literal(0)).union_all(
        branch(0, t.mailbox, m.isglobaladmin, or_(m.isadmin == 1, m.isglobaladmin == 1))
    )


def _read_principal(username: str, rows: Sequence[Mapping[str, Any]]) -> Principal | None:
    kinds = {row["standalone"] for row in rows if row["username"].lower() == username}
    if not kinds:
        return None
    chosen = [row for row in rows if row["standalone"] == max(kinds)]
    # A standalone admin takes precedence over a mail user with the same address, even when it is
    # disabled: ``domain_admins`` has the rights of both under one name.
    first = chosen[0]
    if first["active"] != 1:
        return None
    expired: datetime | None = first["expired"]
    if expired is not None and _EPOCH_SENTINEL <= expired < now():
        return None
    domains = frozenset(row["domain"] for row in chosen if row["domain"])
    settings = account_settings.parse(first["settings"])
    return Principal(
        username=username,
        password=first["password"] or "",
        standalone=bool(first["standalone"]),
        is_global="ALL" in domains or first["mark"] == 1,
        domains=domains - {"ALL"},
        settings=settings,
        account_created_at=_account_created_at(first),
    )


def _account_created_at(row: Mapping[str, Any]) -> str:
    """Return a text that differs for a later account with the same name.

    Empty when the row has no time of creation.
    """
    created: datetime | None = row["created"]
    if created is None or created < _EPOCH_SENTINEL:
        return ""
    return f"{row['standalone']} {created.isoformat()}"
