"""What the owner of a webhook may be told at this moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain.actors import SYSTEM, Principal, account_of, actor_of
from iredapi.domain.change_events import PublishedEvent, Visible
from iredapi.domain.webhooks import Reason, Webhook
from iredapi.operations import events
from iredapi.runtime.context import AppContext

_SECONDS: Final = 1.0
"""For how long rights are not read again: as of sessions."""


class OwnerEnded(Exception):
    """The owner gets nothing more."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of an owner, as they were at a time."""

    visible: Visible
    deleted: Mapping[str, int]
    """Domain → position of the event that says that it was deleted."""
    read: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since they were read."""
        return time.monotonic() - self.read

    def told(self, event: PublishedEvent) -> dict[str, Any] | None:
        """Return an event as ``GET /events`` shows it to the owner; None: it does not."""
        if not (self.visible.wants(event) and self.visible.shows(event, self.deleted)):
            return None
        return self.visible.to_response(event)


class Owner:
    """The owner of one webhook, read again now and then."""

    def __init__(self, context: AppContext, webhook: Webhook) -> None:
        self._context = context
        self._webhook = webhook
        self._rights: Rights | None = None

    async def rights(self, *, seconds: float = _SECONDS) -> Rights:
        """Return the rights, which are at most so many seconds old.

        Raises OwnerEnded, ApiError and StateUnavailable.
        """
        if self._rights is None or self._rights.age >= seconds:
            self._rights = await self._read()
        return self._rights

    async def _read(self) -> Rights:
        hook = self._webhook
        found = await self._context.read(SYSTEM, find_owner, hook.owner)
        if found is None or account_of(found) != hook.account:
            raise OwnerEnded(Reason.OWNER_GONE)
        if hook.role == "global" and not found.is_global:
            raise OwnerEnded(Reason.OWNER_DEMOTED)
        actor = actor_of(found, "")
        names = actor.domains if hook.domains is None else hook.domains
        if not actor.is_global and not any(map(actor.manages, names)):
            raise OwnerEnded(Reason.DOMAINS_LOST)
        visible = await self._context.read(actor, events.visible, "", hook.kinds)
        if actor.is_global or visible.domains is None:
            return Rights(visible, {})
        return Rights(visible, await self._context.state.events.deletions(visible.domains))


async def find_owner(unit: ReadUnit, mail: str) -> Principal | None:
    """Return the account of an active admin; None: there is none."""
    return await unit.admins.principal(mail)
