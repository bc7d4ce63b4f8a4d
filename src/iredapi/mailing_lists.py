"""Changes of mailing lists: the account storage and the list server, kept together.

No transaction spans both, so the order decides what a failure leaves. A list is made on the list
server first and gets its routes last, so that no mail reaches half of it; it is removed the other
way round. What fails is undone where that is certain; where it is not, the same request sent again
completes it. A lock in the state database keeps replicas apart, and no database transaction is open
while the list server is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import uuid4

import structlog

from iredapi.backends.list_protocols import ListServer, Untouched
from iredapi.domain import canonical
from iredapi.domain import lists as rules
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.domain.addresses import domain_of
from iredapi.domain.lists import Control, MailingList, State, Subscriber
from iredapi.errors import ApiError, Conflict, NotFound, NotSupported, Overloaded, problem
from iredapi.office import Done, Office
from iredapi.operations import domains, lists, users
from iredapi.state import Lease, LockTimeout, StateUnavailable
from iredapi.unit import Skipped, Unit

Params = ParamSpec("Params")
Result = TypeVar("Result")
_WAIT: Final = 30.0
"""Seconds to wait for a list that somebody else is changing."""
_COURTESY: Final = 20.0
"""Seconds for what is done for lists when an account goes; it never fails the request."""
_PAGE: Final = 1000
_TRIES: Final = 3
_log = structlog.get_logger(__name__)


async def read(
    office: Office, actor: Actor, address: str, *, with_subscribers: bool, neutral: bool = False
) -> tuple[dict[str, Any], list[Subscriber] | None]:
    """Return a list's profile, and its subscribers when they are asked for."""
    server = _server(office)
    stored = await office.read(actor, lists.get, address)
    control = await _control(server, address)
    if different := rules.drift(stored, control):
        _log.warning("list_drift", list=address, parameters=different)
    found = await server.subscribers(address) if with_subscribers else None
    shown = canonical.mailing_list if neutral else rules.shown
    return shown(stored, control), found


async def create(office: Office, actor: Actor, address: str, changes: Mapping[str, Any]) -> Done:
    """Make a list."""
    return await _whole(_create(office, actor, address, changes))


async def update(office: Office, actor: Actor, address: str, changes: Mapping[str, Any]) -> Done:
    """Change a list."""
    return await _whole(_update(office, actor, address, changes))


async def remove(office: Office, actor: Actor, address: str, *, archive: bool) -> Done:
    """Remove a list."""
    return await _whole(_remove(office, actor, address, archive=archive))


async def remove_domain(office: Office, actor: Actor, name: str, days: int) -> Done:
    """Remove a domain with its accounts, its lists one by one before."""
    return await _whole(_remove_domain(office, actor, name, days))


# The steps of one list ---------------------------------------------------------------------------


async def _create(office: Office, actor: Actor, address: str, changes: Mapping[str, Any]) -> Done:
    server = _server(office)
    if not rules.is_safe(address) or not server.accepts(address):
        raise problem("mail", "INVALID_MAIL", "The list server cannot handle such an address.")
    _check_invitations(changes, "subscribers")
    async with _held(office, address) as lease:
        usable, skipped = await office.read(
            actor, lists.prepare_new, address, changes, server.accepts
        )
        state = rules.draft(address, usable, str(uuid4()), office.settings.mlmmj_transport)
        mails, version = usable.get("subscribers", ()), usable.get("subscription", "normal")
        asked = usable.get("require_confirm", True)
        await _clear(server, address)
        lease.check()
        try:
            await server.create(address, state.control)
            if mails and not asked:
                await _subscribe(server, address, mails, version)
            lease.check()
            done = await office.write(actor, lists.add, state.stored)
        except Exception as error:
            if not await _undo_creation(office, server, state.stored, error):
                raise
            done = Done()
        if mails and asked:
            try:
                await _invite(server, address, mails, version)
            except ApiError as error:
                _log.error("list_invitations_failed", list=address, reason=error.code)
                raise ApiError("LIST_CREATED_SUBSCRIBERS_FAILED") from error
    return _more(done, skipped)


