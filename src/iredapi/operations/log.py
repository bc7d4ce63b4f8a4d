"""Reading the panel's log: who may see which entries, and what is kept beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import log
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import fold
from iredapi.domain.listing import Key, ListQuery, Page
from iredapi.domain.log import Details, LogQuery
from iredapi.domain.revisions import About

ReadDetails = Callable[[Sequence[int]], Awaitable[Mapping[int, Details]]]
"""Returns what is kept beside entries with these ids."""


async def page(
    unit: ReadUnit,
    read_details: ReadDetails | None,
    filters: Mapping[str, Any],
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return the next entries that the actor may see, the newest first.

    Without ``read_details`` nothing is read of what is kept beside them.
    """
    del query  # they have one order
    actor, wanted = unit.actor, _visible_to(unit.actor, filters)
    if wanted is None:
        return Page([], total=0 if total else None)
    before = int(after.name) if after else None
    found = await unit.log.page(wanted, before, limit + 1)
    entries = found[:limit]
    details: Mapping[int, Details] = {}
    if read_details is not None and entries:
        details = await read_details([entry.id for entry in entries])
    hidden: Mapping[str, frozenset[str]] = {
        About.USER: unit.rules.hidden_user_fields,
        About.ADMIN: unit.rules.hidden_admin_fields,
    }
    items = [log.to_response(entry, details.get(entry.id), actor, hidden) for entry in entries]
    last = Key(str(items[-1]["id"])) if items else None
    count = await unit.log.count(wanted) if total else None
    return Page(items, last, more=len(found) > limit, total=count)


def _visible_to(actor: Actor, filters: Mapping[str, Any]) -> LogQuery | None:
    """Return the query of an admin; None: it may see nothing of that."""
    domain, admin = filters.get("domain", ""), fold(filters.get("admin", ""))
    domains = None if actor.is_global else actor.domains
    if domain:
        if not actor.manages(domain):
            return None
        domains = frozenset({domain})
    if domains is not None and not domains:
        return None
    if admin and not actor.may_see_admin(admin):
        return None
    ips = filters.get("ip", ())
    return LogQuery(
        domains=domains,
        own=not actor.is_global,
        admin=admin,
        account=filters.get("account", ""),
        events=filters.get("event", ()),
        ips=ips,
        # An address tells of an admin whom the answer does not name.
        known_to=actor if ips and not actor.is_global else None,
        since=filters.get("since"),
        until=filters.get("until"),
        search=filters.get("search", ""),
    )
