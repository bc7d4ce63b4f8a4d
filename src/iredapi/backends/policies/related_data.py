"""What Amavisd's, iRedAPD's and the panel's databases hold for accounts that go or are renamed.

Left-overs would silently apply to an account that is made again under the same address. Always
SQL, whatever the account storage is. A database that is not configured has nothing of ours.
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
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.state.connections import StateUnavailable
from iredapi.state.pending_renames import Renames

Chosen = Callable[[ColumnElement[Any]], ColumnElement[bool]]
Forget = Callable[["SqlRelatedData", AsyncConnection, Chosen, str], Awaitable[None]]
Places = tuple[str, ...]

PLACES: Final[Places] = ("amavisd", "iredapd", "iredadmin")
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
"""Where an address stands as the one that something is about."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rename:
    old: str
    new: str
    again: bool
    """The same one began before and broke off."""


class SqlRelatedData:
    """See ``protocols.RelatedData``."""

    def __init__(self, connections: Connections, renames: Renames) -> None:
        self._connections = connections
        self._renames = renames
        self._begun: list[_Rename] = []

    async def _get(self, name: str) -> AsyncConnection | None:
        if not self._connections.databases.has(name):
            return None
        return await self._connections.get(name)

    async def _has(self, name: str, table: Table) -> bool:
        return (await self._connections.databases[name].schema()).has(table)

    async def forget_account(self, mail: str) -> None:
        def means(column: ColumnElement[Any]) -> ColumnElement[bool]:
            # Large, and written by the daemon itself: folded.
            exact = column is t.greylisting_tracking.c.recipient
            return column == mail if exact else is_like(column, [mail])

        await self._forget(means)

    async def forget_domain(self, domain: str) -> None:
        # Accounts are "@domain" and "user@domain" here, "@.domain" of other programs, and the bare
        # name in the panel's settings.
        names = [domain, f".{domain}"]
        await self._forget(lambda column: is_like(domain_of(column), names), domain)

    async def _forget(self, chosen: Chosen, domain: str = "", places: Places = PLACES) -> None:
        for name in places:
            if connection := await self._get(name):
                await self._FORGET[name](self, connection, chosen, domain)

    async def _forget_amavisd(self, amavisd: AsyncConnection, chosen: Chosen, _domain: str) -> None:
        ids = select(t.users.c.id).where(chosen(t.users.c.email))
        found: list[int] = list((await amavisd.execute(ids)).scalars())
        for start in range(0, len(found), 500):
            some = found[start : start + 500]
            await amavisd.execute(delete(t.wblist).where(t.wblist.c.rid.in_(some)))
            await amavisd.execute(
                delete(t.outbound_wblist).where(t.outbound_wblist.c.sid.in_(some))
            )
            await amavisd.execute(delete(t.users).where(t.users.c.id.in_(some)))
        await amavisd.execute(delete(t.policy).where(chosen(t.policy.c.policy_name)))

    async def _forget_iredapd(self, iredapd: AsyncConnection, chosen: Chosen, domain: str) -> None:
        throttles = select(t.throttle.c.id).where(chosen(t.throttle.c.account))
        tracking = t.throttle_tracking.c
        # The daemon's foreign key does not cascade, and it goes on counting: not these.
        await iredapd.execute(throttles.with_for_update())
        await iredapd.execute(
            delete(t.throttle_tracking).where(
                or_(tracking.tid.in_(throttles), chosen(tracking.account))
            )
        )
        for table in (t.throttle, t.greylisting, t.greylisting_whitelists):
            await iredapd.execute(delete(table).where(chosen(table.c.account)))
        seen = t.greylisting_tracking.c
        of_domain = seen.rcpt_domain == domain if domain else chosen(seen.recipient)
        await iredapd.execute(delete(t.greylisting_tracking).where(of_domain))

    async def _forget_iredadmin(
        self, iredadmin: AsyncConnection, chosen: Chosen, domain: str
    ) -> None:
        if await self._has("iredadmin", t.settings):
            await iredadmin.execute(delete(t.settings).where(chosen(t.settings.c.account)))
        if await self._has("iredadmin", t.domain_ownership):
            # What was proved stays proved; what waits for a proof waits no more.
            owned = t.domain_ownership.c
            waiting = (
                or_(owned.domain == domain, owned.alias_domain == domain)
                if domain
                else chosen(owned.admin)
            )
            await iredadmin.execute(delete(t.domain_ownership).where(waiting, owned.verified == 0))

    _FORGET: ClassVar[Mapping[str, Forget]] = {
        "amavisd": _forget_amavisd,
        "iredapd": _forget_iredapd,
        "iredadmin": _forget_iredadmin,
    }

    async def forget_admin(self, mail: str) -> None:
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
        again = await self._renames.begin(old, new)
        self._begun.append(_Rename(old, new, again))
        for name in PLACES:
            connection = await self._get(name)
            if connection is None:
                continue
            columns = [
                column
                for column in _ACCOUNTS[name]
                if name != "iredadmin" or await self._has(name, column.table)
            ]
            if again and not await _holds(connection, columns, old):
                # What is under the new address was carried over before the first try broke off.
                # Since then daemons may have noted something under the old one.
                await self._forget(lambda column: column == old, places=(name,))
                continue
            # Nothing of the new address is alive, so what is stored under it is a left-over.
            await self._forget(lambda column: column == new, places=(name,))
            if name == "iredadmin" and t.domain_ownership.c.admin in columns:
                # Of the new address nobody has proved anything.
                owned = t.domain_ownership
                await connection.execute(delete(owned).where(owned.c.admin == new))
            for column in columns:
                await connection.execute(
                    update(column.table).where(column == old).values({column.name: new})
                )
            if name == "iredapd":
                await _rename_seen(connection, old, new)

    @asynccontextmanager
    async def committing(self) -> AsyncIterator[None]:
        """Around the commit of all databases: a rename that breaks off in it stays noted."""
        begun, self._begun = self._begun, []
        yield
        await self._end(begun)

    async def give_up(self) -> None:
        """Forget renames that did not get as far as a commit, but not what broke off before."""
        begun, self._begun = self._begun, []
        await self._end(rename for rename in begun if not rename.again)

    async def _end(self, renames: Iterable[_Rename]) -> None:
        for rename in renames:
            try:
                await self._renames.end(rename.old, rename.new)
            except StateUnavailable as error:
                # Its repetition will be told that there is no such account.
                _log.warning("rename_stays_noted", reason=str(error))

    async def is_pending(self, domain: str) -> bool:
        iredadmin = await self._get("iredadmin")
        if iredadmin is None or not await self._has("iredadmin", t.domain_ownership):
            return True  # nowhere to look it up: nobody has proved anything
        owned = t.domain_ownership.c
        proved = await iredadmin.execute(
            select(owned.id).where(
                owned.domain == domain, owned.alias_domain == "", owned.verified == 1
            )
        )
        return proved.first() is None

    async def pending_ownership(
        self, actor: Actor, domain: str, alias_domains: Collection[str], code: str
    ) -> None:
        iredadmin = await self._get("iredadmin")
        if iredadmin is None or not await self._has("iredadmin", t.domain_ownership):
            return
        rows = [
            {
                "admin": actor.username,
                "domain": domain,
                "alias_domain": alias,
                "verify_code": code,
                # The panel's cron job removes rows whose ``expire`` is an epoch.
                "expire": 0,
            }
            for alias in (sorted(alias_domains) or [""])
        ]
        dialect = self._connections.databases["iredadmin"].dialect
        await iredadmin.execute(insert_ignore(t.domain_ownership, dialect), rows)


async def _holds(connection: AsyncConnection, columns: Sequence[Column[Any]], mail: str) -> bool:
    """Tell whether something that a person has set is stored for an address."""
    for column in columns:
        if column.table is not t.throttle_tracking:
            found = await connection.execute(select(column).where(column == mail).limit(1))
            if found.first() is not None:
                return True
    return False


async def _rename_seen(iredapd: AsyncConnection, old: str, new: str) -> None:
    """Carry over what greylisting has seen."""
    seen = t.greylisting_tracking.c
    await iredapd.execute(
        update(t.greylisting_tracking)
        .where(seen.recipient == old)
        .values(recipient=new, rcpt_domain=domain_part(new))
    )