async def _clear(server: ListServer, address: str) -> None:
    """Archive what another list left behind: a new one would get its subscribers."""
    if await server.exists(address):
        _log.warning("list_data_left_behind", list=address)
        await server.remove(address, archive=True)
        if await server.exists(address):
            raise ApiError("MLMMJADMIN_ERROR", "The data of a former list cannot be moved away.")


async def _undo_creation(
    office: Office, server: ListServer, stored: MailingList, error: Exception
) -> bool:
    """Take back a new list; tells whether it was committed after all, and so is whole."""
    try:
        row = await office.read(SYSTEM, lists.find, stored.address)
    except Exception:
        # Nobody knows whether it was committed. A list without routes does no harm.
        _log.exception("list_creation_unsure", list=stored.address)
        return False
    if row is not None:
        return row.mlid == stored.mlid
    if isinstance(error, LockTimeout):
        return False
    try:
        await server.remove(stored.address, archive=False)
    except ApiError as failure:
        # The next creation moves it away.
        _log.error("list_not_undone", list=stored.address, reason=failure.code)
    return False


async def _update(office: Office, actor: Actor, address: str, changes: Mapping[str, Any]) -> Done:
    _check_invitations(changes, "add_subscribers")
    async with _held(office, address) as lease:
        before = await office.read(actor, lists.get, address)
        if not rules.needs_server(changes, before):
            after = rules.revise_stored(before, changes)
            return await office.write(actor, lists.save, before, after, changes)
        server = _server(office)
        usable, skipped = await office.read(actor, lists.prepare, before, changes, server.accepts)
        state = State(before, await _control(server, address))
        revised = rules.revise(state, usable)
        wanted, gone = usable.get("add_subscribers", ()), usable.get("remove_subscribers", ())
        version = usable.get("subscription", "normal")
        asked = usable.get("require_confirm", True)
        touched = tuple(dict.fromkeys((*gone, *wanted)))
        were = await server.subscriptions(address, touched) if touched else {}
        lease.check()
        try:
            if state.control != revised.control:
                await server.save(address, state.control, revised.control)
            if leaving := [mail for mail in gone if mail in were]:
                await server.drop(address, leaving)
            if wanted and not asked:
                await _subscribe(server, address, wanted, version)
            lease.check()
            done = await office.write(actor, lists.save, before, revised.stored, changes)
        except Exception as error:
            if not await _undo_update(office, server, state, revised, were, touched, error):
                raise
            done = Done()
        if wanted and asked:
            # Who is removed in the same request only changes the kind of subscription.
            known = [mail for mail in wanted if mail in were]
            await _subscribe(server, address, known, version)
            await _invite(server, address, [m for m in wanted if m not in were], version)
    return _more(done, skipped)


async def _undo_update(
    office: Office,
    server: ListServer,
    before: State,
    after: State,
    were: Mapping[str, str],
    touched: Collection[str],
    error: Exception,
) -> bool:
    """Take back a change of the list server; tells whether it was committed after all."""
    address = before.stored.address
    if isinstance(error, LockTimeout):
        return False  # it is somebody else's turn
    if before.stored != after.stored:
        try:
            row = await office.read(SYSTEM, lists.find, address)
        except Exception:
            # Nobody knows whether it was committed: the same request again completes it.
            _log.exception("list_change_unsure", list=address)
            return False
        if row is not None and replace(row, modified="") == replace(after.stored, modified=""):
            return True
    try:
        if before.control != after.control:
            await server.save(address, after.control, before.control)
        now = await server.subscriptions(address, touched) if touched else {}
        changed = [mail for mail in touched if were.get(mail) != now.get(mail)]
        if leaving := [mail for mail in changed if mail in now]:
            await server.drop(address, leaving)
        for version in rules.VERSIONS:
            if back := [mail for mail in changed if were.get(mail) == version]:
                await server.add(address, back, version)
    except ApiError as failure:
        _log.error("list_not_undone", list=address, reason=failure.code)
    return False


