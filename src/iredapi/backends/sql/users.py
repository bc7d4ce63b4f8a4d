"""Mail users in ``vmail``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
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
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.protocols.accounts import Profile, Removal
from iredapi.backends.sql import cascade as removals
from iredapi.backends.sql import forwarding_status, mailbox_paths, user_with_domain
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import (
    RelatedRows,
    Store,
    in_domain,
    names_in,
    names_of,
    owned,
)
from iredapi.backends.sql.domains import record as domain_record
from iredapi.backends.sql.routes import is_alias_address, is_forward
from iredapi.backends.sql.user_mapping import (
    COLUMNS,
    FLAGS,
    OPTIONAL,
    addition,
    new_values,
    service_value,
)
from iredapi.backends.sql.user_related_rows import profile, side_values
from iredapi.database.bulk_parameters import numbered, padded
from iredapi.database.compiled_statement import Statement
from iredapi.database.connection import Row
from iredapi.database.dialect import MYSQL, differs, is_retryable, without_waiting
from iredapi.database.repository import chunks, now, shown
from iredapi.database.text_matching import is_like
from iredapi.domain import account_settings, services
from iredapi.domain.addresses import domain_of, fold, typed
from iredapi.domain.domains import Domain
from iredapi.domain.limits import Sizes
from iredapi.domain.mailbox_paths import Location
from iredapi.domain.moments import utc_text
from iredapi.domain.users import User

NEVER = datetime(1970, 1, 1, 1, 1, 1)  # noqa: DTZ001 (the tables hold no zone)
"""The sentinel of ``passwordlastchange`` that makes iRedAPD ask for a new password."""

_MOMENTS = {"modified": "", "passwordlastchange": "password"}
"""Columns that tell when one was written, or (empty) any."""
_SEEN = ("imap", "pop3", "lda")
_OWNERS = ("quota_of", "seen_by", "relay_of", "sender_of", "recipient_of")
"""Whose row of another table came along with a profile."""


_SWITCHES = tuple(f"enable{name}" for name in sorted(services.MANAGED))


class SqlUsers(Store):
    """See ``protocols.Users``."""

    _versions: Mapping[str, tuple[str, str]] = {}
    """Of the rows of users and of their domains, which are not held."""

    async def get(self, mail: str) -> User | None:
        return await self._read(mail, lock=False)

    async def claim(self, mail: str) -> User | None:
        return await self._read(mail, lock=True)

    def lacking(self, changes: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
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
            return Domain(""), await self._read(mail, lock=True)  # it is in no domain
        m, d = t.mailbox.c, t.domain.c
        name = domain.name if domain else await self.spelling(d.domain, domain_of(mail))
        if name is None:
            return None, None
        stored = await self.spelling(m.username, mail, *await self.at_home(m.domain, mail))
        domain, user = await self._with_domain(name, stored or mail, hold_domain=hold_domain)
        # What belongs to it stands under its folded name, too.
        return domain, None if user is None else await self._exact(user.mail)

    async def _with_domain(
        self, name: str, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        home = Row(t.domain.c.domain, name, share=not hold_domain)
        await self.hold_rows(home, Row(t.mailbox.c.username, mail))
        # A statement of its own: who waited for a row sees what was done before it was free.
        _, rows = await self.table(
            "users.home", lambda: user_with_domain.whole(self.schema), name=name, mail=mail
        )
        found = user_with_domain.split(self.schema, rows, name, mail)
        if found is None:
            return None, None
        related_rows = RelatedRows(found.related_rows)
        user = None if found.user is None else self._record(found.user, related_rows)
        return domain_record(found.domain, related_rows), user

    async def update_without_read(
        self, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, frozenset[str]]:
        moment, told = now(), dict[str, frozenset[str]]()
        alike: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
        for mail, fields in changes:
            values = {f"m_{COLUMNS[name]}": value for name, value in fields.items()}
            values |= dict.fromkeys((f"m_{name}" for name in _MOMENTS), moment)
            alike.setdefault(tuple(sorted(fields)), {})[mail] = values | {"mail": mail}
        for fields_, some in sorted(alike.items()):
            told |= await self._write_without_read(fields_, some)
        return told

    async def _write_without_read(
        self, fields: tuple[str, ...], some: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, frozenset[str]]:
        """Write where there is a difference; who is out of the ordinary is not in the answer."""
        there = self.schema.statement(("users.unseen", fields), lambda: self._without_read(fields))
        if not there:
            return {}  # a server without these columns
        if self.dialect == "postgresql":
            return self._compared(there, await self._update_without_read(there, some))
        if len(there) > 1 or (self.dialect in MYSQL and len(some) > 1):
            # Which of them are different is not to be learned from an update.
            found = self._compared(there, await self._compare_without_read(there, some))
            different = {mail: some[mail] for mail, names in found.items() if names}
            count = await self._count_without_read(there, different) if different else 0
            if count == len(different):
                return found
            # Somebody was faster, or holds one of the rows: they go by themselves, but for those
            # who are as they are to be.
            now_ = self._compared(there, await self._compare_without_read(there, different))
            return {
                mail: names
                for mail, names in found.items()
                if not names or (count and now_.get(mail) == frozenset())
            }
        written = await self._written_without_read(there, some)
        found = {mail: frozenset(there.values()) for mail in written}
        if left := {mail: values for mail, values in some.items() if mail not in written}:
            others = self._compared(there, await self._compare_without_read(there, left))
            found |= {mail: names for mail, names in others.items() if not names}
        return found

    def _without_read(self, fields: tuple[str, ...]) -> Mapping[str, str]:
        """Return the columns of fields that are there, and their fields."""
        names = {COLUMNS[name]: name for name in fields}
        return {
            column: names[column] for column in self.schema.values(t.mailbox, dict.fromkeys(names))
        }

    def _moments(self, columns: Collection[str]) -> Mapping[str, str]:
        wanted = {name: of for name, of in _MOMENTS.items() if not of or of in columns}
        there = self.schema.values(t.mailbox, dict.fromkeys(wanted))
        return {name: wanted[name] for name in there}

    @staticmethod
    def _compared(columns: Mapping[str, str], rows: Sequence[Any]) -> dict[str, frozenset[str]]:
        return {
            row[0].lower(): frozenset(
                name for name, different in zip(columns.values(), row[1:], strict=True) if different
            )
            for row in rows
        }

    async def _compare_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> Sequence[Any]:
        size, names = padded(len(some)), tuple(columns)
        return (
            await self.fetch_batched(
                ("users.compare unseen", names, size),
                lambda: user_with_domain.compare_without_read(names, size, self.dialect),
                **numbered(list(some.values()), size),
            )
        )[1]

    def _update(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Any, Callable[[], Statement], Mapping[str, Any]]:
        size, names = padded(len(some)), tuple(columns)
        build = partial(
            user_with_domain.update_all_without_read,
            names,
            self._moments(names),
            size,
            self.dialect,
        )
        values = numbered(list(some.values()), size)
        return ("users.save unseen", names, size), build, values

    async def _update_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> list[Any]:
        key, build, values = self._update(columns, some)
        return await self.execute_autocommit(key, build, **values)

    async def _count_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> int:
        if self.dialect not in MYSQL:
            return len(await self._update_without_read(columns, some))
        key, build, values = self._update(columns, some)
        try:
            return await self.count(key, build, without_waiting(self.engine_dialect), **values)
        except DBAPIError as error:
            if error.connection_invalidated or not is_retryable(error):
                raise
            return 0  # somebody holds one of the rows

    async def _written_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> set[str]:
        if self.dialect in MYSQL:
            return set(some) if await self._count_without_read(columns, some) else set()
        return {row[0] for row in await self._update_without_read(columns, some)}

    async def read_with_domain(
        self, mails: Sequence[str]
    ) -> list[tuple[Domain | None, User | None]]:
        every = await self.fetch_batched_for_each(
            "users.rows",
            lambda: user_with_domain.rows(self.schema),
            [{"name": domain_of(mail), "mail": mail} for mail in mails],
        )
        found: list[tuple[Domain | None, User | None]] = []
        versions = {}
        for mail, rows in zip(mails, every, strict=True):
            home = user_with_domain.split_rows(self.schema, rows)
            if home is None:
                found.append((None, None))
                continue
            versions[mail] = home.versions
            related_rows = RelatedRows(home.related_rows)
            found.append(
                (domain_record(home.domain, related_rows), self._record(home.user, related_rows))
            )
        self._versions = versions
        return found

    async def save_rows(self, pairs: Sequence[tuple[User, User]]) -> frozenset[str]:
        written = {before.mail for before, after in pairs if before == after}
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for before, after in pairs:
            if before.mail in written:
                continue
            there = self.schema.values(t.mailbox, _row_changes(before, after))
            home, user = self._versions[before.mail]
            values = {f"m_{name}": value for name, value in there.items()}
            values |= {"mail": before.mail, "name": domain_of(before.mail)}
            values |= {"home_version": home, "user_version": user}
            alike.setdefault(tuple(there), []).append(values)
        for columns, every in sorted(alike.items()):
            done = await self.fetch_batched_for_each(
                ("users.save unchanged", columns),
                partial(user_with_domain.update_unchanged, columns),
                every,
            )
            written.update(values["mail"] for values, rows in zip(every, done, strict=True) if rows)
        return frozenset(written)

    async def _row(self, mail: str, *, lock: bool = False) -> Mapping[str, Any] | None:
        rows = await self.plain(
            ("users.row", lock), lambda: self._row_by_mail(lock=lock), mail=mail
        )
        # MariaDB compares without regard to case, accents and trailing blanks.
        return rows[0] if rows and fold(rows[0]["username"]) == fold(mail) else None

    def _row_by_mail(self, *, lock: bool) -> Select[Any]:
        columns = self.schema.columns(t.mailbox)
        statement = select(*columns).where(t.mailbox.c.username == bindparam("mail"))
        return statement.with_for_update() if lock else statement

    async def _read(self, mail: str, *, lock: bool) -> User | None:
        m = t.mailbox.c
        read = partial(self._exact, lock=lock)
        return await self.find(m.username, mail, read, home=m.domain)

    async def _exact(self, mail: str, *, lock: bool = False) -> User | None:
        row = await self._row(mail, lock=lock)
        return None if row is None else self._record(row, await self._related_rows(mail))

    def _record(self, row: Mapping[str, Any], related_rows: RelatedRows) -> User:
        mail = row["username"]
        texts: dict[str, Any] = {name: row.get(column) or "" for name, column in COLUMNS.items()}
        del texts["quota"]
        managed: frozenset[str] = frozenset()
        if related_rows:
            managed = frozenset(related_rows.texts(mail, "managed"))
            texts |= {
                "forwardings": frozenset(related_rows.texts(mail, "forwarding")),
                "aliases": frozenset(related_rows.texts(mail, "alias")),
                "sender_bcc": related_rows.text(mail, "sender_bcc"),
                "recipient_bcc": related_rows.text(mail, "recipient_bcc"),
                "managed_domains": managed - {"ALL"},
            }
        is_global = bool(row["isglobaladmin"])
        return User(
            mail=mail,
            **texts,
            quota=int(row["quota"]),
            active=bool(row["active"]),
            is_admin=bool(row["isadmin"]),
            is_global=is_global or "ALL" in managed,
            marks_agree=is_global == ("ALL" in managed),
            location=Location(row["storagebasedirectory"], row["storagenode"], row["maildir"]),
            services=_managed_services(tuple([row.get(column) for column in _SWITCHES])),
        )

    async def _related_rows(self, mail: str) -> RelatedRows:
        names = names_of(mail)
        if len(names) > 1:
            return await self.read_related_rows(side_values(names))
        return RelatedRows((await self.table("users.sides", side_values, mail=mail))[1])

    async def other_aliases(self, mail: str) -> frozenset[str]:
        f = t.forwardings.c
        return frozenset(
            await self.column(
                select(f.address).where(
                    is_alias_address(), is_like(f.forwarding, [mail]), f.address != mail
                )
            )
        )

    async def profile(self, mail: str) -> Profile | None:
        m = t.mailbox.c
        return await self.find(m.username, mail, self._whole, home=m.domain)

    async def _whole(self, mail: str) -> Profile | None:
        columns, rows = await self.fetch_batched(
            ("users.profile", self.quota_table.name),
            lambda: profile(self.schema, self.quota_table),
            mail=mail,
        )
        # MariaDB compares without regard to case, accents and trailing blanks.
        folded = fold(mail)
        mine = [row for row in rows if fold(row[0]) == folded]
        if not mine:
            return None
        answer = self._profile(folded, columns, mine)
        if len(names_of(mail)) > 1:
            related_rows = await self._related_rows(mail)
            answer["forwardings"] = sorted({*related_rows.texts(mail, "forwarding")})
            answer["aliases"] = sorted({*related_rows.texts(mail, "alias")})
        return answer

    def _profile(self, mail: str, columns: Sequence[str], rows: Sequence[Any]) -> Profile:
        width, places = self.schema.statement(
            ("users.places", columns), lambda: self._places(columns)
        )
        first = rows[0]
        answer = self._shown(dict(zip(self._mailbox_columns(), first[:width], strict=True)))
        owners = [places[name] for name in _OWNERS if name in places]
        if len(rows) == 1:
            # A table's row counts when it names this user, for MariaDB in any case of letters.
            own = {at: first for at in owners if fold(first[at] or "") == mail}
        else:
            own = {
                at: row for row in reversed(rows) for at in owners if fold(row[at] or "") == mail
            }

        def of(owner: str, *names: str) -> list[Any]:
            row = own.get(places.get(owner, -1))
            return [None if row is None else row[places[name]] for name in names]

        related_rows: dict[str, set[str]] = {"forwarding": set(), "alias": set(), "managed": set()}
        kind, owner, text = places["kind"], places["owner"], places["text"]
        for row in rows:
            if row[kind] is not None and fold(row[owner]) == mail:
                related_rows[row[kind]].add(row[text])
        stored_bytes, messages = of("quota_of", "bytes", "messages")
        seen = [at if isinstance(at, int) else 0 for at in of("seen_by", *_SEEN)]
        managed = sorted(related_rows["managed"])
        answer["forwardings"] = sorted(related_rows["forwarding"])
        answer["aliases"] = sorted(related_rows["alias"])
        answer["sender_bcc"] = of("sender_of", "sender_bcc")[0] or ""
        answer["recipient_bcc"] = of("recipient_of", "recipient_bcc")[0] or ""
        answer["outbound_relay"] = of("relay_of", "relayhost")[0] or ""
        answer["stored_bytes"] = int(stored_bytes or 0)
        answer["stored_messages"] = int(messages or 0)
        answer["last_login"] = utc_text(max(seen[0], seen[1]))
        answer["last_login_by_service"] = {
            name: utc_text(at) for name, at in zip(_SEEN, seen, strict=True)
        }
        answer["isglobaladmin"] = int(bool(answer["isglobaladmin"]) or "ALL" in managed)
        answer["managed_domains"] = [domain for domain in managed if domain != "ALL"]
        return answer

    def _places(self, columns: Sequence[str]) -> tuple[int, dict[str, int]]:
        # The names of joined columns may be names of the mailbox's: they come after it.
        width = len(self._mailbox_columns())
        return width, {name: place for place, name in enumerate(columns[width:], width)}

    def _mailbox_columns(self) -> tuple[str, ...]:
        return self.schema.statement(
            "users.columns", lambda: tuple(str(c.name) for c in self.schema.columns(t.mailbox))
        )

    def _shown(self, row: dict[str, Any]) -> Profile:
        answer = shown(row)
        text = row["settings"]
        answer["settings"] = account_settings.shown(account_settings.parse(text)) if text else {}
        answer["accountStatus"] = "active" if row["active"] else "disabled"
        switches = self.schema.statement("users.switches", self._switches)
        answer["enabled_services"] = list(_services(switches, tuple([row[c] for c in switches])))
        return answer

    def _switches(self) -> tuple[str, ...]:
        names = self._mailbox_columns()
        return tuple(f"enable{name}" for name in services.MANAGED if f"enable{name}" in names)

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
        related_rows = await self.read_related_rows(side_values([row["username"] for row in rows]))
        return [self._record(row, related_rows) for row in rows]

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[dict[str, Any]]:
        names = await self.domain_names(t.mailbox.c.domain, domain)
        columns, rows = await self.page_of(
            ("users.page", disabled_only, len(names)),
            lambda: _page(self.schema.columns(t.mailbox), names, disabled_only=disabled_only),
            after,
            limit,
            order=self._mailbox_columns().index("username"),
            **names_in(names),
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def mails(self, domain: str, after: str, limit: int, *, disabled_only: bool) -> list[str]:
        names = await self.domain_names(t.mailbox.c.domain, domain)
        _, rows = await self.page_of(
            ("users.mails", disabled_only, len(names)),
            lambda: _page([t.mailbox.c.username], names, disabled_only=disabled_only),
            after,
            limit,
            **names_in(names),
        )
        return [row[0] for row in rows]

    async def password(self, mail: str) -> str:
        m = t.mailbox.c
        rows = await self.plain(
            "users.password",
            lambda: select(m.username, m.password).where(m.username == bindparam("mail")),
            mail=mail,
        )
        return next((row["password"] for row in rows if row["username"].lower() == mail), "")

    async def allocated(self, domain: str, *, but: str = "") -> int:
        m = t.mailbox.c
        rows = await self.rows(
            select(func.coalesce(func.sum(m.quota), 0).label("sum")).where(
                m.domain.in_(await self.domain_names(m.domain, domain)),
                m.username != but,
                m.quota > 0,
            )
        )
        return int(rows[0]["sum"])

    async def paths_near(self, path: str, *, but: str = "") -> list[str]:
        return await mailbox_paths.near(self, path, but=but)

    async def unqueue(self, path: str) -> None:
        await mailbox_paths.unqueue(self, path)

    async def add(self, user: User, *, groups: Iterable[str], changed: datetime | None) -> None:
        await self.add_plain([user], changed=changed)
        kept = frozenset({user.mail})
        await self._save_related_rows(User(user.mail, active=user.active, forwardings=kept), user)
        if not (wanted := sorted(groups)):
            return
        a = t.alias.c
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
                    "active": int(user.active and bool(row["active"])),
                }
                for row in lists
            ],
        )

    async def add_plain(self, users: Sequence[User], *, changed: datetime | None) -> None:
        moment = now()
        usual = all(user.services == services.MANAGED for user in users)
        values = [
            new_values(self.schema, user, moment, changed or NEVER, usual=usual) for user in users
        ]
        names = tuple(values[0])
        size = 1 if self.dialect == "postgresql" else len(values)
        build = partial(addition, self.schema, names, size, self.dialect, usual=usual)
        if size < len(values):
            await self.change_for_each(("users.add", names, size), build, values)
        else:
            await self.change_all(("users.add", names, size), build, **numbered(values))

    async def save(self, before: User, after: User) -> None:
        if before == after:
            return
        values = _row_changes(before, after)
        await self._write_row(before.mail, values)
        await self._save_related_rows(before, after)
        if before.active != after.active:
            await forwarding_status.follow(
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
            await self._wake_own_route(before.mail)
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

    async def _wake_own_route(self, mail: str) -> None:
        """Let Postfix see the route to a user's own mailbox, before it sees others.

        While it sees none it delivers to the mailbox all the same: a row that is switched off, or
        is in no domain, makes no difference until another one comes.
        """
        f, d = t.forwardings.c, t.domain.c
        seen = select(f.id).where(owned(f.address, mail), f.active == 1, f.domain == d.domain)
        if not await self.rows(seen.limit(1)):
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
            return func.coalesce(func.sum(case((and_(*where), value), else_=0)), 0)

        one = literal(1, Integer)
        row = (
            await self.rows(
                select(
                    summed(one, chosen).label("users"),
                    summed(one, raised).label("raised"),
                    summed(q, not_(chosen), q > 0).label("spared"),
                ).where(t.mailbox.c.domain.in_(names))
            )
        )[0]
        return Sizes(int(row["users"]), int(row["raised"]), int(row["spared"]))

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> frozenset[str]:
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
            return frozenset()
        compared = [
            func.coalesce(func.max(case((different, 1), else_=0)), 0).label(name)
            for name, different in differences.items()
        ]
        row = (await self.rows(select(*compared).where(*chosen)))[0]
        values = {name: value for name, value in values.items() if row[name]}
        if not values:
            return frozenset()
        others = or_(*(differences[name] for name in values))
        moments = {"modified": now()}
        if "password" in values:
            moments["passwordlastchange"] = now()
        await self.update(t.mailbox, values | moments, *chosen, others)
        if "active" in values:
            await forwarding_status.follow(self, *chosen, active=bool(values["active"]))
        return frozenset(values)

    async def globals_in(self, domain: str) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        return frozenset(
            await self.column(
                select(m.username).where(
                    is_like(m.domain, [domain]),
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
                    m.domain.in_(await self.domain_names(m.domain, domain)),
                    m.username.in_(
                        select(d.username).where(d.domain.not_in([*sorted(managed), ""]))
                    ),
                )
            )
        )

    async def admins_in(self, domain: str) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        marked = or_(m.isadmin == 1, m.isglobaladmin == 1, m.username.in_(select(d.username)))
        names = await self.domain_names(m.domain, domain)
        found = select(m.username).where(m.domain.in_(names), marked)
        return frozenset(await self.column(found))

    async def rename(self, old: str, new: str) -> None:
        await removals.rename_user(self, old, new)

    async def remove(self, mail: str, removal: Removal) -> None:
        await removals.remove_user(self, mail, removal)


def _row_changes(before: User, after: User) -> dict[str, Any]:
    """Return what changes in the user's row."""
    values: dict[str, Any] = {
        column: getattr(after, name)
        for name, column in COLUMNS.items()
        if getattr(before, name) != getattr(after, name)
    }
    values |= {
        column: int(getattr(after, name))
        for name, column in FLAGS.items()
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
        f"enable{name}": service_value(name, on=name in after.services)
        for name in before.services ^ after.services
    }
    if "password" in values:
        values["passwordlastchange"] = now()
    values["modified"] = now()
    return values


def _page(columns: Sequence[Any], names: Sequence[str], *, disabled_only: bool) -> Select[Any]:
    m = t.mailbox.c
    where = [in_domain(m.domain, names), m.username > bindparam("after")]
    if disabled_only:
        where.append(m.active == 0)
    return select(*columns).where(*where).order_by(m.username)


@lru_cache(maxsize=1024)
def _managed_services(values: tuple[Any, ...]) -> frozenset[str]:
    """Return the columns of services that are on; values are in the order of ``_SWITCHES``."""
    return frozenset(
        column.removeprefix("enable")
        for column, value in zip(_SWITCHES, values, strict=True)
        if value in (1, "y", "Y")
    )


@lru_cache(maxsize=1024)
def _services(switches: tuple[str, ...], values: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the services that are on: few combinations are in use."""
    present = [name.removeprefix("enable") for name in switches]
    on = [name for name, value in zip(present, values, strict=True) if value in (1, "y", "Y")]
    return tuple(services.shown(on, present))
