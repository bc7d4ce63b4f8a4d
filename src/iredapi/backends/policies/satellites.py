"""What Amavisd's, iRedAPD's and the panel's databases hold for accounts that go or are renamed.

Left-overs would silently apply to an account that is made again under the same address. Always
SQL, whatever the account storage is. A database that is not configured has nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.policies import tables as t
from iredapi.backends.sql.dialect import domain_of, insert_ignore
from iredapi.backends.sql.engine import Connections
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import domain_of as domain_part

Chosen = Callable[[ColumnElement[Any]], ColumnElement[bool]]


class SqlSatellites:
    """See ``protocols.Satellites``."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def _get(self, name: str) -> AsyncConnection | None:
        if not self._connections.databases.has(name):
            return None
        return await self._connections.get(name)

    async def _has(self, name: str, table: Table) -> bool:
        return (await self._connections.databases[name].schema()).has(table)

    async def forget_account(self, mail: str) -> None:
        await self._forget(lambda column: column == mail)

    async def forget_domain(self, domain: str) -> None:
        # Accounts are "@domain" and "user@domain" here, and the bare name in the panel's settings.
        await self._forget(lambda column: domain_of(column) == domain, domain)

    async def _forget(self, chosen: Chosen, domain: str = "") -> None:
        if amavisd := await self._get("amavisd"):
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
        if iredapd := await self._get("iredapd"):
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
        iredadmin = await self._get("iredadmin")
        if iredadmin is None:
            return
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

    async def forget_admin(self, mail: str) -> None:
        iredadmin = await self._get("iredadmin")
        if iredadmin is None:
            return
        if await self._has("iredadmin", t.settings):
            await iredadmin.execute(delete(t.settings).where(t.settings.c.account == mail))
        if await self._has("iredadmin", t.domain_ownership):
            owned = t.domain_ownership.c
            await iredadmin.execute(delete(t.domain_ownership).where(owned.admin == mail))

    async def rename_account(self, old: str, new: str) -> None:
        # Nothing of the new address is alive, so what is stored under it is a left-over.
        await self.forget_account(new)
        if amavisd := await self._get("amavisd"):
            await amavisd.execute(update(t.users).where(t.users.c.email == old).values(email=new))
            await amavisd.execute(
                update(t.policy).where(t.policy.c.policy_name == old).values(policy_name=new)
            )
        if iredapd := await self._get("iredapd"):
            for table in (
                t.throttle, t.throttle_tracking, t.greylisting, t.greylisting_whitelists
            ):  # fmt: skip
                await iredapd.execute(
                    update(table).where(table.c.account == old).values(account=new)
                )
            seen = t.greylisting_tracking.c
            await iredapd.execute(
                update(t.greylisting_tracking)
                .where(seen.recipient == old)
                .values(recipient=new, rcpt_domain=domain_part(new))
            )
        if iredadmin := await self._get("iredadmin"):
            if await self._has("iredadmin", t.settings):
                await iredadmin.execute(
                    update(t.settings).where(t.settings.c.account == old).values(account=new)
                )
            if await self._has("iredadmin", t.domain_ownership):
                owned = t.domain_ownership
                await iredadmin.execute(delete(owned).where(owned.c.admin == new))
                await iredadmin.execute(
                    update(t.domain_ownership)
                    .where(t.domain_ownership.c.admin == old)
                    .values(admin=new)
                )

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
