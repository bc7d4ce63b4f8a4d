"""Requests about mail users that arrive at the same moment: one unit, each by the rules.

Only what is ordinary goes this way; whatever is not is left to ``operations.users``, which knows
all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from iredapi.backends.protocols.accounts import AddressAvailability
from iredapi.backends.protocols.user_batches import UserBatches, UserBatching
from iredapi.backends.unit_of_work import Adjusted, UnitOfWork, refuse_unless_exact
from iredapi.domain import account_settings
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.changed_parameters import different
from iredapi.domain.domains import Domain
from iredapi.domain.users import (
    User,
    changed_alone,
    created_alone,
    permit,
    plain_values,
    revise,
)
from iredapi.errors import ApiError
from iredapi.observability.query_counter import Meter
from iredapi.operations import mailbox_locations, users
from iredapi.operations.passwords import Passwords


@dataclass(slots=True)
class Order:
    """What one request asks for; ``password`` is the hash, or empty."""

    actor: Actor
    mail: str
    changes: Mapping[str, Any]
    password: str
    request_id: str
    meter: Meter | None
    passwords: Passwords | None = None
    """By which the plain password is still to be checked, with the domain's own lengths."""
    exact: bool = False
    """Whether it is an error to store something else than what was asked for."""
    changed: frozenset[str] | None = None
    """Fields that were different, when it was carried out."""
    adjusted: Sequence[Adjusted] = ()

    def may_create(self, batching: UserBatching) -> bool:
        """Tell whether a creation can go together with others at all."""
        alone = created_alone(batching.created_fields)
        return bool(self.password) and self.changes.keys() <= alone

    def may_change(self, batching: UserBatching) -> bool:
        """Tell whether a change can go together with others at all."""
        return self.changes.keys() <= changed_alone(batching.changed_fields)

    @property
    def needs_no_read(self) -> bool:
        """Whether such a change is allowed and the same whatever is there."""
        return self.actor.is_global and bool(self.changes)


_PAUSES: Final = (0.002, 0.008)
"""Seconds to wait, again and again, for who holds a domain; then each waits for itself."""
_log = structlog.get_logger(__name__)
ChangeResult = Event | Exception | bool | None
"""What is to be logged, or why a request was refused; None: it is to go by itself.

True: there is nothing to log, for nothing was different.
"""


async def create(unit: UnitOfWork, orders: Sequence[Order], outcomes: list[ChangeResult]) -> None:
    """Create what can be created together. A domain's limits count those who came before."""
    batches = unit.user_batches
    if batches is None:
        return
    mails = [order.mail for order in orders]
    places = await batches.claim_all(mails)
    for seconds in _PAUSES:
        if places is not None:
            break
        # Who holds a domain is done with it soon, as a rule.
        await asyncio.sleep(seconds)
        places = await batches.claim_all(mails)
    if places is None:
        return
    room: dict[str, users.UsedLimits] = {}
    made: dict[str, User] = {}
    for at, (order, place) in enumerate(zip(orders, places, strict=True)):
        try:
            outcomes[at] = await _new(unit, order, place, room, made)
        except ApiError as refused:
            outcomes[at] = refused
        except ValueError as error:  # whatever is odd about one is told to that one
            _log.warning("goes_alone", account=order.mail, reason=type(error).__name__)
    if made:
        await batches.add_plain(list(made.values()), changed=users.date_of_password(unit))


async def _new(
    unit: UnitOfWork,
    order: Order,
    place: AddressAvailability | None,
    room: dict[str, users.UsedLimits],
    made: dict[str, User],
) -> ChangeResult:
    changes, mail = order.changes, order.mail
    if order.passwords is None or unit.users.unsupported(changes):
        return None
    host = unit.rules.domains.hostname
    place = users.check_available(order.actor, mail, changes, order.passwords, place, host)
    users.permit_name(unit, mail)
    domain = place.domain
    # The second of two requests for one address sees the first one's user when it goes by itself.
    if mail in made or account_settings.words(domain.settings, "default_groups"):
        return None
    if not unit.rules.users.layout.append_timestamp:
        return None  # whose mailbox lies there is a question for each
    taken = room.get(domain.name)
    if taken is None:
        taken = room[domain.name] = await users.used_limits(unit, domain)
    location = await mailbox_locations.free_location(unit, mail, place.queued)
    user = users.new_user(unit, mail, changes, order.password, domain, taken, location)
    order.adjusted = users.adjusted(changes, user, domain)
    if order.exact:
        refuse_unless_exact((), order.adjusted)
    room[domain.name] = users.UsedLimits(taken.users + 1, taken.quota + user.quota)
    made[mail] = user
    return users.created(mail)


async def change(unit: UnitOfWork, orders: Sequence[Order], outcomes: list[ChangeResult]) -> None:
    """Change what is the users' own. Whoever is an admin, too, goes alone: sessions may end.

    A global admin may say anything of that whatever is there, so nothing is read first.
    """
    batches = unit.user_batches
    if batches is None:
        return
    # The second change of a user goes by itself: what becomes of one says nothing of the other.
    first = {order.mail: place for place, order in reversed(list(enumerate(orders)))}
    alone = [
        place
        for place, order in enumerate(orders)
        if first[order.mail] == place and not unit.users.unsupported(order.changes)
    ]
    free = [place for place in alone if orders[place].needs_no_read]
    seen = [place for place in alone if not orders[place].needs_no_read]
    if free:
        written = await batches.update_without_read(
            [
                (order.mail, plain_values(order.changes, order.password))
                for order in (orders[place] for place in free)
            ]
        )
        for place in free:
            if (fields := written.get(orders[place].mail)) is not None:
                outcomes[place] = _done(orders[place], fields)
    decided = await _decided(unit, batches, [orders[place] for place in seen]) if seen else []
    pairs = [found for found in decided if isinstance(found, tuple)]
    for place, found in zip(seen, decided, strict=True):
        if not isinstance(found, tuple):
            outcomes[place] = found
    saved = await batches.save_rows(pairs) if pairs else frozenset()
    for place, found in zip(seen, decided, strict=True):
        if isinstance(found, tuple) and found[0].mail in saved:
            outcomes[place] = _done(orders[place], different(*found))


def _done(order: Order, fields: Collection[str]) -> ChangeResult:
    order.changed = frozenset(fields)
    return users.changed(order.mail, order.changes) if fields else True


async def _decided(
    unit: UnitOfWork, batches: UserBatches, orders: Sequence[Order]
) -> list[tuple[User, User] | ApiError | None]:
    """Return each user as it is and as it is to be, or why not."""
    rows = await batches.read_with_domain([order.mail for order in orders])
    found: list[tuple[User, User] | ApiError | None] = []
    for order, (domain, before) in zip(orders, rows, strict=True):
        if domain is None or before is None:
            found.append(None)
            continue
        try:
            after = _changed(unit, order, domain, before)
        except ApiError as refused:
            found.append(refused)
        else:
            found.append(None if after is None else (before, after))
    return found


def _changed(unit: UnitOfWork, order: Order, domain: Domain, before: User) -> User | None:
    if before.has_rights:
        return None
    permit(order.actor, domain, before, order.changes)
    return revise(before, order.changes, domain, password=order.password, features=unit.features)
