"""Create or change many mail users in one unit of work.

Only ordinary requests are batched. A request whose result stays None is repeated by itself with
``operations.users``, which implements every rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from iredapi.backends.protocols.user_batches import UserBatches, UserBatching
from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.unit_of_work import Adjusted, UnitOfWork, refuse_unless_exact
from iredapi.domain import account_settings
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.change_events import ChangeEvent
from iredapi.domain.changed_parameters import different, of_user_fields
from iredapi.domain.domains import Domain
from iredapi.domain.revisions import Revision, of_fields_of_user, of_user
from iredapi.domain.user_parameters import new_row_parameters, own_row_parameters
from iredapi.domain.users import User, direct_values, permit, revise
from iredapi.errors import ApiError
from iredapi.observability.query_counter import Meter
from iredapi.operations import mailbox_locations, users
from iredapi.operations.passwords import Passwords


@dataclass(slots=True)
class BatchedChange:
    """One request for a new user, or for a change of one; ``password`` is the hash, or empty."""

    actor: Actor
    mail: str
    changes: Mapping[str, Any]
    password: str
    request_id: str
    meter: Meter | None
    passwords: Passwords | None = None
    """Checks the plain password of a new user, with the limits of its domain."""
    exact: bool = False
    """Whether an adjusted value is an error in this request."""
    changed: frozenset[str] | None = None
    """Result: the fields that were different."""
    adjusted: Sequence[Adjusted] = ()
    """Result: values that were not stored as they were asked for."""
    revision: Revision | None = None
    """Result: what was changed."""
    pending: ChangeEvent | None = None
    """What the outbox has of it."""

    def may_create(self, batching: UserBatching) -> bool:
        """Tell whether a creation can be batched."""
        allowed = new_row_parameters(batching.created_fields)
        return bool(self.password) and self.changes.keys() <= allowed

    def may_change(self, batching: UserBatching) -> bool:
        """Tell whether a change can be batched."""
        return self.changes.keys() <= own_row_parameters(batching.changed_fields)

    @property
    def needs_no_read(self) -> bool:
        """Whether the change is allowed, and writes the same values, whatever is stored."""
        return self.actor.is_global and bool(self.changes)


_LOCK_RETRY_SECONDS: Final = (0.002, 0.008)
"""Pauses between attempts to lock the domains; after them each request waits by itself."""
_TURN: Final = 32
"""Items after which other requests get their turn."""
_log = structlog.get_logger(__name__)
ChangeResult = Event | Exception | bool | None
"""The result of one request of a batch.