async def _remove(office: Office, actor: Actor, address: str, *, archive: bool) -> Done:
    server = _server(office)
    if not rules.is_safe(address) or not server.accepts(address):
        # Nothing of it can be on the list server.
        return await office.write(actor, lists.remove, await office.read(actor, lists.get, address))
    async with _held(office, address) as lease:
        before = await office.read(actor, lists.find, address)
        if before is None:
            if not await server.exists(address):
                raise NotFound("NO_SUCH_ACCOUNT")
            await server.remove(address, archive=archive)
            return await office.write(actor, lists.note_orphan, address)
        if before.active:
            await office.write(actor, lists.switch, address, active=False)
        try:
            lease.check()
            await server.remove(address, archive=archive)
        except (Untouched, LockTimeout):
            if before.active:
                await office.write(actor, lists.switch, address, active=True)
            raise
        # It stays off when this fails: half a directory looks like a list.
        return await office.write(actor, lists.remove, before)


async def _remove_domain(office: Office, actor: Actor, name: str, days: int) -> Done:
    domain = await office.read(actor, domains.check_removal, name)
    if office.list_server is None:
        return await office.write(actor, domains.remove, name, days)
    held = await office.read(actor, lists.held_by, (), domain.names)
    for _ in range(_TRIES):
        if found := await _lists_of_domain(office, actor, name):
            await office.list_server.ping()
        for address in found:
            await _remove(office, actor, address, archive=True)
        try:
            done = await office.write(actor, domains.remove, name, days, with_lists=False)
        except domains.ListsLeft:
            continue

        def successor(mail: str) -> str:
            return "" if domain_of(mail) in domain.names else mail

        others = {address for address in held if domain_of(address) not in domain.names}
        return _more(done, await _courtesy(office, actor, successor, others))
    raise Conflict("CHANGED_MEANWHILE", "Somebody makes mailing lists in the domain.")


async def _lists_of_domain(office: Office, actor: Actor, name: str) -> list[str]:
    found: list[str] = []
    while some := await office.read(
        actor, lists.addresses, name, found[-1] if found else "", _PAGE
    ):
        found += some
    return found


# Subscribers -------------------------------------------------------------------------------------


async def _subscribe(
    server: ListServer, address: str, mails: Collection[str], version: str
) -> None:
    """Subscribe people without asking them, and see that they are: lists have other writers."""
    for _ in range(_TRIES):
        present = await server.subscriptions(address, mails) if mails else {}
        missing = [mail for mail in mails if present.get(mail) != version]
        if not missing:
            return
        # Nobody is in two versions: they would get everything twice.
        if switching := [mail for mail in missing if mail in present]:
            await server.drop(address, switching)
        await server.add(address, missing, version)
    present = await server.subscriptions(address, mails)
    if any(present.get(mail) != version for mail in mails):
        raise ApiError("MLMMJADMIN_ERROR", "The list server did not take all subscribers.")


async def _invite(server: ListServer, address: str, mails: Collection[str], version: str) -> None:
    """Ask people who are not subscribed; who is only changes to this version."""
    present = await server.subscriptions(address, mails) if mails else {}
    await _subscribe(server, address, tuple(present), version)
    if new := [mail for mail in mails if mail not in present]:
        await server.invite(address, new, version)


def _check_invitations(changes: Mapping[str, Any], param: str) -> None:
    most = rules.MAX_INVITATIONS
    if changes.get("require_confirm", True) and len(changes.get(param, ())) > most:
        raise problem(param, "INVALID_VALUE", f"At most {most} can be asked in one request.")


# When accounts come and go -----------------------------------------------------------------------


async def leaving(
    office: Office,
    actor: Actor,
    old: str,
    new: str,
    operation: Callable[Concatenate[Unit, Params], Awaitable[Any]],
    *args: Params.args,
    **kwargs: Params.kwargs,
) -> Done:
    """Run an operation that removes an account, or renames it to ``new``; then tell the lists.

    Lists that could not be told are named in the answer: a stopped list server must not keep
    anybody from managing accounts.
    """
    server = office.list_server
    held: set[str] = set()
    if server is not None:
        held |= await office.read(actor, lists.held_by, (old,), ())
    done = await office.write(actor, operation, *args, **kwargs)
    if server is None or not server.accepts(old):
        return done
    held |= set(await _lists_of_domain(office, actor, domain_of(old)))

    def successor(mail: str) -> str:
        return new if mail == old else mail

    return _more(done, await _whole(_courtesy(office, actor, successor, held, old)))


