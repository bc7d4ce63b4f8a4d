"""What mailing lists learn of accounts that come and go.

Accounts come first: they are committed before the lists are told, and what could not be told
stands in the answer. A list server that hangs is waited for once; after that, for half a minute,
only briefly.

Few questions are asked. The account storage knows owners and moderators, and one call tells all
subscriptions; only the moderators of subscriptions are on mlmmj's side alone, so each list of the
domain is asked for its people once in half a minute. A list that has to be changed costs at most
eight calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec

import structlog

from iredapi.backends.protocols.mailing_lists import ListServer, Untouched
from iredapi.backends.unit_of_work import Skipped, UnitOfWork
from iredapi.concurrency.shield import finish
from iredapi.domain import list_updates
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.lists import State
from iredapi.errors import ApiError, ServerDown
from iredapi.operations import lists
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult
from iredapi.state import StateUnavailable
from iredapi.workflows.mailing_list_steps import (
    lists_of_domain,
    lock_list,
    reachable,
    require_list_server,
    subscribe,
    unsubscribe,
    with_skipped,
)

Params = ParamSpec("Params")
Successor = Callable[[str], str]
"""Returns somebody's new address, or an empty text."""
_SECONDS: Final = 10.0
"""After so long no further list is begun with."""
_BRIEF: Final = 2.0
"""The same, while the list server is known to hang; and the least to wait for a list's lock."""
_AT_A_TIME: Final = 3
"""Lists that are asked at once: mlmmjadmin has five processes, for others too."""
_log = structlog.get_logger(__name__)


async def remove_or_rename(
    context: AppContext,
    actor: Actor,
    old: str,
    new: str,
    operation: Callable[Concatenate[UnitOfWork, Params], Awaitable[Any]],
    *args: Params.args,
    **kwargs: Params.kwargs,
) -> WriteResult:
    """Run an operation that removes an account, or renames it to ``new``; then tell the lists."""
    server = context.list_server
    named: frozenset[str] = frozenset()
    if server is not None:
        named = await context.read(actor, lists.managed_by, (old,), ())
    done = await context.write(actor, operation, *args, **kwargs)
    if server is None or not server.accepts(old):
        return done
    others = await lists_of_domain(context, actor, domain_of(old))

    def successor(mail: str) -> str:
        return new if fold(mail) == fold(old) else mail

    return with_skipped(
        done, await finish(update_lists(context, actor, successor, named, others, old))
    )


async def join_default_lists(
    context: AppContext, actor: Actor, server: ListServer, mail: str
) -> list[Skipped]:
    """Subscribe a new user to the default lists of its domain; return the lists that failed."""
    end = _end(context)

    async def join(address: str) -> None:
        async with lock_list(context, address, _left(end)):
            if await server.exists(address):
                await subscribe(server, address, (mail,), "normal")

    wanted = await context.read(actor, lists.defaults, domain_of(mail))
    skipped: list[Skipped] = []
    await _each(context, server, wanted, join, end, skipped)
    return skipped


async def subscriptions_of(
    context: AppContext, mail: str
) -> tuple[frozenset[str] | None, list[Skipped]]:
    """Return the lists that somebody is subscribed to; None when nobody can tell.

    Nobody waits for long: what a list server that fails or hangs has said is believed for a moment.
    """
    server = context.list_server
    if server is None or not server.accepts(mail):
        return None if server is None else frozenset(), []
    # Without a list there is nothing to ask for, at each profile that is read.
    if not await context.has_lists.get_or_load("", partial(context.read, SYSTEM, lists.exist)):
        return frozenset(), []
    reason = context.list_server_fails.get("")
    if reason is None:
        now = context.list_server_fails.generation
        try:
            async with asyncio.timeout(_BRIEF):
                return frozenset(await server.lists_of(mail)), []
        except (ApiError, TimeoutError) as error:
            reason = error.code if isinstance(error, ApiError) else "MLMMJADMIN_TIMEOUT"
        context.list_server_fails.put("", reason, now)
        _log.warning("lists_not_asked", reason=reason)
    return None, [Skipped("mailing_lists", mail, reason)]


