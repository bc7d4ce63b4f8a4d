"""Operations on mailboxes that wait to be removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import deleted_mailboxes, mailbox_paths, revisions
from iredapi.domain.addresses import fold
from iredapi.domain.audit_events import Kind, account_event
from iredapi.domain.listing import Key, ListQuery, Page
from iredapi.domain.revisions import About
from iredapi.errors import Conflict, NotFound
from iredapi.operations import accounts
from iredapi.operations.mailbox_locations import protect_global_admins


async def page(
    unit: ReadUnit,
    domain: str,
    filters: Mapping[str, Any],
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return the next deleted mailboxes, of one domain or (an empty name) of all that one manages.

    Mailboxes of a removed domain can be read by global admins. Raises NotFound ``NO_SUCH_DOMAIN``
    for a name without a domain and without mailboxes.
    """
    actor, wanted = unit.actor, deleted_mailboxes.visible_to(unit.actor, domain)
    chooser = fold(filters.get("deleted_by", ""))
    del query  # they have one order
    found, count = [], 0
    if not chooser or actor.may_see_admin(chooser):
        wanted = replace(
            wanted,
            mail=filters.get("mail", ""),
            deleted_by=chooser,
            due_before=filters.get("due_before"),
            kept=filters.get("keep_forever"),
        )
        start = int(after.name) if after else 0
        found = await unit.deleted_mailboxes.page(wanted, start, limit + 1)
        count = await unit.deleted_mailboxes.count(wanted) if total else 0
    if domain and not found and after is None:
        await accounts.known_domain(unit, domain)
    items = [deleted_mailboxes.to_response(box, actor) for box in found[:limit]]
    last = Key(str(items[-1]["id"])) if items else None
    return Page(items, last, more=len(found) > limit, total=count if total else None)


async def update(unit: UnitOfWork, number: int, changes: Mapping[str, Any]) -> None:
    """Change the day from which a mailbox may be removed from disk."""
    wanted = deleted_mailboxes.visible_to(unit.actor)
    box = await unit.deleted_mailboxes.claim(wanted, number)
    if box is None:
        raise NotFound("NO_SUCH_MAILBOX")
    if not changes:
        unit.report_changed(())
        return
    await protect_global_admins(unit, box.path)
    name = next(iter(changes))
    days = changes.get("keep_mailbox_days", 0)
    day = accounts.removal(unit, days).delete_after
    if day == box.delete_date:
        unit.report_changed(())
        return
    if day is not None:
        # The job looks at the directory only: a living mailbox would be removed.
        path = mailbox_paths.Location("", "", box.path).path
        if await unit.users.paths_near(path, queued=False):
            raise Conflict("MAILBOX_IN_USE")
    await unit.deleted_mailboxes.set_date(box, day)
    old, new = ({name: one and one.isoformat()} for one in (box.delete_date, day))
    unit.report_changed({name}, revisions.of_values, About.USER, old, new)
    kept = "for ever" if day is None else f"until {day.isoformat()}"
    unit.note(account_event(Kind.UPDATE, "deleted mailbox", box.mail, f"kept {kept}"))
