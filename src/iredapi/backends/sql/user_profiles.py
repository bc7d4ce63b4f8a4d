"""Profiles and pages of mail users in ``vmail``: the SQL role ``UserListings``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    func,
    select,
    true,
)

from iredapi.backends.protocols.values import OwnRow, Profile
from iredapi.backends.sql import spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, in_domain, names_in
from iredapi.backends.sql.listing import Listed, ListingRepository
from iredapi.backends.sql.routes import is_alias_address
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.backends.sql.user_mapping import (
    record,
)
from iredapi.backends.sql.user_related_rows import (
    UNDECIDED,
    other_aliases,
    profile,
    routes,
    select_related_rows,
)
from iredapi.database.bulk_parameters import (
    ANY_NUMBER,
    array_parameters,
    numbered_parameters,
    padded,
    rows_of_arrays,
    texts,
)
from iredapi.database.repository import convert_row
from iredapi.domain import account_settings, services
from iredapi.domain.addresses import fold
from iredapi.domain.listing import ListQuery
from iredapi.domain.moments import utc_text
from iredapi.domain.users import User

_SEEN = ("imap", "pop3", "lda")
_OWN = (
    "username", "password", "name", "first_name", "last_name", "active", "quota", "language",
    "employeeid", "mailboxformat", "mailboxfolder",
)  # fmt: skip
"""The columns of ``OwnRow``; older servers lack some."""


class SqlUserProfiles(ListingRepository):
    """See ``protocols.accounts.UserListings``."""

    async def _related_rows(self, mail: str) -> RelatedRows:
        names = names_of(mail)
        if len(names) > 1:
            return await self.read_related_rows(select_related_rows(names))
        return RelatedRows(
            (await self.table("users.related rows", select_related_rows, mail=mail))[1]
        )

    def fields(self) -> Collection[str]:
        return {*self._mailbox_columns(), "accountStatus", "enabled_services"}

    def listed(self, query: ListQuery) -> Listed:
        """Return how users are listed."""
        m, q = t.mailbox.c, self.quota_table.c
        table: Any = t.mailbox
        if query.sort == "used":
            table = table.outerjoin(self.quota_table, q.username == m.username)
        return Listed(
            key=m.username,
            domain=m.domain,
            table=table,
            texts=(m.username, m.name, m.employeeid),
            sorts={"name": m.name, "quota": m.quota, "used": func.coalesce(q.bytes, 0)},
        )

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self.named(names)
        return {name: self._to_response(dict(row)) for name, row in found.items()}

    async def records_of(self, names: Sequence[str]) -> Mapping[str, User]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self.read_related_rows(select_related_rows([*found]))
        return {name: record(row, related_rows) for name, row in found.items()}

    async def own_fields(self, mails: Sequence[str]) -> Mapping[str, OwnRow]:
        asked, wanted = [{"mail": mail} for mail in mails], frozenset(mails)
        arrays = self.dialect == "postgresql"
        size = ANY_NUMBER if arrays else padded(len(mails))
        columns, rows = await self.table(
            ("users.own fields", size),
            lambda: self._select_own(size),
            **(array_parameters(asked) if arrays else numbered_parameters(asked, size)),
        )
        places = [columns.index(name) if name in columns else -1 for name in _OWN]
        # MariaDB's equality ignores case, accents and trailing blanks.
        return {row[0]: _own_fields(row, places) for row in rows if row[0] in wanted}

    def _select_own(self, size: int) -> Select[Any]:
        username, chosen = t.mailbox.c.username, select(*self._own_columns())
        if size != ANY_NUMBER:
            return chosen.where(username.in_(texts("mail", size)))
        asked = rows_of_arrays("asked", {"mail": username.type})
        # One search in the index for each: the whole table would be read for some hundreds.
        found = chosen.where(username == asked.c.mail).limit(1).lateral("found")
        return select(*found.c).select_from(asked.join(found, true()))

    def _own_columns(self) -> list[ColumnElement[Any]]:
        there = {column.name: column for column in self.schema.columns(t.mailbox)}
        return [there[name] for name in _OWN if name in there]

    async def profile(self, mail: str) -> Profile | None:
        m = t.mailbox.c
        return await self.find(m.username, mail, self._read_profile, domain_column=m.domain)

    async def _read_profile(self, mail: str) -> Profile | None:
        columns, rows = await self.fetch_batched(
            ("users.profile", self.quota_table.name),
            lambda: profile(self.schema, self.quota_table, self.dialect),
            mail=mail,
            **spellings.spelling_parameters([fold(mail)], self.dialect, self.schema),
        )
        # MariaDB's equality ignores case, accents and trailing blanks.
        folded = fold(mail)
        mine = [row for row in rows if _is(row[0], folded)]
        if not mine:
            return None
        answer, kinds = self._profile(folded, columns, mine)
        if UNDECIDED in kinds:
            answer |= await self._routes(mail)
        if len(names_of(mail)) > 1:
            related_rows = await self._related_rows(mail)
            answer["forwardings"] = sorted({*related_rows.texts(mail, "forwarding")})
            answer["aliases"] = sorted({*related_rows.texts(mail, "alias")})
        if "spelled" in kinds or ("forwardings", "forwarding") in self.schema.exact:
            others = await self._other_alias_addresses(mail)
            answer["aliases"] = sorted({*answer["aliases"], *others})
        return answer

    async def _routes(self, mail: str) -> Profile:
        _, rows = await self.fetch_batched("users.routes", routes, mail=mail)
        folded, found = fold(mail), {"forwarding": set[str](), "alias": set[str]()}
        for kind, owner, text, _number in rows:
            if _is(owner, folded):
                found[kind].add(text)
        return {"forwardings": sorted(found["forwarding"]), "aliases": sorted(found["alias"])}

    async def _other_alias_addresses(self, mail: str) -> set[str]:
        f = t.forwardings.c
        if ("forwardings", "forwarding") in self.schema.exact:
            stored = await self.exact_spellings(f.forwarding, [fold(mail)])
            chosen = select(f.address).where(f.forwarding.in_(stored), is_alias_address())
            return {text for text in await self.column(chosen) if fold(text) != fold(mail)}
        _, rows = await self.table(
            "users.other aliases",
            lambda: other_aliases(self.dialect, self.schema),
            mail=mail,
            **spellings.spelling_parameters([fold(mail)], self.dialect, self.schema),
        )
        return {row[2] for row in rows}

    def _profile(
        self, mail: str, columns: Sequence[str], rows: Sequence[Any]
    ) -> tuple[Profile, Collection[str]]:
        """Convert the result of ``profile``; returns also the kinds of its related rows."""
        positions = self.schema.statement(
            ("users.positions", self.quota_table.name), lambda: self._positions(columns)
        )
        # Joined columns come after those of ``mailbox``, which may have the same names.
        own = self._mailbox_columns()
        answer = self._to_response(dict(zip(own, rows[0], strict=False)), own)
        absent = (None,) * len(columns)

        def of(owner: str) -> Sequence[Any]:
            """Return the row of this user that joins the table whose owner this is."""
            at = positions[owner]
            for row in rows:
                # MariaDB joins rows of users in other spellings, too.
                if _is(row[at], mail):
                    return row  # type: ignore[no-any-return]
            return absent

        related_rows: dict[str, set[str]] = {"forwarding": set(), "alias": set(), "managed": set()}
        kind, owner, text = positions["kind"], positions["owner"], positions["text"]
        for row in rows:
            if row[owner] == mail or _is(row[owner], mail):
                related_rows.setdefault(row[kind], set()).add(row[text])
        seen = [0, 0, 0]
        if "seen_by" in positions:
            row = of("seen_by")
            seen = [at if isinstance(at := row[positions[name]], int) else 0 for name in _SEEN]
        usage = of("quota_of")
        managed = sorted(related_rows["managed"])
        answer["forwardings"] = sorted(related_rows["forwarding"])
        answer["aliases"] = sorted(related_rows["alias"])
        answer["sender_bcc"] = of("sender_of")[positions["sender_bcc"]] or ""
        answer["recipient_bcc"] = of("recipient_of")[positions["recipient_bcc"]] or ""
        answer["outbound_relay"] = of("relay_of")[positions["relayhost"]] or ""
        answer["stored_bytes"] = int(usage[positions["bytes"]] or 0)
        answer["stored_messages"] = int(usage[positions["messages"]] or 0)
        answer["last_login"] = utc_text(max(seen[0], seen[1]))
        answer["last_login_by_service"] = {
            name: utc_text(at) for name, at in zip(_SEEN, seen, strict=True)
        }
        answer["isglobaladmin"] = int(answer["isglobaladmin"] == 1 or "ALL" in managed)
        answer["managed_domains"] = [domain for domain in managed if domain != "ALL"]
        return answer, related_rows

    def _positions(self, columns: Sequence[str]) -> dict[str, int]:
        width = len(self._mailbox_columns())
        return {name: position for position, name in enumerate(columns[width:], width)}

    def _mailbox_columns(self) -> tuple[str, ...]:
        return self.schema.statement(
            "users.columns", lambda: tuple(str(c.name) for c in self.schema.columns(t.mailbox))
        )

    def _to_response(self, answer: dict[str, Any], names: Sequence[str] = ()) -> Profile:
        """Convert a row, which nobody else uses; ``names`` are its columns, if they are known."""
        convert_row(answer, names or list(answer))
        text = answer["settings"]
        answer["settings"] = (
            account_settings.to_response(account_settings.parse(text)) if text else {}
        )
        answer["accountStatus"] = "active" if answer["active"] == 1 else "disabled"
        switches, values = self.schema.statement("users.switches", self._switches)
        answer["enabled_services"] = list(_services(switches, values(answer)))
        return answer

    def _switches(self) -> tuple[tuple[str, ...], Callable[[Profile], tuple[Any, ...]]]:
        """Return the columns of services, and what reads their values."""
        names = self._mailbox_columns()
        found = tuple(f"enable{name}" for name in services.MANAGED if f"enable{name}" in names)
        return found, itemgetter(*found)

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        return [self._to_response(row) for row in rows]

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[User]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        if not rows:
            return []
        related_rows = await self.read_related_rows(
            select_related_rows([row["username"] for row in rows])
        )
        return [record(row, related_rows) for row in rows]

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


def _own_fields(row: Sequence[Any], places: Sequence[int]) -> OwnRow:
    values = [("" if row[at] is None else row[at]) if at >= 0 else "" for at in places]
    return OwnRow._make((*values[:5], values[5] == 1, int(values[6] or 0), *values[7:]))


def _is(stored: str | None, mail: str) -> bool:
    # Most texts are equal as they are; folding costs more.
    return stored == mail or (stored is not None and fold(stored) == mail)


def _page(columns: Sequence[Any], names: Sequence[str], *, disabled_only: bool) -> Select[Any]:
    m = t.mailbox.c
    where = [in_domain(m.domain, names), m.username > bindparam("after")]
    if disabled_only:
        where.append(m.active != 1)
    return select(*columns).where(*where).order_by(m.username)


@lru_cache(maxsize=1024)
def _services(switches: tuple[str, ...], values: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the enabled services; cached, because few combinations are in use."""
    present = [name.removeprefix("enable") for name in switches]
    on = [name for name, value in zip(present, values, strict=True) if value in (1, "y", "Y")]
    return tuple(services.service_names(on, present))