async def update_lists(
    context: AppContext,
    actor: Actor,
    successor: Successor,
    named: Collection[str],
    others: Collection[str] = (),
    mail: str = "",
) -> list[Skipped]:
    """Carry people's offices and ``mail``'s subscriptions over to their successors, or end them.

    ``named`` are lists that are known to have them in an office; ``others`` may have.
    """
    server = require_list_server(context)
    skipped: list[Skipped] = []
    end = _end(context)
    subscribed: dict[str, str] = {}

    async def succeed(address: str) -> None:
        async with lock_list(context, address, _left(end)):
            await _succeed(context, actor, server, address, successor, mail, address in subscribed)

    if mail:
        try:
            subscribed = await _before(end, server.lists_of(mail))
        except (ApiError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                _hangs(context)
            return [_not_updated(context, item, error) for item in (mail, *sorted(named))]
    try:
        known = {*named, *subscribed}
        if await _each(context, server, known, succeed, end, skipped):
            left = [item for item in others if item not in known and reachable(server, item)]
            found = await _before(end, _with_owners_or_moderators(context, server, left, successor))
            await _each(context, server, found, succeed, end, skipped)
    except (ApiError, StateUnavailable, TimeoutError) as error:
        skipped.append(_not_updated(context, mail, error))
    return skipped


async def _each(
    context: AppContext,
    server: ListServer,
    addresses: Iterable[str],
    work: Callable[[str], Awaitable[None]],
    end: float,
    skipped: list[Skipped],
) -> bool:
    """Do something for each list. One that fails does not keep the others; a dead server does."""
    away: Exception | None = None
    for address in sorted(addresses):
        if not reachable(server, address):
            continue
        error = away
        if error is None:
            try:
                if asyncio.get_running_loop().time() > end:
                    raise TimeoutError
                await work(address)
            except (ApiError, StateUnavailable, TimeoutError) as failure:
                error = failure
        if error is not None:
            skipped.append(_not_updated(context, address, error))
            away = error if _is_away(error) else None
    return away is None


async def _succeed(
    context: AppContext,
    actor: Actor,
    server: ListServer,
    address: str,
    successor: Successor,
    mail: str,
    subscribed: bool,
) -> None:
    control = await server.get(address)
    if control is None:
        return
    changes = list_updates.with_successors(address, control, successor)
    stored = await context.read(actor, lists.find, address) if changes else None
    if stored is not None:
        revised = list_updates.revise(State(stored, control), changes)
        await server.save(address, control, revised.control)
        await context.write(actor, lists.save, stored, revised.stored, changes, changes)
    if subscribed:
        present = await server.subscriptions(address, (mail,))
        new = successor(mail)
        if mail in present and new and server.accepts(new):
            await subscribe(server, address, (new,), present[mail])
        await unsubscribe(server, address, (mail,), present)


async def _with_owners_or_moderators(
    context: AppContext, server: ListServer, addresses: list[str], successor: Successor
) -> list[str]:
    """Return the lists that have people with a successor in an office."""
    cache = context.list_owners_and_moderators

    async def people(address: str) -> frozenset[str]:
        found = cache.get(address)
        if found is None:
            now = cache.generation
            control = await server.get(address)
            found = frozenset() if control is None else list_updates.owners_and_moderators(control)
            cache.put(address, found, now)
        return found

    found = []
    for start in range(0, len(addresses), _AT_A_TIME):
        some = addresses[start : start + _AT_A_TIME]
        answers = await asyncio.gather(*map(people, some))
        found += [
            address
            for address, named in zip(some, answers, strict=True)
            if any(successor(mail) != mail for mail in named)
        ]
    return found


def _end(context: AppContext) -> float:
    slow = context.list_server_hangs.get("")
    return asyncio.get_running_loop().time() + (_BRIEF if slow else _SECONDS)


def _left(end: float) -> float:
    """Return how long to wait for one list's lock."""
    return max(end - asyncio.get_running_loop().time(), _BRIEF)


async def _before(end: float, asked: Awaitable[Any]) -> Any:
    """Read something, but not longer than that; only changes are run to their end."""
    async with asyncio.timeout_at(end):
        return await asked


def _is_away(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return isinstance(error, (Untouched, ServerDown)) or error.code == "MLMMJADMIN_TIMEOUT"
    return True


def _not_updated(context: AppContext, address: str, error: Exception) -> Skipped:
    reason = error.code if isinstance(error, ApiError) else "SERVER_DOWN"
    if reason == "MLMMJADMIN_TIMEOUT":
        _hangs(context)
    _log.warning("mailing_list_not_updated", list=address, reason=reason)
    return Skipped("mailing_lists", address, reason)


def _hangs(context: AppContext) -> None:
    cache = context.list_server_hangs
    cache.put("", True, cache.generation)
