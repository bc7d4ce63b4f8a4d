"""Workflows on mailing lists: create, change and remove on both account storage and list server.

There is no transaction over both, so the order matters. A new list is created on the list server
first and gets its routes in the account storage last, so that no mail reaches an incomplete list. A
removal goes the other way. A failed change is undone if its outcome is known; otherwise the same
request, sent again, completes it. A lock in the state database serialises changes of one list, also
between replicas. No database transaction is open during calls of the list server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final
from uuid import uuid4

import structlog

from iredapi.backends.protocols.mailing_lists import ListServer, Untouched
from iredapi.backends.unit_of_work import Skipped, UnitOfWork
from iredapi.concurrency.shield import finish
from iredapi.domain import canonical, list_updates
from iredapi.domain import lists as records
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.domain.addresses import domain_of, without
from iredapi.domain.lists import MailingList, State, Subscriber
from iredapi.errors import ApiError, Conflict, NotFound, problem
from iredapi.operations import domains, lists
from iredapi.operations.preconditions import CANONICAL, PRECONDITION, state_of
from iredapi.runtime.context import AppContext
from iredapi.runtime.dry_run import DRY_RUN
from iredapi.runtime.transactions import WriteResult
from iredapi.state import LockTimeout
from iredapi.workflows.list_membership import update_lists
from iredapi.workflows.mailing_list_steps import (
    TRIES,
    LastWrite,
    get_control,
    lists_of_domain,
    lock_list,
    reachable,
    require_list_server,
    subscribe,
    subscribers_changed,
    unsubscribe,
    with_skipped,
)

_REMOVED: Final = "remove_subscribers"
_log = structlog.get_logger(__name__)


async def read(
    context: AppContext,
    actor: Actor,
    address: str,
    *,
    with_subscribers: bool,
    as_canonical: bool = False,
) -> tuple[dict[str, Any], list[Subscriber] | None]:
    """Return a list's profile or canonical view, and its subscribers if requested."""
    server = require_list_server(context)
    stored = await context.read(actor, lists.get, address)
    control = await get_control(server, address)
    if different := records.drift(stored, control):
        _log.warning("list_drift", list=address, parameters=different)
    found = await server.subscribers(address) if with_subscribers else None
    view = canonical.mailing_list if as_canonical else records.to_response
    return view(stored, control), found


