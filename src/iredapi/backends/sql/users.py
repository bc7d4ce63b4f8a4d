"""Mail users in ``vmail``: the SQL role ``Users``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.protocols.values import JoinedGroups, Removal
from iredapi.backends.sql import cascade as removals
from iredapi.backends.sql import (
    forwarding_status,
    mailbox_paths,
    suspended_users,
    user_mapping,
    user_with_domain,
)
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, owned
from iredapi.backends.sql.domain_mapping import record as domain_record
from iredapi.backends.sql.routes import is_alias_address, is_forward
from iredapi.backends.sql.user_mapping import OPTIONAL, record, row_changes
from iredapi.backends.sql.user_profiles import SqlUserProfiles
from iredapi.backends.sql.user_rights import SqlUserRights
from iredapi.database.dialect import differs, sum_of
from iredapi.database.repository import chunks, now
from iredapi.database.row_locks import Row
from iredapi.database.text_matching import is_like
from iredapi.domain import services
from iredapi.domain.addresses import domain_of, fold, typed
from iredapi.domain.domains import Domain
from iredapi.domain.limits import Sizes
from iredapi.domain.users import User


class SqlUsers(SqlUserProfiles, SqlUserRights):
    """See ``protocols.accounts.Users``."""

    async def get(self, mail: str) -> User | None:
        found = await self._read(mail, lock=False)
        if found is None:
            return None
        others = await self._other_alias_addresses(found.mail)
        return replace(found, aliases=found.aliases | others)

    async def claim(self, mail: str) -> User | None:
        return await self._read(mail, lock=True)

    def unsupported(self, changes: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        params, names = self.schema.statement("users.lacking", self._lacking)
        found = [
            (name, str(changes[name])) for name in sorted(params & changes.keys()) if changes[name]
        ]
        for param in ("services", "add_service") if names else ():
            found += [(param, name) for name in changes.get(param) or () if name in names]
        return found

    def _lacking(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return which parameters, and which services, have no column."""

        def is_there(column: str) -> bool:
            return self.schema.has(t.mailbox, column)

        return (
            frozenset(name for name, column in OPTIONAL.items() if not is_there(column)),
            frozenset(
                name
                for name, columns in services.COLUMNS.items()
                if not any(is_there(f"enable{column}") for column in columns)
            ),
        )

    async def claim_with_domain(
        self, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        domain: Domain | None = None
        if typed(mail) == mail:
            domain, user = await self._with_domain(
                domain_of(mail), str(mail), hold_domain=hold_domain
            )
            if user is not None:
                return domain, user
        if "@" not in mail:
            return Domain(""), await self._read(mail, lock=True)  # an address without a domain
        m, d = t.mailbox.c, t.domain.c
        name = domain.name if domain else await self.spelling(d.domain, domain_of(mail))
        if name is None:
            return None, None
        stored = await self.spelling(m.username, mail, *await self.within_domain(m.domain, mail))
        domain, user = await self._with_domain(name, stored or mail, hold_domain=hold_domain)
        # Its related rows may have its folded name: read them as well.
        return domain, None if user is None else await self._exact(user.mail)

    async def _with_domain(
        self, name: str, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        domain_row = Row(t.domain.c.domain, name, share=not hold_domain)
        await self.hold_rows(domain_row, Row(t.mailbox.c.username, mail))
        # Separate statement: under READ COMMITTED it sees what the previous lock holder committed.
        _, rows = await self.table(
            "users.with domain", lambda: user_with_domain.whole(self.schema), name=name, mail=mail
        )
        found = user_with_domain.split(self.schema, rows, name, mail)
        if found is None:
            return None, None
        related_rows = RelatedRows(found.related_rows)
        user = None if found.user is None else record(found.user, related_rows)
        return domain_record(found.domain, related_rows), user

    async def _row(self, mail: str, *, lock: bool = False) -> Mapping[str, Any] | None:
        rows = await self.run_compiled(
            ("users.row", lock), lambda: self._row_by_mail(lock=lock), mail=mail
        )
        # MariaDB's equality ignores case, accents and trailing blanks.
        return rows[0] if rows and fold(rows[0]["username"]) == fold(mail) else None

    def _row_by_mail(self, *, lock: bool) -> Select[Any]:
        columns = self.schema.columns(t.mailbox)
        statement = select(*columns).where(t.mailbox.c.username == bindparam("mail"))
        return statement.with_for_update() if lock else statement

    async def _read(self, mail: str, *, lock: bool) -> User | None:
        m = t.mailbox.c
        read = partial(self._exact, lock=lock)
        return await self.find(m.username, mail, read, domain_column=m.domain)

    async def _exact(self, mail: str, *, lock: bool = False) -> User | None:
        row = await self._row(mail, lock=lock)
        return None if row is None else record(row, await self._related_rows(mail))

    async def other_aliases(self, mail: str) -> frozenset[str]:
        f = t.forwardings.c
        return frozenset(
            await self.column(
                select(f.address).where(
                    is_alias_address(), is_like(f.forwarding, [mail]), f.address != mail
                )
            )
        )

    async def password(self, mail: str) -> str:
        m = t.mailbox.c
        rows = await self.run_compiled(
            "users.password",
            lambda: select(m.username, m.password).where(m.username == bindparam("mail")),
            mail=mail,
        )
        return next((row["password"] for row in rows if row["username"].lower() == mail), "")

    async def allocated(self, domain: str, *, but: str = "") -> int:
        m = t.mailbox.c
        rows = await self.rows(
            select(sum_of(m.quota).label("sum")).where(
                m.domain.in_(await self.domain_names(m.domain, domain)),
                m.username != but,
                m.quota > 0,
            )
        )
        return int(rows[0]["sum"])

    async def paths_near(self, path: str, *, but: str = "", queued: bool = True) -> list[str]:
        return await mailbox_paths.overlapping(self, path, but=but, queued=queued)

    async def unqueue(self, path: str) -> None:
        await mailbox_paths.unqueue(self, path)

    async def add(
        self, user: User, *, groups: Iterable[str], changed: datetime | None
    ) -> JoinedGroups:
        await user_mapping.add_users(self, [user], changed=changed)
        kept = frozenset({user.mail})
        await self._save_related_rows(User(user.mail, active=user.active, forwardings=kept), user)
        a, wanted = t.alias.c, sorted(groups)
        if not wanted:
            return JoinedGroups()
        lists = await self.rows(select(a.address, a.active).where(a.address.in_(wanted)))
        await self.insert_missing(
            t.forwardings,
            [
                {
                    "address": row["address"],
                    "forwarding": user.mail,
                    "domain": domain_of(row["address"]),
                    "dest_domain": domain_of(user.mail),
                    "is_list": 1,
                    "active": int(user.active and row["active"] == 1),
                }
                for row in lists
            ],
        )
        return JoinedGroups([row["address"] for row in lists])

    async def save(self, before: User, after: User) -> None:
        if before == after:
            return
        values = row_changes(before, after)
        await self._write_row(before.mail, values)
        await self._save_related_rows(before, after)
        if before.active != after.active:
            await forwarding_status.switch_routes(
                self, t.mailbox.c.username == after.mail, active=after.active
            )

    async def _write_row(self, mail: str, values: Mapping[str, Any]) -> None:
        there = self.schema.values(t.mailbox, values)

        def build() -> Update:
            own = t.mailbox.c.username == bindparam("mail")
            return update(t.mailbox).where(own).values({name: bindparam(name) for name in there})

        await self.change(("users.save", tuple(there)), build, mail=mail, **there)

    async def _save_related_rows(self, before: User, after: User) -> None:
        mail, f = fold(before.mail), t.forwardings.c
        domain = domain_of(mail)
        for some in chunks(before.forwardings - after.forwardings):
            await self.delete(
                t.forwardings,
                owned(f.address, before.mail),
                f.forwarding.in_(some),
                is_forward(),
            )
        destinations = after.forwardings - before.forwardings
        if after.active and destinations - {mail} and mail in map(fold, after.forwardings):
            await self._activate_own_route(before.mail)
        disabled = await self.disabled(destinations - {mail})
        rows: list[dict[str, Any]] = [
            {
                "address": mail,
                "forwarding": destination,
                "domain": domain,
                "dest_domain": domain_of(destination),
                "is_forwarding": 1,
                "is_alias": 0,
                "active": int(after.active and destination not in disabled),
            }
            for destination in sorted(destinations)
        ]
        for some in chunks(before.aliases - after.aliases):
            await self.delete(
                t.forwardings,
                f.address.in_(some),
                is_like(f.forwarding, [mail]),
                is_alias_address(),
            )
        new = after.aliases - before.aliases
        primaries = await self._primaries({domain_of(address) for address in new} - {domain})
        rows += [
            {
                "address": address,
                "forwarding": mail,
                # Postfix joins it with ``domain``: an alias domain here is never found.
                "domain": primaries.get(domain_of(address), domain),
                "dest_domain": domain,
                "is_forwarding": 0,
                "is_alias": 1,
                "active": int(after.active),
            }
            for address in sorted(new)
        ]
        await self.insert_missing(t.forwardings, rows)
        key = {"username": mail, "domain": domain}
        if before.sender_bcc != after.sender_bcc:
            await self.set_bcc(t.sender_bcc_user, key, after.sender_bcc)
        if before.recipient_bcc != after.recipient_bcc:
            await self.set_bcc(t.recipient_bcc_user, key, after.recipient_bcc)
        if before.is_global != after.is_global or before.marks_agree != after.marks_agree:
            await self.set_global(mail, is_global=after.is_global)

    async def set_suspended(self, domain: str, *, suspended: bool) -> bool:
        change = suspended_users.suspend if suspended else suspended_users.resume
        return await change(self, domain)

    async def _activate_own_route(self, mail: str) -> None:
        """Activate the row ``address → address`` of a user before other forwardings are added.

        As long as Postfix finds no forwarding it delivers to the mailbox, so an inactive row, or
        one in no domain, has no effect. With the first other forwarding it would lose the mail of
        the mailbox.
        """
        f, d = t.forwardings.c, t.domain.c
        found = select(f.id).where(owned(f.address, mail), f.active == 1, f.domain == d.domain)
        if not await self.rows(found.limit(1)):
            own = (owned(f.address, mail), is_like(f.forwarding, [mail]))
            await self.update(t.forwardings, {"active": 1, "domain": domain_of(mail)}, *own)

    async def _primaries(self, domains: Collection[str]) -> dict[str, str]:
        """Return the primary domains behind domains and alias domains."""
        if not domains:
            return {}
        d, a = t.domain.c, t.alias_domain.c
        rows = await self.rows(
            select(d.domain.label("name"), d.domain.label("target"))
            .where(d.domain.in_(sorted(domains)))
            .union_all(
                select(a.alias_domain, a.target_domain).where(a.alias_domain.in_(sorted(domains)))
            )
        )
        return {fold(row["name"]): row["target"] for row in rows}

    async def sizes(self, domain: str, quota: int, *, but: Collection[str]) -> Sizes:
        q, chosen = t.mailbox.c.quota, t.mailbox.c.username.not_in(sorted(but))
        names = await self.domain_names(t.mailbox.c.domain, domain)
        raised = and_(chosen, q > 0, q < quota if quota else true())

        def summed(value: ColumnElement[Any], *where: ColumnElement[bool]) -> ColumnElement[Any]:
            return sum_of(case((and_(*where), value), else_=0))

        one = literal(1, Integer)
        row = (
            await self.rows(
                select(
                    summed(one, chosen).label("users"),
                    summed(one, raised).label("raised"),
                    summed(q, not_(chosen), q > 0).label("kept"),
                ).where(t.mailbox.c.domain.in_(names))
            )
        )[0]
        return Sizes(int(row["users"]), int(row["raised"]), int(row["kept"]))

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> Mapping[str, Any]:
        m = t.mailbox.c
        names = {name: name for name in ("language", "transport", "password", "quota")}
        values: dict[str, Any] = {names[name]: changes[name] for name in changes if name in names}
        if "account_status" in changes:
            values["active"] = int(changes["account_status"])
        chosen = [m.domain.in_(await self.domain_names(m.domain, domain))]
        if but:
            chosen.append(m.username.not_in(sorted(but)))
        differences = {
            name: differs(m[name], literal(value, m[name].type), self.dialect)
            for name, value in values.items()
        }
        if not differences:
            return {}
        compared: list[ColumnElement[Any]] = [
            select(m.username).where(*chosen, different).exists().label(name)
            for name, different in differences.items()
        ] + [
            _extreme(aggregate, m[name], *chosen, differences[name]).label(f"{prefix}_{name}")
            for name in sorted(differences.keys() - {"password"})
            for prefix, aggregate in (("least", func.min), ("most", func.max))
        ]
        row = (await self.rows(select(*compared)))[0]
        values = {name: value for name, value in values.items() if row[name]}
        if not values:
            return {}
        others = or_(*(differences[name] for name in values))
        moments = {"modified": now()}
        if "password" in values:
            moments["passwordlastchange"] = now()
        await self.update(t.mailbox, values | moments, *chosen, others)
        if "active" in values:
            await forwarding_status.switch_routes(self, *chosen, active=bool(values["active"]))
        return {
            name: row[f"least_{name}"]
            if name != "password" and row[f"least_{name}"] == row[f"most_{name}"]
            else None
            for name in values
        }

    async def rename(self, old: str, new: str) -> None:
        await removals.rename_user(self, old, new)

    async def remove(self, mail: str, removal: Removal) -> None:
        await removals.remove_user(self, mail, removal)


def _extreme(
    aggregate: Callable[..., ColumnElement[Any]],
    column: ColumnElement[Any],
    *where: ColumnElement[bool],
) -> ColumnElement[Any]:
    """Return the least or the greatest value of a column, where NULL counts as empty."""
    empty = literal(0 if isinstance(column.type, Integer) else "", column.type)
    return select(aggregate(func.coalesce(column, empty))).where(*where).scalar_subquery()
