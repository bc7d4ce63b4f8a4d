"""Changes of mailing lists: the account storage and the list server, kept together.

No transaction spans both, so the order decides what a failure leaves. A list is made on the list
server first and gets its routes last, so that no mail reaches half of it; it is removed the other
way round. What fails is undone where that is certain; where it is not, the same request sent again
completes it. A lock in the state database keeps replicas apart, and no database transaction is open
while the list server is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final
from uuid import uuid4

import structlog

from iredapi.backends.protocols.mailing_lists import ListServer, Untouched
from iredapi.backends.unit_of_work import Skipped
from iredapi.concurrency.shield import finish
from iredapi.domain import canonical, list_updates
from iredapi.domain import lists as records
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.domain.addresses import domain_of
from iredapi.domain.lists import MailingList, State, Subscriber
from iredapi.errors import ApiError, Conflict, NotFound, problem
from iredapi.operations import domains, lists
from iredapi.runtime.context import AppContext
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
    neutral: bool = False,
) -> tuple[dict[str, Any], list[Subscriber] | None]:
    """Return a list's profile, and its subscribers when they are asked for."""
    server = require_list_server(context)
    stored = await context.read(actor, lists.get, address)
    control = await get_control(server, address)
    if different := records.drift(stored, control):
        _log.warning("list_drift", list=address, parameters=different)
    found = await server.subscribers(address) if with_subscribers else None
    to_response = canonical.mailing_list if neutral else records.to_response
    return to_response(stored, control), found


async def create(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    """Make a list."""
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
    """Remove a domain with its accounts, its lists one by one before."""
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
        await _clear(server, address)
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


async def _clear(server: ListServer, address: str) -> None:
    """Archive what another list left behind: a new one would get its subscribers."""
    if await server.exists(address):
        _log.warning("list_data_left_behind", list=address)
        await server.remove(address, archive=True)
        if await server.exists(address):
            raise ApiError("MLMMJADMIN_ERROR", "The data of a former list cannot be moved away.")


async def _undo_creation(
    context: AppContext, server: ListServer, stored: MailingList, write: LastWrite, error: Exception
) -> bool:
    """Take back a new list; tells whether it was committed after all, and so is whole."""
    try:
        row = await context.read(SYSTEM, lists.find, stored.address)
    except Exception:
        # Nobody knows whether it was committed. A list without routes does no harm.
        _log.exception("list_creation_unsure", list=stored.address)
        return False
    if row is not None:
        return write.commit_reached and row.mlid == stored.mlid
    if isinstance(error, LockTimeout):
        return False
    try:
        await server.remove(stored.address, archive=False)
    except ApiError as failure:
        # The next creation moves it away.
        _log.error("list_not_undone", list=stored.address, reason=failure.code)
    return False


async def _update(
    context: AppContext, actor: Actor, address: str, changes: Mapping[str, Any]
) -> WriteResult:
    _check_invitations(changes, "add_subscribers")
    async with lock_list(context, address) as lease:
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
        gone, left_out = _removable(server, gone, were)
        # Who is removed in the same request only changes the kind of subscription.
        left = {mail: kind for mail, kind in were.items() if mail not in gone}
        different = records.different(before, revised.stored, state.control, revised.control)
        if any(mail in were for mail in gone) or any(left.get(m) != version for m in wanted):
            different.add("subscribers")
        if not different and state == revised:
            return with_skipped(WriteResult(changed=()), (*skipped, *left_out))
        lease.check()
        write = LastWrite()
        try:
            if state.control != revised.control:
                await server.save(address, state.control, revised.control)
            await unsubscribe(server, address, gone, were)
            if not asked:
                await subscribe(server, address, wanted, version, left)
            lease.check()
            done = await write.run(
                context, actor, lists.save, before, revised.stored, changes, different
            )
        except Exception as error:
            if not await _undo_update(context, server, state, revised, were, touched, write, error):
                raise
            done = WriteResult(changed=tuple(sorted(different)))
        if asked:
            await subscribe(server, address, [m for m in wanted if m in were], version, left)
            if new := [mail for mail in wanted if mail not in were]:
                await server.invite(address, new, version)
    return with_skipped(done, (*skipped, *left_out))


def _removable(
    server: ListServer, mails: Collection[str], present: Mapping[str, str]
) -> tuple[tuple[str, ...], list[Skipped]]:
    """Return who can be unsubscribed, and who is left out. Raises for what is no address at all."""
    able, left_out = [], []
    for mail in mails:
        if mail not in present:
            if not records.is_address(mail):
                detail = f"{mail[:80]!r} is no address and is not subscribed."
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
    """Take back a change of the list server; tells whether it was committed after all."""
    address = before.stored.address
    if isinstance(error, LockTimeout):
        return False  # it is somebody else's turn
    if write.commit_reached and before.stored != after.stored:
        try:
            row = await context.read(SYSTEM, lists.find, address)
        except Exception:
            # Nobody knows whether it was committed: the same request again completes it.
            _log.exception("list_change_unsure", list=address)
            return False
        if row is not None and list_updates.merge_changes(before.stored, after.stored, row) == row:
            return True
    try:
        if before.control != after.control:
            await server.save(address, after.control, before.control)
        now = await server.subscriptions(address, touched) if touched else {}
        changed = [mail for mail in touched if were.get(mail) != now.get(mail)]
        if leaving := [mail for mail in changed if mail in now]:
            await server.drop(address, leaving)
        for version in records.VERSIONS:
            if back := [mail for mail in changed if were.get(mail) == version]:
                await server.add(address, back, version)
    except ApiError as failure:
        _log.error("list_not_undone", list=address, reason=failure.code)
    return False


async def _remove(context: AppContext, actor: Actor, address: str, *, archive: bool) -> WriteResult:
    server = require_list_server(context)
    if not reachable(server, address):
        # Nothing of it can be on the list server.
        return await context.write(
            actor, lists.remove, await context.read(actor, lists.get, address)
        )
    async with lock_list(context, address) as lease:
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
        # It stays off when this fails: half a directory looks like a list.
        return await context.write(actor, lists.remove, before)


async def _remove_domain(context: AppContext, actor: Actor, name: str, days: int) -> WriteResult:
    domain = await context.read(actor, domains.check_removal, name)
    if context.list_server is None:
        return await context.write(actor, domains.remove, name, days)
    held = await context.read(actor, lists.managed_by, (), domain.names)
    for _ in range(TRIES):
        if found := await lists_of_domain(context, actor, name):
            await context.list_server.ping()
        for address in found:
            await _remove(context, actor, address, archive=True)
        try:
            done = await context.write(actor, domains.remove, name, days, with_lists=False)
        except domains.ListsLeft:
            continue

        def successor(mail: str) -> str:
            return "" if domain_of(mail) in domain.names else mail

        others = {address for address in held if domain_of(address) not in domain.names}
        return with_skipped(done, await update_lists(context, actor, successor, others))
    raise Conflict("CHANGED_MEANWHILE", "Somebody makes mailing lists in the domain.")


def _check_invitations(changes: Mapping[str, Any], param: str) -> None:
    most = records.MAX_INVITATIONS
    if changes.get("require_confirm", True) and len(changes.get(param, ())) > most:
        raise problem(param, "INVALID_VALUE", f"At most {most} can be asked in one request.")
