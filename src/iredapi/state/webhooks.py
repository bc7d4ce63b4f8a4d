"""Webhooks and their last deliveries."""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.webhooks import MAX_PER_OWNER, Delivery, Reason, Webhook, new_secret
from iredapi.state.connections import Connections
from iredapi.state.purging import Purging
from iredapi.state.tables import upsert_values, webhook_deliveries, webhooks

KEPT: Final = 1000
"""Deliveries of one webhook that are kept."""
KEPT_SECONDS: Final = 7 * 86400.0
_ALL_DOMAINS: Final = "*"
_table, _log = webhooks.c, webhook_deliveries.c


class TooManyWebhooks(Exception):
    """The owner has ``MAX_PER_OWNER`` webhooks already."""


class Webhooks:
    """The webhooks of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self.clock = clock
        self._purging = Purging("Old deliveries of webhooks", self.purge, clock())

    # What admins do

    async def create(
        self,
        owner: Mapping[str, str],
        label: str,
        url: str,
        kinds: frozenset[str],
        domains: frozenset[str] | None,
        position: int,
    ) -> Webhook:
        """Create a webhook that gets what comes after ``position``. Raises TooManyWebhooks.

        ``owner`` has the columns ``owner``, ``role`` and ``account``.
        """
        now = self.clock()
        row = {
            **owner, "id": secrets.token_hex(8), "label": label, "url": url,
            "kinds": _joined(kinds), "domains": _domains(domains), "secret": new_secret(),
            "old_secret": "", "old_until": 0.0, "created": now, "enabled": 1, "reason": "",
            "changed": now, "generation": 0, "position": position, "progress": "",
            "attempts": 0, "delivered": None, "failing": None,
        }  # fmt: skip

        async def add(connection: AsyncConnection) -> Row[Any]:
            # An earlier account of that name may have left some, which the owner does not see.
            own = (_table.owner == row["owner"], _table.account == row["account"])
            found = select(func.count()).select_from(webhooks).where(*own)
            count = await connection.scalar(found)
            if (count or 0) >= MAX_PER_OWNER:
                raise TooManyWebhooks
            await connection.execute(insert(webhooks).values(row))
            made = select(webhooks).where(_table.id == row["id"])
            return (await connection.execute(made)).one()

        return _read(await self._connections.transact(add))

    async def get(self, webhook_id: str) -> Webhook | None:
        """Return a webhook by its id."""
        rows = await self._connections.read(select(webhooks).where(_table.id == webhook_id))
        return _read(rows[0]) if rows else None

    async def listed(self, owner: str = "") -> list[Webhook]:
        """Return all webhooks, or those of one owner, the oldest first."""
        statement = select(webhooks).order_by(_table.owner, _table.created, _table.id)
        if owner:
            statement = statement.where(_table.owner == owner)
        return [_read(row) for row in await self._connections.read(statement)]

    async def change(self, webhook_id: str, changes: Mapping[str, Any]) -> bool:
        """Change ``label``, ``url``, ``kinds`` or ``domains``; False: it is gone."""
        values = dict(changes)
        if "kinds" in values:
            values["kinds"] = _joined(values["kinds"])
        if "domains" in values:
            values["domains"] = _domains(values["domains"])
        return await self._update(webhook_id, **values)

    async def rotate(self, webhook: Webhook, overlap: float) -> str | None:
        """Give it a new secret and return that; the old one signs, too, for some seconds.

        None: the webhook is gone.
        """
        secret = new_secret()
        values: dict[str, Any] = {"secret": secret, "old_secret": "", "old_until": 0.0}
        if overlap > 0:
            values |= {"old_secret": webhook.secret, "old_until": self.clock() + overlap}
        return secret if await self._update(webhook.id, **values) else None

    async def enable(self, webhook: Webhook) -> bool:
        """Enable it again, from where it has stopped; False: it is gone."""
        values = {"enabled": 1, "reason": "", "changed": self.clock(), "failing": None}
        return await self._update(webhook.id, **values)

    async def _update(self, webhook_id: str, **values: Any) -> bool:
        return bool(
            await self._connections.write(
                update(webhooks)
                .where(_table.id == webhook_id)
                .values(**values, generation=_table.generation + 1)
            )
        )

    async def delete(self, webhook_id: str) -> None:
        """Remove a webhook with its deliveries."""

        async def remove(connection: AsyncConnection) -> None:
            await connection.execute(delete(webhooks).where(_table.id == webhook_id))
            await connection.execute(delete(webhook_deliveries).where(_log.webhook == webhook_id))

        await self._connections.transact(remove)

    async def deliveries(self, webhook_id: str, limit: int) -> Sequence[Delivery]:
        """Return the last attempts, the newest first."""
        rows = await self._connections.read(
            select(webhook_deliveries)
            .where(_log.webhook == webhook_id, _log.time > self.clock() - KEPT_SECONDS)
            .order_by(_log.number.desc())
            .limit(limit)
        )
        return [
            Delivery(
                row.event, row.kind, row.time, row.attempt, row.status, row.reason, row.milliseconds
            )
            for row in rows
        ]

    # What the sender does

    async def enabled(self) -> list[Webhook]:
        """Return the webhooks that are sent to."""
        rows = await self._connections.read(select(webhooks).where(_table.enabled == 1))
        return [_read(row) for row in rows]

    async def record(
        self, webhook: Webhook, values: Mapping[str, Any], made: Sequence[Delivery]
    ) -> bool:
        """Store how far the sender has come, and attempts that were made; False: it is gone.

        ``values`` are columns that only the sender writes; ``webhook.attempts`` counts the attempts
        that are stored already.
        """
        rows = [
            {
                "webhook": webhook.id,
                "slot": number % KEPT,
                "number": number,
                "event": one.event,
                "kind": one.kind,
                "time": one.time,
                "attempt": one.attempt,
                "status": one.status,
                "reason": one.reason,
                "milliseconds": one.milliseconds,
            }
            for number, one in enumerate(made, webhook.attempts)
        ][-KEPT:]
        names = [column.name for column in webhook_deliveries.c if column.name != "webhook"]
        mine = update(webhooks).where(_table.id == webhook.id)

        async def store(connection: AsyncConnection) -> bool:
            done = await connection.execute(
                mine.values(**values, attempts=webhook.attempts + len(made))
            )
            if not done.rowcount:
                return False
            if rows:
                dialect = self._connections.dialect
                await connection.execute(upsert_values(dialect, webhook_deliveries, rows, names))
            return True

        await self._purging.sometimes(self.clock())
        return await self._connections.transact(store)

    async def disable(self, webhook: Webhook, reason: Reason) -> None:
        """Disable it, unless an admin has changed it meanwhile."""
        unchanged = (_table.id == webhook.id, _table.generation == webhook.generation)
        values = {"enabled": 0, "reason": reason.value, "changed": self.clock()}
        await self._connections.write(update(webhooks).where(*unchanged).values(**values))

    async def purge(self) -> int:
        """Remove old deliveries; return their number."""
        return await self._connections.write(
            delete(webhook_deliveries).where(_log.time <= self.clock() - KEPT_SECONDS)
        )

    async def counts(self, end: int) -> dict[str, tuple[int, int]]:
        """Return by state how many webhooks there are, and how many events they have before them.

        States are ``active``, ``failing`` and ``disabled``; ``end`` is the last event's position.
        """
        rows = await self._connections.read(select(_table.enabled, _table.failing, _table.position))
        found = {"active": (0, 0), "failing": (0, 0), "disabled": (0, 0)}
        for row in rows:
            state = "disabled"
            if row.enabled:
                state = "active" if row.failing is None else "failing"
            number, waiting = found[state]
            found[state] = (number + 1, waiting + max(end - row.position, 0))
        return found


def _joined(words: Collection[str]) -> str:
    return ",".join(sorted(words))


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in text.split(",") if word)


def _domains(names: frozenset[str] | None) -> str:
    return _ALL_DOMAINS if names is None else _joined(names)


def _read(row: Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        owner=row.owner,
        role=row.role,
        account=row.account,
        label=row.label,
        url=row.url,
        kinds=_words(row.kinds),
        domains=None if row.domains == _ALL_DOMAINS else _words(row.domains),
        secret=row.secret,
        old_secret=row.old_secret,
        old_until=row.old_until,
        created=row.created,
        enabled=bool(row.enabled),
        reason=row.reason,
        changed=row.changed,
        generation=row.generation,
        position=row.position,
        progress=row.progress,
        attempts=row.attempts,
        delivered=row.delivered,
        failing=row.failing,
    )