async def create_user(office: Office, actor: Actor, mail: str, *args: Any) -> Done:
    """Create a user, and subscribe it to the default lists of its domain."""
    done = await office.write(actor, users.create, mail, *args)
    server = office.list_server
    if server is None or not server.accepts(mail):
        return done
    skipped = []
    for address in await office.read(actor, lists.defaults, domain_of(mail)):
        try:
            async with asyncio.timeout(_COURTESY), _held(office, address):
                if rules.is_safe(address) and await server.exists(address):
                    await _subscribe(server, address, (mail,), "normal")
        except (ApiError, StateUnavailable, TimeoutError) as error:
            skipped.append(_untold(address, error))
    return _more(done, skipped)


async def _courtesy(
    office: Office,
    actor: Actor,
    successor: Callable[[str], str],
    candidates: Collection[str],
    mail: str = "",
) -> list[Skipped]:
    """Carry people's offices and ``mail``'s subscriptions over to their successors, or end them."""
    server = _server(office)
    skipped: list[Skipped] = []
    todo = set(candidates)
    try:
        async with asyncio.timeout(_COURTESY):
            if mail:
                todo |= (await server.lists_of(mail)).keys()
            for address in sorted(todo):
                if not rules.is_safe(address) or not server.accepts(address):
                    continue
                try:
                    await _succeed(office, actor, server, address, successor, mail)
                except (Conflict, NotFound, Overloaded) as error:
                    skipped.append(_untold(address, error))
    except (ApiError, StateUnavailable, TimeoutError) as error:
        skipped.append(_untold(mail, error))
    return skipped


async def _succeed(
    office: Office,
    actor: Actor,
    server: ListServer,
    address: str,
    successor: Callable[[str], str],
    mail: str,
) -> None:
    # Most lists have nothing to do with them: the lock is for those that do.
    control = await server.get(address)
    were = await server.subscriptions(address, (mail,)) if mail and control else {}
    if control is None or not (rules.succeed(address, control, successor) or were):
        return
    async with _held(office, address):
        control = await _control(server, address)
        changes = rules.succeed(address, control, successor)
        stored = await office.read(actor, lists.find, address)
        if changes and stored is not None:
            revised = rules.revise(State(stored, control), changes)
            await server.save(address, control, revised.control)
            await office.write(actor, lists.save, stored, revised.stored, changes)
        if mail in were:
            new = successor(mail)
            if new and server.accepts(new):
                await _subscribe(server, address, (new,), were[mail])
            await server.drop(address, (mail,))


def _untold(address: str, error: Exception) -> Skipped:
    reason = error.code if isinstance(error, ApiError) else "SERVER_DOWN"
    _log.warning("list_not_told", list=address, reason=reason)
    return Skipped("mailing_lists", address, reason)


# What they share ---------------------------------------------------------------------------------


def _server(office: Office) -> ListServer:
    if office.list_server is None:
        raise NotSupported(detail="No list server is configured.")
    return office.list_server


async def _control(server: ListServer, address: str) -> Control:
    found = None
    if rules.is_safe(address) and server.accepts(address):
        found = await server.get(address)
    if found is None:
        _log.error("list_data_missing", list=address)
        raise ApiError("MAILING_LIST_DATA_MISSING")
    return found


@asynccontextmanager
async def _held(office: Office, address: str) -> AsyncIterator[Lease]:
    try:
        async with office.state.locks.hold(f"list {address}", wait=_WAIT) as lease:
            yield lease
    except LockTimeout:
        raise Overloaded("Somebody else is changing the list.") from None


async def _whole(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a change to its end, even when the request is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _more(done: Done, skipped: Collection[Skipped]) -> Done:
    told = tuple(
        {"param": item.param, "value": item.value, "reason": item.reason} for item in skipped
    )
    return Done((*done.skipped, *told))
