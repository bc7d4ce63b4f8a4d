"""Removes and renames the data of accounts in the databases of Amavisd, iRedAPD and iRedAdmin.

Data of a removed account would silently apply to a new account with the same address. These
databases are always SQL, also with accounts in LDAP. One that is not configured is skipped.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import structlog
from sqlalchemy import Column, ColumnElement, Table, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.policies import tables as t
from iredapi.database.dialect import domain_of, insert_ignore
from iredapi.database.repository import now
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.domain.addresses import fold
from iredapi.domain.ownership import Proof
from iredapi.state.connections import StateUnavailable
from iredapi.state.pending_renames import Renames

Matcher = Callable[[ColumnElement[Any]], ColumnElement[bool]]
Remove = Callable[["SqlRelatedData", AsyncConnection, Matcher, str], Awaitable[None]]
Names = tuple[str, ...]

DATABASES: Final[Names] = ("amavisd", "iredapd", "iredadmin")
_ACCOUNTS: Final[Mapping[str, Sequence[Column[Any]]]] = {
    "amavisd": (t.users.c.email, t.policy.c.policy_name),
    "iredapd": (
        t.throttle.c.account,
        t.throttle_tracking.c.account,
        t.greylisting.c.account,
        t.greylisting_whitelists.c.account,
    ),
    "iredadmin": (t.settings.c.account, t.domain_ownership.c.admin),
}
"""Columns with the address of the account that a row belongs to, by database."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rename:
    old: str
    new: str
    repeated: bool
    """The same rename was started before and interrupted."""


