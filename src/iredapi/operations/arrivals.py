"""New mail users that arrive at the same moment: created in one transaction, each by the rules.

Only what is ordinary goes this way; whatever is not is left to ``users.create``, which knows all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iredapi.audit import Event
from iredapi.backends.protocols import Vacancy
from iredapi.domain import settings_text
from iredapi.domain.actors import Actor
from iredapi.domain.users import User, permit_new
from iredapi.errors import ApiError
from iredapi.meter import Meter
from iredapi.operations import users
from iredapi.unit import Unit

_ORDINARY: Final = frozenset(
    {"name", "password", "password_hash", "language", "quota", "account_status"}
    | {"mailbox_format", "mailbox_folder"}
)


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for; ``password`` is the hash."""

    actor: Actor
    mail: str
    changes: Mapping[str, Any]
    password: str
    request_id: str
    meter: Meter | None

    @property
    def ordinary(self) -> bool:
        """Whether it can go together with others at all."""
        return bool(self.password) and self.changes.keys() <= _ORDINARY


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
            outcomes.append(await _one(unit, order, place, room, made))
        except ApiError as refused:
            outcomes.append(refused)
    if made:
        await unit.users.add_plain(list(made.values()), changed=users.date_of_password(unit))
    return outcomes


async def _one(
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