async def create(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    """Create a list."""
    return await finish(_create(context, actor, address, changes))


async def update(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    """Change a list."""
    return await finish(_update(context, actor, address, changes))


async def remove(context: AppContext, actor: Actor, address: str, *, archive: bool) -> WriteResult:
    """Remove a list."""
    return await finish(_remove(context, actor, address, archive=archive))


async def remove_domain(context: AppContext, actor: Actor, name: str, days: int) -> WriteResult:
    """Remove a domain with its accounts, after its lists one by one."""
    return await finish(_remove_domain(context, actor, name, days))


async def _create(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    server = require_list_server(context)
    if not reachable(server, address):
        raise problem(
            "mail",
            "INVALID_MAIL",
            "A list's name has letters, digits, dots, dashes and underscores, and begins with a "
            "letter or digit; its top-level domain has at most 15 characters.",
        )
    if "add_subscribers" in changes:
        both = (*changes.get("subscribers", ()), *changes["add_subscribers"])
        changes = {**changes, "subscribers": tuple(dict.fromkeys(both))}
    _check_invitations(changes, "subscribers")
    async with lock_list(context, address) as lease:
        usable, skipped = await context.read(
            actor, lists.prepare_new, address, changes, server.accepts
        )
        state = list_updates.draft(address, usable, str(uuid4()), context.settings.mlmmj_transport)
        features = context.backend.features
        list_updates.check_extra_addresses(MailingList(address), state.stored, usable, features)
        mails, version = usable.get("subscribers", ()), usable.get("subscription", "normal")
        asked = usable.get("require_confirm", True)
        await _archive_former(server, address)
        lease.check()
        write = LastWrite()
        try:
            await server.create(address, state.control)
            if mails and not asked:
                await subscribe(server, address, mails, version, {})
            lease.check()
            done = await write.run(context, actor, lists.add, state.stored)
        except Exception as error:
            if not await _undo_creation(context, server, state.stored, write, error):
                raise
            done = WriteResult()
        if mails and asked:
            try:
                await server.invite(address, mails, version)
            except ApiError as error:
                _log.error("list_invitations_failed", list=address, reason=error.code)
                raise ApiError("LIST_CREATED_SUBSCRIBERS_FAILED") from error
    return with_skipped(done, skipped)


async def _archive_former(server: ListServer, address: str) -> None:
    """Archive data of a former list with the address: a new list would get its subscribers."""
    if await server.exists(address):
        _log.warning("list_data_left_behind", list=address)
        await server.remove(address, archive=True)
        if await server.exists(address):
            raise ApiError("MLMMJADMIN_ERROR", "The data of a former list cannot be archived.")


async def _undo_creation(
    context: AppContext, server: ListServer, stored: MailingList, write: LastWrite, error: Exception
) -> bool:
    """Undo the creation of a list; return True if it was committed after all."""
    try:
        row = await context.read(SYSTEM, lists.find, stored.address)
    except Exception:
        # The outcome of the commit is not known. A list without routes does no harm.
        _log.exception("list_creation_outcome_unknown", list=stored.address)
        return False
    if row is not None:
        return write.commit_reached and row.mlid == stored.mlid
    if isinstance(error, LockTimeout):
        return False
    try:
        await server.remove(stored.address, archive=False)
    except ApiError as failure:
        # The next creation archives it.
        _log.error("list_not_undone", list=stored.address, reason=failure.code)
    return False


async def _check_precondition(context: AppContext, actor: Actor, address: str) -> None:
    """Check ``If-Match``; the list must be locked. Raises ApiError."""
    condition = PRECONDITION.get()
    if condition is None or condition.met or condition.versions.claim is not None:
        return

    async def state(view: str) -> bytes:
        found, _ = await read(
            context, actor, address, with_subscribers=False, as_canonical=view == CANONICAL
        )
        return state_of(found)

    await condition.compare(state)
    condition.met = True


async def _update(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    _check_invitations(changes, "add_subscribers")
    async with lock_list(context, address) as lease:
        await _check_precondition(context, actor, address)
        before = await context.read(actor, lists.to_change, address, changes)
        features = context.backend.features
        if not list_updates.needs_server(changes, before):
            after = list_updates.revise_stored(before, changes)
            list_updates.check_extra_addresses(before, after, changes, features)
            return await context.write(actor, lists.save, before, after, changes)
        server = require_list_server(context)
        usable, skipped = await context.read(actor, lists.prepare, before, changes, server.accepts)
        state = State(before, await get_control(server, address))
        revised = list_updates.revise(state, usable)
        list_updates.check_extra_addresses(before, revised.stored, usable, features)
        wanted, gone = usable.get("add_subscribers", ()), usable.get("remove_subscribers", ())
        version = usable.get("subscription", "normal")
        asked = usable.get("require_confirm", True)
        touched = tuple(dict.fromkeys((*gone, *wanted)))
        were = await server.subscriptions(address, touched) if touched else {}
        await _check_new_extra(server, state, revised, gone)
        gone, left_out = _removable(server, gone, were)
        # An address that is removed and added again gets another kind of subscription.
        left = {mail: kind for mail, kind in were.items() if mail not in gone}
        different = records.different(before, revised.stored, state.control, revised.control)
        if any(mail in were for mail in gone) or any(left.get(m) != version for m in wanted):
            different.add("subscribers")
        if not different and state == revised:
            return with_skipped(WriteResult(changed=()), (*skipped, *left_out))
        async with context.announced(actor, subscribers_changed(address)):
            lease.check()
            write = LastWrite()
            try:
                if state.control != revised.control:
                    await server.save(address, state.control, revised.control)
                await unsubscribe(server, address, gone, were)
                if not asked:
                    await subscribe(server, address, wanted, version, left)
                lease.check()
                shown = (
                    records.to_response(before, state.control),
                    records.to_response(revised.stored, revised.control),
                )
                done = await write.run(
                    context, actor, lists.save, before, revised.stored, changes, different, shown
                )
            except Exception as error:
                if not await _undo_update(
                    context, server, state, revised, were, touched, write, error
                ):
                    raise
                done = WriteResult(changed=tuple(sorted(different)))
        if asked:
            if again := [m for m in wanted if m in were]:
                async with context.announced(actor, subscribers_changed(address)):
                    await subscribe(server, address, again, version, left)
            if new := [mail for mail in wanted if mail not in were]:
                await server.invite(address, new, version)
    return with_skipped(done, (*skipped, *left_out))


async def _check_new_extra(
    server: ListServer, before: State, after: State, gone: Collection[str]
) -> None:
    """Refuse an extra address that is a subscriber, owner or moderator of the list."""
    new = without(after.control.extra_addresses, before.control.extra_addresses)
    if not new:
        return
    people = list_updates.owners_and_moderators(after.control)
    subscribed = without(await server.subscriptions(after.stored.address, sorted(new)), gone)
    if found := [mail for mail in (*people, *subscribed) if records.leads_to(mail, new)]:
        raise problem(
            "extra_addresses", "OWN_ADDRESS", f"{min(found)} belongs to the list already."
        )


def _removable(
    server: ListServer, mails: Collection[str], present: Mapping[str, str]
) -> tuple[tuple[str, ...], list[Skipped]]:
    """Return subscribers to remove, and skipped addresses. Raises ApiError for malformed ones."""
    able, left_out = [], []
    for mail in mails:
        if mail not in present:
            if not records.is_address(mail):
                detail = f"{mail[:80]!r} is not an address and is not subscribed."
                raise problem(_REMOVED, "INVALID_MAIL", detail)
            left_out.append(Skipped(_REMOVED, mail, "NOT_FOUND"))
        elif server.can_drop(mail):
            able.append(mail)
        else:
            left_out.append(Skipped(_REMOVED, mail, "INVALID_MAIL"))
    return tuple(able), left_out


async def _undo_update(
    context: AppContext,
    server: ListServer,
    before: State,
    after: State,
    were: Mapping[str, str],
    touched: Collection[str],
    write: LastWrite,
    error: Exception,
) -> bool:
    """Undo a change on the list server; return True if it was committed after all."""
    address = before.stored.address
    if isinstance(error, LockTimeout):
        return False  # the lock was lost: another request may be changing the list
    if write.commit_reached and before.stored != after.stored:
        try:
            row = await context.read(SYSTEM, lists.find, address)
        except Exception:
            # The outcome of the commit is not known: the same request, sent again, completes it.
            _log.exception("list_change_outcome_unknown", list=address)
            return False
        if row is not None and list_updates.merge_changes(before.stored, after.stored, row) == row:
            return True
    try:
        if before.control != after.control:
            await server.save(address, after.control, before.control)
        now = await server.subscriptions(address, touched) if touched else {}
        changed = [mail for mail in touched if were.get(mail) != now.get(mail)]
        if added := [mail for mail in changed if mail in now]:
            await server.drop(address, added)
        for version in records.VERSIONS:
            if back := [mail for mail in changed if were.get(mail) == version]:
                await server.add(address, back, version)
    except ApiError as failure:
        _log.error("list_not_undone", list=address, reason=failure.code)
    return False


async def _remove(context: AppContext, actor: Actor, address: str, *, archive: bool) -> WriteResult:
    server = require_list_server(context)
    if not reachable(server, address):
        # The list server cannot have a list with this address.
        await _check_precondition(context, actor, address)
        return await context.write(
            actor, lists.remove, await context.read(actor, lists.get, address)
        )
    async with lock_list(context, address) as lease:
        await _check_precondition(context, actor, address)
        before = await context.read(actor, lists.find, address)
        if before is None:
            if not await server.exists(address):
                raise NotFound("NO_SUCH_ACCOUNT")
            await server.remove(address, archive=archive)
            return await context.write(actor, lists.note_orphan, address)
        if before.active:
            await context.write(actor, lists.switch, address, active=False)
        try:
            lease.check()
            await server.remove(address, archive=archive)
        except (Untouched, LockTimeout):
            if before.active:
                await context.write(actor, lists.switch, address, active=True)
            raise
        # It stays disabled if this fails: an incomplete directory looks like a list.
        return await context.write(actor, lists.remove, before)


async def _remove_domain(context: AppContext, actor: Actor, name: str, days: int) -> WriteResult:
    domain = await context.read(actor, domains.check_removal, name)
    if context.list_server is None:
        return await context.write(actor, domains.remove, name, days)
    managed = await context.read(actor, lists.managed_by, (), domain.names)
    condition, known = PRECONDITION.get(), True
    for _ in range(TRIES):
        if found := await lists_of_domain(context, actor, name):
            await context.list_server.ping()
            if condition is not None:
                # It is checked before the first list is removed.
                await context.write(actor, _nothing)
        for address in found:
            known = known and not domain.mentions(address)
            await _remove(context, actor, address, archive=True)
        if condition is not None and known:
            # Again, in the transaction that removes the domain: somebody may have changed it. Not
            # if the removal of a list has changed it.
            condition.met = False
        try:
            # In a dry run the lists are still there.
            kept = DRY_RUN.get() is not None
            done = await context.write(actor, domains.remove, name, days, with_lists=kept)
        except domains.ListsRemain:
            continue

        def successor(mail: str) -> str:
            return "" if domain_of(mail) in domain.names else mail

        others = {address for address in managed if domain_of(address) not in domain.names}
        return with_skipped(done, await update_lists(context, actor, successor, others))
    raise Conflict("CHANGED_MEANWHILE", "Other requests are creating mailing lists in the domain.")


async def _nothing(_: UnitOfWork) -> None:
    """Change nothing: the condition of the request is checked."""


def _check_invitations(changes: Mapping[str, Any], param: str) -> None:
    most = records.MAX_INVITATIONS
    if changes.get("require_confirm", True) and len(changes.get(param, ())) > most:
        raise problem(param, "INVALID_VALUE", f"At most {most} can be invited in one request.")
