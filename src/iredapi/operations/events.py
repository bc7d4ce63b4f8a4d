"""Which events an admin may see: as entries of the log (``operations.log``)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain.audit_events import Subject
from iredapi.domain.change_events import Visible


async def visible(unit: ReadUnit, domain: str, kinds: Collection[str]) -> Visible:
    """Return which events the actor may see of those that it wants; one round trip at most.

    Normal admins: those of the domains that they manage, since these were created.
    """
    actor = unit.actor
    domains = None if actor.is_global else actor.domains
    if domain:
        domains = frozenset({domain} if actor.manages(domain) else ())
    since = {}
    if domains and not actor.is_global:
        created = await unit.log.created(domains)
        since = {name: at.replace(tzinfo=UTC).timestamp() for name, at in created.items()}
    users, admins = unit.rules.hidden_user_fields, unit.rules.hidden_admin_fields
    hidden = {Subject.USER: users, Subject.USERS: users, Subject.ADMIN: admins}
    return Visible(actor, domains, since, kinds, {str(key): names for key, names in hidden.items()})
