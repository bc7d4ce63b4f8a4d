"""Mail users in ``vmail``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.protocols import Profile, Removal
from iredapi.backends.sql import activity, mailboxes
from iredapi.backends.sql import removal as removals
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.store import Sides, Store, chunks, now, shown
from iredapi.backends.sql.user_sides import profile_values, side_values
from iredapi.domain import services, settings_text
from iredapi.domain.addresses import domain_of
from iredapi.domain.maildirs import Location
from iredapi.domain.users import User

NEVER = datetime(1970, 1, 1, 1, 1, 1)  # noqa: DTZ001 (the tables hold no zone)
"""The sentinel of ``passwordlastchange`` that makes iRedAPD ask for a new password."""

_COLUMNS = {
    "password": "password",
    "name": "name",
    "given_name": "first_name",
    "surname": "last_name",
    "mobile": "mobile",
    "telephone": "telephone",
    "language": "language",
    "quota": "quota",
    "employee_id": "employeeid",
    "transport": "transport",
    "mailbox_format": "mailboxformat",
    "mailbox_folder": "mailboxfolder",
}
_FLAGS = {"active": "active", "is_admin": "isadmin", "is_global": "isglobaladmin"}


def _service_value(column: str, *, on: bool) -> int | str:
    if column in services.YES_NO_COLUMNS:
        return "y" if on else "n"
    return int(on)


class SqlUsers(Store):
    """See ``protocols.Users``."""

    async def get(self, mail: str) -> User | None:
        return await self._read(mail, lock=False)

    async def claim(self, mail: str) -> User | None:
        return await self._read(mail, lock=True)

    async def _row(self, mail: str, *, lock: bool = False) -> Mapping[str, Any] | None:
        statement = self.schema.statement(("users.row", lock), lambda: self._row_by_mail(lock=lock))
        rows = await self.rows(statement, mail=mail)
        # MariaDB compares without regard to case, accents and trailing blanks.
        return rows[0] if rows and rows[0]["username"].lower() == mail else None

    def _row_by_mail(self, *, lock: bool) -> Select[Any]:
        columns = self.schema.columns(t.mailbox)
        statement = select(*columns).where(t.mailbox.c.username == bindparam("mail"))
        return statement.with_for_update() if lock else statement

    async def _read(self, mail: str, *, lock: bool) -> User | None:
        row = await self._row(mail, lock=lock)
        return None if row is None else self._record(row, await self._sides(mail))

    def _record(self, row: Mapping[str, Any], sides: Sides) -> User:
        mail = row["username"].lower()
        managed = frozenset(sides.texts(mail, "managed"))
        texts: dict[str, Any] = {name: row.get(column) or "" for name, column in _COLUMNS.items()}
        del texts["quota"]
        return User(
            mail=mail,
            **texts,
            quota=int(row["quota"]),
            active=bool(row["active"]),
            is_admin=bool(row["isadmin"]),
            is_global=bool(row["isglobaladmin"]) or "ALL" in managed,
            marks_agree=bool(row["isglobaladmin"]) == ("ALL" in managed),
            location=Location(row["storagebasedirectory"], row["storagenode"], row["maildir"]),
            services=self._enabled(row),
            forwardings=frozenset(sides.texts(mail, "forwarding")),
            aliases=frozenset(sides.texts(mail, "alias")),
            sender_bcc=sides.text(mail, "sender_bcc"),
            recipient_bcc=sides.text(mail, "recipient_bcc"),
            managed_domains=managed - {"ALL"},
        )

    def _enabled(self, row: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(
            name for name in services.MANAGED if row.get(f"enable{name}") in (1, "y", "Y", True)
        )

    async def _sides(self, mail: str, *, of_profile: bool = False) -> Sides:
        statement = self.schema.statement(
            ("users.sides", of_profile, self.quota_table.name),
            lambda: profile_values(self.schema, self.quota_table) if of_profile else side_values(),
        )
        return await self.read_sides(statement, mail=mail)

    async def profile(self, mail: str) -> Profile | None:
        row = await self._row(mail)
        if row is None:
            return None
        sides = await self._sides(mail, of_profile=True)
        answer = self._shown(row) | {
            "forwardings": sides.texts(mail, "forwarding"),
            "aliases": sides.texts(mail, "alias"),
            "sender_bcc": sides.text(mail, "sender_bcc"),
            "recipient_bcc": sides.text(mail, "recipient_bcc"),
            "outbound_relay": sides.text(mail, "relay"),
            "stored_bytes": sides.number(mail, "bytes"),
            "stored_messages": sides.number(mail, "messages"),
        }
        times = {name: sides.number(mail, name) for name in ("imap", "pop3", "lda")}
        answer["last_login"] = _moment(max(times["imap"], times["pop3"]))
        answer["last_login_by_service"] = {name: _moment(at) for name, at in times.items()}
        managed = sides.texts(mail, "managed")
        answer["isglobaladmin"] = int(bool(row["isglobaladmin"]) or "ALL" in managed)
        answer["managed_domains"] = [domain for domain in managed if domain != "ALL"]
        return answer

    def _shown(self, row: Mapping[str, Any]) -> Profile:
        present = {name for name in services.MANAGED if f"enable{name}" in row}
        return shown(row) | {
            "settings": settings_text.shown(settings_text.parse(row["settings"])),
            "accountStatus": "active" if row["active"] else "disabled",
            "enabled_services": services.shown(self._enabled(row), present),
        }

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        return [self._shown(row) for row in rows]

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[User]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        if not rows:
            return []
        sides = await self.read_sides(side_values([row["username"] for row in rows]))
        return [self._record(row, sides) for row in rows]

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> Sequence[Mapping[str, Any]]:
        return await self.rows(
            select(*self.schema.columns(t.mailbox))
            .where(*_of_domain(domain, after, disabled_only=disabled_only))
            .order_by(t.mailbox.c.username)
            .limit(limit)
        )

    async def mails(self, domain: str, after: str, limit: int, *, disabled_only: bool) -> list[str]:
        return await self.column(
            select(t.mailbox.c.username)
            .where(*_of_domain(domain, after, disabled_only=disabled_only))
            .order_by(t.mailbox.c.username)
            .limit(limit)
        )

    async def allocated(self, domain: str, *, but: str = "") -> int:
        m = t.mailbox.c
        rows = await self.rows(
            select(func.coalesce(func.sum(m.quota), 0).label("sum")).where(
                m.domain == domain, m.username != but
            )
        )
        return int(rows[0]["sum"])

    async def paths_near(self, path: str, *, but: str = "") -> list[str]:
        return await mailboxes.near(self, path, but=but)

    async def paths_queued(self, mail: str) -> list[str]:
        return await mailboxes.queued(self, mail)

    async def unqueue(self, path: str) -> None:
        await mailboxes.unqueue(self, path)

    async def add(self, user: User, *, groups: Iterable[str], changed: datetime | None) -> None:
        moment = now()
        values: dict[str, Any] = {
            "username": user.mail,
            "domain": domain_of(user.mail),
            **{column: getattr(user, name) for name, column in _COLUMNS.items()},
            **{column: int(getattr(user, name)) for name, column in _FLAGS.items()},
            "storagebasedirectory": user.location.base,
            "storagenode": user.location.node,
            "maildir": user.location.maildir,
            "settings": "",
            "disclaimer": "",
            "created": moment,
            "modified": moment,
            "passwordlastchange": changed or NEVER,
        }
        values |= {
            f"enable{name}": _service_value(name, on=name in user.services)
            for name in services.MANAGED
        }
        await self.insert(t.mailbox, values)
        # Rights that another tool left behind must not come to life.
        await self.delete(t.domain_admins, t.domain_admins.c.username == user.mail)
        blank = User(user.mail, active=user.active)
        await self._save_sides(blank, user)
        a = t.alias.c
        lists = await self.rows(select(a.address, a.active).where(a.address.in_(sorted(groups))))
        await self.insert_missing(
            t.forwardings,
            [
                {
                    "address": row["address"],
                    "forwarding": user.mail,
                    "domain": domain_of(row["address"]),
                    "dest_domain": domain_of(user.mail),
                    "is_list": 1,
                    "active": int(user.active and bool(row["active"])),
                }
                for row in lists
            ],
        )

    async def save(self, before: User, after: User) -> None:
        if before == after:
            return
        values: dict[str, Any] = {
            column: getattr(after, name)
            for name, column in _COLUMNS.items()
            if getattr(before, name) != getattr(after, name)
        }
        values |= {
            column: int(getattr(after, name))
            for name, column in _FLAGS.items()
            if getattr(before, name) != getattr(after, name)
        }
        if before.marks_agree != after.marks_agree:
            values["isglobaladmin"] = int(after.is_global)
        if before.location != after.location:
            values |= {
                "storagebasedirectory": after.location.base,
                "storagenode": after.location.node,
                "maildir": after.location.maildir,
            }
        values |= {
            f"enable{name}": _service_value(name, on=name in after.services)
            for name in before.services ^ after.services
        }
        if "password" in values:
            values["passwordlastchange"] = now()
        values["modified"] = now()
        await self.update(t.mailbox, values, t.mailbox.c.username == before.mail)
        await self._save_sides(before, after)
        if before.active != after.active:
            await activity.follow(self, t.mailbox.c.username == after.mail, active=after.active)

    async def _save_sides(self, before: User, after: User) -> None:
        mail, f = before.mail, t.forwardings.c
        domain = domain_of(mail)
        for some in chunks(before.forwardings - after.forwardings):
            await self.delete(
                t.forwardings, f.address == mail, f.forwarding.in_(some), f.is_forwarding == 1
            )
        destinations = after.forwardings - before.forwardings
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
                t.forwardings, f.address.in_(some), f.forwarding == mail, f.is_alias == 1
            )
        new = after.aliases - before.aliases
        primaries = await self._primaries({domain_of(address) for address in new} - {domain})
        rows += [
            {
                "address": address,
                "forwarding": mail,
                # Postfix joins on a primary domain: an alias domain here is a dead address.
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
        return {row["name"]: row["target"] for row in rows}

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> None:
        m = t.mailbox.c
        names = {"language": "language", "transport": "transport", "password": "password"}
        values: dict[str, Any] = {names[name]: changes[name] for name in changes if name in names}
        if "account_status" in changes:
            values["active"] = int(changes["account_status"])
        if not values:
            return
        values["modified"] = now()
        if "password" in values:
            values["passwordlastchange"] = now()
        chosen: list[ColumnElement[bool]] = [m.domain == domain]
        if but:
            chosen.append(m.username.not_in(sorted(but)))
        await self.update(t.mailbox, values, *chosen)
        if "active" in values:
            await activity.follow(self, *chosen, active=bool(values["active"]))

    async def globals_in(self, domain: str) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        return frozenset(
            await self.column(
                select(m.username).where(
                    m.domain == domain,
                    or_(
                        m.isglobaladmin == 1,
                        m.username.in_(select(d.username).where(d.domain == "ALL")),
                    ),
                )
            )
        )

    async def admins_beyond(self, domain: str, managed: Collection[str]) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        return frozenset(
            await self.column(
                select(m.username).where(
                    m.domain == domain,
                    m.username.in_(
                        select(d.username).where(d.domain.not_in([*sorted(managed), ""]))
                    ),
                )
            )
        )

    async def rename(self, old: str, new: str) -> None:
        await removals.rename_user(self, old, new)

    async def remove(self, mail: str, removal: Removal) -> None:
        await removals.remove_user(self, mail, removal)


def _of_domain(domain: str, after: str, *, disabled_only: bool) -> list[ColumnElement[bool]]:
    m = t.mailbox.c
    where = [m.domain == domain, m.username > after]
    return [*where, m.active == 0] if disabled_only else where


def _moment(epoch: int) -> str | None:
    if not epoch:
        return None
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")