Event: it was carried out, and this is to be logged. True: nothing was different. Exception: it is
refused. None: it must be repeated by itself.
"""


async def create(
    unit: UnitOfWork, items: Sequence[BatchedChange], results: list[ChangeResult]
) -> None:
    """Create users; fill in ``results``. Limits of domains count earlier users of the batch."""
    batches = unit.user_batches
    if batches is None:
        return
    mails = [item.mail for item in items]
    addresses = await batches.claim_addresses(mails)
    for seconds in _LOCK_RETRY_SECONDS:
        if addresses is not None:
            break
        # A lock on a domain is usually short.
        await asyncio.sleep(seconds)
        addresses = await batches.claim_addresses(mails)
    if addresses is None:
        return
    used: dict[str, users.UsedLimits] = {}
    new: dict[str, User] = {}
    for at, (item, found) in enumerate(zip(items, addresses, strict=True)):
        if at % _TURN == _TURN - 1:
            await asyncio.sleep(0)  # other requests
        try:
            results[at] = await _new(unit, item, found, used, new)
        except ApiError as refused:
            results[at] = refused
        except ValueError as error:  # an odd row fails its own request only
            _log.warning(
                "batched_change_retried_alone", account=item.mail, reason=type(error).__name__
            )
    if new:
        await batches.add_users(list(new.values()), changed=users.date_of_password(unit))


async def _new(
    unit: UnitOfWork,
    item: BatchedChange,
    found: AddressAvailability | None,
    used: dict[str, users.UsedLimits],
    new: dict[str, User],
) -> ChangeResult:
    """Decide on one creation and put the user into ``new``. None: it must be done by itself."""
    changes, mail = item.changes, item.mail
    if item.passwords is None or unit.users.unsupported(changes):
        return None
    host = unit.rules.domains.hostname
    available = users.check_available(item.actor, mail, changes, item.passwords, found, host)
    users.permit_name(unit, mail)
    domain = available.domain
    # The second of two requests for one address is repeated by itself: then the user exists.
    if mail in new or account_settings.words(domain.settings, "default_groups"):
        return None
    if not unit.rules.users.layout.append_timestamp:
        return None  # without a timestamp each path must be looked up
    limits = used.get(domain.name)
    if limits is None:
        limits = used[domain.name] = await users.used_limits(unit, domain)
    location = await mailbox_locations.free_location(unit, mail, available.queued)
    user = users.new_user(unit, mail, changes, item.password, domain, limits, location)
    item.adjusted = users.adjusted(changes, user, domain)
    if item.exact:
        refuse_unless_exact((), item.adjusted)
    used[domain.name] = users.UsedLimits(limits.users + 1, limits.quota + user.quota)
    new[mail] = user
    return users.created(mail)


async def change(
    unit: UnitOfWork, items: Sequence[BatchedChange], results: list[ChangeResult]
) -> None:
    """Change fields of users' own rows; fill in ``results``.

    Admins are left out, because their sessions may have to end. Changes by a global admin are
    written without reading the users first.
    """
    batches = unit.user_batches
    if batches is None:
        return
    first = dict[str, int]()
    without_read, with_read = list[int](), list[int]()
    for at, item in enumerate(items):
        # Only the first change of each user: the result of a second one would not be known.
        if first.setdefault(item.mail, at) == at and not unit.users.unsupported(item.changes):
            (without_read if item.needs_no_read else with_read).append(at)
    if without_read:
        wanted = {
            items[at].mail: direct_values(items[at].changes, items[at].password)
            for at in without_read
        }
        written = await batches.update_without_read(list(wanted.items()))
        for at in without_read:
            mail = items[at].mail
            if (old := written.get(mail)) is not None:
                results[at] = _done(items[at], old, of_fields_of_user, mail, old, wanted[mail])
    if with_read:
        await _change_with_read(unit, batches, items, with_read, results)


async def _change_with_read(
    unit: UnitOfWork,
    batches: UserBatches,
    items: Sequence[BatchedChange],
    with_read: Sequence[int],
    results: list[ChangeResult],
) -> None:
    """Change users whose rows decide whether the change is allowed."""
    decided = await _decided(unit, batches, [items[at] for at in with_read])
    pairs = [found for found in decided if isinstance(found, tuple)]
    for at, found in zip(with_read, decided, strict=True):
        if not isinstance(found, tuple):
            results[at] = found
    saved = await batches.save_rows(pairs) if pairs else frozenset()
    for at, found in zip(with_read, decided, strict=True):
        if isinstance(found, tuple) and found[0].mail in saved:
            results[at] = _done(items[at], different(*found), of_user, *found)


def _done(
    item: BatchedChange, fields: Collection[str], of: Callable[..., Revision], *records: Any
) -> ChangeResult:
    item.changed = frozenset(fields)
    if not fields:
        return True
    item.revision = of(of_user_fields(fields), *records)
    return users.changed(item.mail, item.changes)


async def _decided(
    unit: UnitOfWork, batches: UserBatches, items: Sequence[BatchedChange]
) -> list[tuple[User, User] | ApiError | None]:
    """Return each user before and after its change, or the refusal; None: do it by itself."""
    rows = await batches.read_with_domain([item.mail for item in items])
    found: list[tuple[User, User] | ApiError | None] = []
    for item, (domain, before) in zip(items, rows, strict=True):
        if domain is None or before is None:
            found.append(None)
            continue
        try:
            after = _changed(unit, item, domain, before)
        except ApiError as refused:
            found.append(refused)
        else:
            found.append(None if after is None else (before, after))
    return found


def _changed(unit: UnitOfWork, item: BatchedChange, domain: Domain, before: User) -> User | None:
    if before.has_rights:
        return None
    permit(item.actor, domain, before, item.changes)
    return revise(before, item.changes, domain, password=item.password, features=unit.features)
