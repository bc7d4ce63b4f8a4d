"""Reading policies as records, as ``account_exports`` does accounts.

Policies of daemons that this service has no database of are left out, and for a normal admin those
whose profile is disabled in the domain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import exported_records as records
from iredapi.domain import spam
from iredapi.domain.account_records import Record, RecordType
from iredapi.domain.addresses import fold
from iredapi.domain.throttles import LIMITS
from iredapi.domain.wblists import Direction, Kind
from iredapi.errors import NotSupported
from iredapi.operations.account_exports import Part, Reading, Whole

PAGE: Final = 500
"""Rows that are read at a time."""
_FIRST: Final = ("", "")
Pair = tuple[str, str]


def _is_visible(unit: ReadUnit, chosen: Whole, profile: str, account: str) -> bool:
    if unit.actor.is_global or chosen.domain is None:
        return True
    of_user = not account.startswith("@")
    return not (
        chosen.domain.hides(profile) or (of_user and chosen.domain.hides(profile, of_user=True))
    )


def _after(found: Sequence[Any], last: Any) -> Any:
    return last if len(found) == PAGE else None


async def throttles(unit: ReadUnit, chosen: Whole, after: Pair | None) -> Part:
    """Return the next limits of how much mail is sent and received."""
    try:
        found = await unit.throttles.within(chosen.names, after or _FIRST, PAGE)
    except NotSupported:
        return Part([])
    made: dict[tuple[str, str], Record] = {}
    for item in found:
        if item.period > 0 and _is_visible(unit, chosen, "throttle", item.account):
            account = records.account_of(item.account)
            values: dict[str, Any] = {name: item.limit(name) for name in LIMITS}
            values |= {"period": item.period, "direction": item.direction}
            record = records.policy(RecordType.THROTTLE, account, values)
            made.setdefault((account, item.direction), record)
    last = (found[-1].account, found[-1].direction) if found else None
    return Part([*made.values()], _after(found, last))


async def greylisting(unit: ReadUnit, chosen: Whole, after: str | None) -> Part:
    """Return the next accounts' own settings of greylisting."""
    try:
        found = await unit.greylists.within(chosen.names, after or "", PAGE)
    except NotSupported:
        return Part([])
    made = [
        records.policy(
            RecordType.GREYLISTING,
            records.account_of(item.account),
            {"status": "enable" if item.active else "disable"},
        )
        for item in found
        if _is_visible(unit, chosen, "greylisting", item.account)
    ]
    return Part(made, _after(found, found[-1].account if found else None))


async def whitelisted(unit: ReadUnit, chosen: Whole, after: Pair | None) -> Part:
    """Return the next accounts with senders whose mail is not greylisted."""

    async def read(place: Pair) -> Sequence[Pair]:
        return await unit.greylists.whitelisted(chosen.names, place, PAGE)

    found, last = await _whole_accounts(read, after)
    made = [
        records.policy(RecordType.GREYLISTING, account, {"senders": senders})
        for account, senders in _grouped(unit, chosen, "greylisting", found)
    ]
    return Part(made, last)


async def spam_policies(unit: ReadUnit, chosen: Whole, after: str | None) -> Part:
    """Return the next spam policies: the values that they set."""
    try:
        found = await unit.spam_policies.within(chosen.names, after or "", PAGE)
    except NotSupported:
        return Part([])
    made = []
    for item in found:
        values = {
            name: value
            for name, value in spam.described(item.columns).items()
            if value not in (None, [])
        }
        if values and _is_visible(unit, chosen, "spampolicy", item.account):
            account = records.account_of(item.account)
            made.append(records.policy(RecordType.SPAMPOLICY, account, values))
    return Part(made, _after(found, found[-1].account if found else None))


def _wblist(direction: Direction, kind: Kind) -> Reading:
    async def read(unit: ReadUnit, chosen: Whole, after: Pair | None) -> Part:
        async def page(place: Pair) -> Sequence[Pair]:
            return await unit.wblists.within(chosen.names, direction, kind, place, PAGE)

        found, last = await _whole_accounts(page, after)
        made = [
            records.wblist(account, direction, kind, addresses)
            for account, addresses in _grouped(unit, chosen, "wblist", found)
        ]
        return Part(made, last)

    return read


async def _whole_accounts(
    read: Callable[[Pair], Awaitable[Sequence[Pair]]], after: Pair | None
) -> tuple[Sequence[Pair], Pair | None]:
    """Return the next pairs, with all of the last account, and where the part behind begins."""
    try:
        found = [*await read(after or _FIRST)]
        size = len(found)
        while size == PAGE and found[0][0] == found[-1][0]:
            more = await read(found[-1])
            size = len(more)
            found += more
    except NotSupported:
        return [], None
    if size < PAGE:
        return found, None
    # The last account may have more: it is read again with the next part.
    whole = [pair for pair in found if pair[0] != found[-1][0]]
    return whole, whole[-1]


def _grouped(
    unit: ReadUnit, chosen: Whole, profile: str, pairs: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the visible accounts of sorted pairs, with what each has."""
    for stored, some in groupby(pairs, key=lambda pair: pair[0]):
        if _is_visible(unit, chosen, profile, stored):
            yield records.account_of(stored), [fold(value) for _, value in some]


POLICIES: Final[tuple[Reading, ...]] = (
    throttles,
    greylisting,
    whitelisted,
    *(_wblist(direction, kind) for direction in Direction for kind in Kind),
    spam_policies,
)
"""What reads each kind of policies, in the order of an export."""
