"""Requests about mail users that arrive at the same moment: one unit, each by the rules.

Only what is ordinary goes this way; whatever is not is left to ``operations.users``, which knows
all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iredapi.audit import Event
from iredapi.backends.protocols import Vacancy
from iredapi.domain import settings_text
from iredapi.domain.actors import Actor
from iredapi.domain.domains import Domain
from iredapi.domain.users import User, permit, permit_new, revise
from iredapi.errors import ApiError
from iredapi.meter import Meter
from iredapi.operations import users
from iredapi.unit import Unit

_ORDINARY: Final = frozenset(
    {"name", "password", "password_hash", "language", "quota", "account_status"}
    | {"mailbox_format", "mailbox_folder"}
)
"""What may be said of a new user that concerns nobody else."""
_OWN: Final = frozenset(
    {"name", "gn", "sn", "mobile", "telephone_number", "language", "employeeid"}
    | {"password", "password_hash", "mailbox_format", "mailbox_folder"}
)
"""What nothing else depends on, and what depends on nothing but the rows of user and domain."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for; ``password`` is the hash, or empty."""

    actor: Actor
    mail: str
    changes: Mapping[str, Any]
    password: str
    request_id: str
    meter: Meter | None

    @property
    def creates_only_itself(self) -> bool:
        """Whether a creation can go together with others at all."""
        return bool(self.password) and self.changes.keys() <= _ORDINARY

    @property
    def changes_only_itself(self) -> bool:
        """Whether a change can go together with others at all."""
        return self.changes.keys() <= _OWN


Outcome = Event | Exception | None
"""What is to be logged, or why a request was refused; None: it is to go by itself."""


async def create(unit: Unit, orders: Sequence[Order]) -> list[Outcome]:
    """Create what can be created together. A domain's limits count those who came before."""
    places = await unit.addresses.claim_all([order.mail for order in orders])
    if places is None:
        return [None] * len(orders)
    room: dict[str, users.Taken] = {}
    made: dict[str, User] = {}
    outcomes: list[Outcome] = []
    for order, place in zip(orders, places, strict=True):
        try:
            outcomes.append(await _new(unit, order, place, room, made))
        except ApiError as refused:
            outcomes.append(refused)
    if made:
        await unit.users.add_plain(list(made.values()), changed=users.date_of_password(unit))
    return outcomes


async def _new(
    unit: Unit,
    order: Order,
    place: Vacancy | None,
    room: dict[str, users.Taken],
    made: dict[str, User],
) -> Outcome:
    changes, mail = order.changes, order.mail
    permit_new(order.actor, changes)
    place = users.vacant(mail, place)
    domain = place.domain
    # The second of two requests for one address sees the first one's user when it goes by itself.
    if mail in made or settings_text.words(domain.settings, "default_groups"):
        return None
    if not unit.rules.users.layout.append_timestamp:
        return None  # whose mailbox lies there is a question for each
    taken = room.get(domain.name)
    if taken is None:
        taken = room[domain.name] = await users.taken_in(unit, domain)
    location = await users.free_location(unit, mail, place.queued)
    user = users.drafted(unit, mail, changes, order.password, domain, taken, location)
    room[domain.name] = users.Taken(taken.users + 1, taken.quota + user.quota)
    made[mail] = user
    return users.created(mail)


async def change(unit: Unit, orders: Sequence[Order]) -> list[Outcome]:
    """Change what is the users' own. Whoever is an admin, too, goes alone: sessions may end."""
    found = await unit.users.rows_at_home([order.mail for order in orders])
    pairs: dict[str, tuple[User, User]] = {}
    outcomes: list[Outcome] = []
    for order, (domain, before) in zip(orders, found, strict=True):
        if domain is None or before is None or order.mail in pairs:
            outcomes.append(None)
            continue
        try:
            after = _changed(unit, order, domain, before)
        except ApiError as refused:
            outcomes.append(refused)
            continue
        if after is None:
            outcomes.append(None)
            continue
        pairs[order.mail] = (before, after)
        outcomes.append(users.changed(order.mail, order.changes))
    unit.commits_itself = True
    written = await unit.users.save_rows(list(pairs.values())) if pairs else frozenset()
    return [
        None if isinstance(outcome, Event) and order.mail not in written else outcome
        for order, outcome in zip(orders, outcomes, strict=True)
    ]


def _changed(unit: Unit, order: Order, domain: Domain, before: User) -> User | None:
    if before.is_admin or before.is_global:
        return None
    permit(order.actor, domain, before, order.changes)
    return revise(before, order.changes, domain, password=order.password, features=unit.features)