class SqlRelatedData:
    """See ``protocols.related_data.RelatedData``."""

    def __init__(self, connections: Connections, renames: Renames) -> None:
        self._connections = connections
        self._renames = renames
        self._started: list[_Rename] = []
        self._is_rehearsal = False

    def rehearse(self) -> None:
        self._is_rehearsal = True

    async def _get(self, name: str) -> AsyncConnection | None:
        if not self._connections.databases.has(name):
            return None
        return await self._connections.get(name)

    async def _has(self, name: str, table: Table) -> bool:
        return (await self._connections.databases[name].schema()).has(table)

    async def remove_account_data(self, mail: str) -> None:
        def of_account(column: ColumnElement[Any]) -> ColumnElement[bool]:
            # This table is large, and iRedAPD writes it in lower case: compared exactly.
            exact = column is t.greylisting_tracking.c.recipient
            return column == mail if exact else is_like(column, [mail])

        await self._remove(of_account)

    async def remove_domain_data(self, domain: str) -> None:
        # Accounts are stored as "@domain" and "user@domain", by other programs also as "@.domain",
        # and in iRedAdmin's settings as the domain name.
        # What is for all domains below a top-level domain is not the domain's.
        names = [domain, *([f".{domain}"] if "." in domain else [])]
        await self._remove(lambda column: is_like(domain_of(column), names), domain)

    async def _remove(self, matches: Matcher, domain: str = "", names: Names = DATABASES) -> None:
        for name in names:
            if connection := await self._get(name):
                await self._REMOVE[name](self, connection, matches, domain)

    async def _remove_from_amavisd(
        self, amavisd: AsyncConnection, matches: Matcher, _domain: str
    ) -> None:
        ids = select(t.users.c.id).where(matches(t.users.c.email))
        found: list[int] = list((await amavisd.execute(ids)).scalars())
        for start in range(0, len(found), 500):
            some = found[start : start + 500]
            await amavisd.execute(delete(t.wblist).where(t.wblist.c.rid.in_(some)))
            await amavisd.execute(
                delete(t.outbound_wblist).where(t.outbound_wblist.c.sid.in_(some))
            )
            await amavisd.execute(delete(t.users).where(t.users.c.id.in_(some)))
        await amavisd.execute(delete(t.policy).where(matches(t.policy.c.policy_name)))

    async def _remove_from_iredapd(
        self, iredapd: AsyncConnection, matches: Matcher, domain: str
    ) -> None:
        throttles = select(t.throttle.c.id).where(matches(t.throttle.c.account))
        tracking = t.throttle_tracking.c
        # The foreign key does not cascade. The lock keeps iRedAPD from adding counters meanwhile.
        await iredapd.execute(throttles.with_for_update())
        await iredapd.execute(
            delete(t.throttle_tracking).where(
                or_(tracking.tid.in_(throttles), matches(tracking.account))
            )
        )
        for table in (t.throttle, t.greylisting, t.greylisting_whitelists):
            await iredapd.execute(delete(table).where(matches(table.c.account)))
        seen = t.greylisting_tracking.c
        of_domain = seen.rcpt_domain == domain if domain else matches(seen.recipient)
        await iredapd.execute(delete(t.greylisting_tracking).where(of_domain))

    async def _remove_from_iredadmin(
        self, iredadmin: AsyncConnection, matches: Matcher, domain: str
    ) -> None:
        if await self._has("iredadmin", t.settings):
            await iredadmin.execute(delete(t.settings).where(matches(t.settings.c.account)))
        if await self._has("iredadmin", t.domain_ownership):
            # A verified ownership stays verified; pending ones are removed.
            owned = t.domain_ownership.c
            rows = (
                or_(owned.domain == domain, owned.alias_domain == domain)
                if domain
                else matches(owned.admin)
            )
            await iredadmin.execute(delete(t.domain_ownership).where(rows, owned.verified == 0))

    _REMOVE: ClassVar[Mapping[str, Remove]] = {
        "amavisd": _remove_from_amavisd,
        "iredapd": _remove_from_iredapd,
        "iredadmin": _remove_from_iredadmin,
    }

    async def remove_admin_data(self, mail: str) -> None:
        iredadmin = await self._get("iredadmin")
        if iredadmin is None:
            return
        if await self._has("iredadmin", t.settings):
            await iredadmin.execute(delete(t.settings).where(is_like(t.settings.c.account, [mail])))
        if await self._has("iredadmin", t.domain_ownership):
            owned = t.domain_ownership.c
            mine = is_like(owned.admin, [mail])
            await iredadmin.execute(delete(t.domain_ownership).where(mine))

    async def rename_account(self, old: str, new: str) -> None:
        if self._is_rehearsal:
            repeated = await self._renames.has_begun(old, new)
        else:
            repeated = await self._renames.begin(old, new)
            self._started.append(_Rename(old, new, repeated))
        for name in DATABASES:
            connection = await self._get(name)
            if connection is None:
                continue
            columns = [
                column
                for column in _ACCOUNTS[name]
                if name != "iredadmin" or await self._has(name, column.table)
            ]
            if repeated and not await _has_settings(connection, columns, old):
                # The interrupted first attempt has moved the data to the new address already.
                # Since then the daemons may have written rows with the old address.
                await self._remove(lambda column: column == old, names=(name,))
                continue
            # No account has the new address, so data stored for it belong to a removed account.
            await self._remove(lambda column: column == new, names=(name,))
            if name == "iredadmin" and t.domain_ownership.c.admin in columns:
                # The new address has not verified any ownership.
                owned = t.domain_ownership
                await connection.execute(delete(owned).where(owned.c.admin == new))
            for column in columns:
                await connection.execute(
                    update(column.table).where(column == old).values({column.name: new})
                )
            if name == "iredapd":
                await _rename_greylisting_tracking(connection, old, new)

    @asynccontextmanager
    async def committing(self) -> AsyncIterator[None]:
        """Wrap the commit of all databases: a rename that is interrupted in it stays recorded."""
        started, self._started = self._started, []
        yield
        await self._end(started)

    async def discard_renames(self) -> None:
        """Remove the records of renames that were not committed, but not interrupted ones."""
        started, self._started = self._started, []
        await self._end(rename for rename in started if not rename.repeated)

    async def _end(self, renames: Iterable[_Rename]) -> None:
        for rename in renames:
            try:
                await self._renames.end(rename.old, rename.new)
            except StateUnavailable as error:
                # A repetition of the rename is answered with "no such account".
                _log.warning("rename_record_not_removed", reason=str(error))

    async def is_ownership_pending(self, domain: str) -> bool:
        found = await self.proofs(domain)
        # Without the table no ownership is verified. An admin of long ago may have verified it, but
        # not the one who has created the domain again.
        own = [proof.verified for proof in found or () if fold(proof.name) == fold(domain)]
        return not own or not all(own)

    async def proofs(self, domain: str) -> list[Proof] | None:
        iredadmin = await self._owners()
        if iredadmin is None:
            return None
        o = t.domain_ownership.c
        rows = await iredadmin.execute(
            select(o.admin, o.domain, o.alias_domain, o.verify_code, o.verified).where(
                o.domain == domain
            )
        )
        return [
            Proof(row.admin, row.alias_domain or row.domain, row.verify_code, bool(row.verified))
            for row in rows
        ]

    async def _owners(self) -> AsyncConnection | None:
        """Return the connection to iRedAdmin's database; None: it has no table of owners."""
        iredadmin = await self._get("iredadmin")
        if iredadmin is None or not await self._has("iredadmin", t.domain_ownership):
            return None
        return iredadmin

    async def add_pending_ownership(
        self, actor: Actor, domain: str, alias_domains: Collection[str], code: str
    ) -> None:
        iredadmin = await self._owners()
        if iredadmin is None:
            return
        rows = [
            {
                "admin": actor.username,
                "domain": domain,
                "alias_domain": alias,
                "verify_code": code,
                # iRedAdmin's cron job removes rows whose ``expire`` is seconds since the epoch.
                "expire": 0,
            }
            for alias in (sorted(alias_domains) or [""])
        ]
        dialect = self._connections.databases["iredadmin"].dialect
        if alias_domains:
            # An alias domain that is added again is proved again, with the code that it has.
            o = t.domain_ownership.c
            await iredadmin.execute(
                update(t.domain_ownership)
                .where(o.admin == actor.username, o.domain == domain)
                .where(o.alias_domain.in_(sorted(alias_domains)), o.verified == 1)
                .values(verified=0)
            )
        await iredadmin.execute(insert_ignore(t.domain_ownership, dialect), rows)

    async def verify_ownership(self, domain: str, codes: Mapping[str, str]) -> None:
        iredadmin = await self._owners()
        if iredadmin is None:
            return
        o = t.domain_ownership.c
        values = {"verified": 1, "message": "", "last_verify": now(), "expire": 0}
        for name, code in sorted(codes.items()):
            await iredadmin.execute(
                update(t.domain_ownership)
                .where(*_of_name(domain, name), o.verify_code == code)
                .values(values)
            )
        await self.end_pending_ownership(domain, codes)

    async def end_pending_ownership(self, domain: str, names: Collection[str]) -> None:
        iredadmin = await self._owners()
        if iredadmin is None:
            return
        for name in sorted(names):
            await iredadmin.execute(
                delete(t.domain_ownership).where(
                    *_of_name(domain, name), t.domain_ownership.c.verified == 0
                )
            )


def _of_name(domain: str, name: str) -> list[ColumnElement[bool]]:
    """Return the conditions for the rows of a domain, or of one of its alias domains."""
    o = t.domain_ownership.c
    return [o.domain == domain, o.alias_domain == ("" if name == domain else name)]


async def _has_settings(
    connection: AsyncConnection, columns: Sequence[Column[Any]], mail: str
) -> bool:
    """Tell whether settings (not counters of iRedAPD) are stored for an address."""
    for column in columns:
        if column.table is not t.throttle_tracking:
            found = await connection.execute(select(column).where(column == mail).limit(1))
            if found.first() is not None:
                return True
    return False


async def _rename_greylisting_tracking(iredapd: AsyncConnection, old: str, new: str) -> None:
    """Rename the recipient in the triplets that iRedAPD has recorded."""
    seen = t.greylisting_tracking.c
    await iredapd.execute(
        update(t.greylisting_tracking)
        .where(seen.recipient == old)
        .values(recipient=new, rcpt_domain=domain_part(new))
    )
