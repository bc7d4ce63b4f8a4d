"""An import: the records of a file, group by group, each with its result."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import structlog

from iredapi.domain.account_records import RecordType
from iredapi.domain.actors import Actor
from iredapi.errors import ApiError, ServerDown, problem
from iredapi.state import StateUnavailable
from iredapi.transfer.accounts import account, can_be_stored, refused
from iredapi.transfer.kinds import Caller, Found, known_domains
from iredapi.transfer.lines import Entry
from iredapi.transfer.outcomes import FATAL, Outcome, Summary, failed
from iredapi.transfer.pace import Pace
from iredapi.transfer.policies import POLICIES, group_of, memberships, policy
from iredapi.transfer.users import users

GROUP: Final = 2048
"""Lines that are carried out before others are taken from the body."""
_DETAILS: Final = 1000
"""Entries of the log after which what is kept beside it is written: else the oldest are lost."""
_FRESH: Final = 5.0
"""Seconds after which the rights of the admin are read again."""
_NO_LIST: Final = ("", "")
_TYPES: Final = {item.value: item for item in RecordType}
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Import:
    """One import. ``renew`` returns the admin with its current rights, or raises ApiError."""

    caller: Caller
    renew: Callable[[], Awaitable[Actor]] | None = None
    pace: Pace = field(default_factory=Pace)
    summary: Summary = field(default_factory=Summary)
    stopped: ApiError | None = None
    """Why the import has ended before the end of the file."""
    _renewed: float = field(default_factory=time.monotonic)
    _undetailed: int = 0

    async def lines(self, entries: Sequence[Entry]) -> AsyncIterator[bytes]:
        """Carry out lines; yield what the answer says of them.

        Sets ``stopped`` when the rest of the file must not be carried out.
        """
        at = 0
        while at < len(entries) and self.stopped is None:
            some = entries[at : at + GROUP]
            at += GROUP
            try:
                await self._check()
                async for outcomes in self._group(some):
                    if outcomes:
                        yield self.summary.told(outcomes)
                        await self._breathe(len(outcomes))
            except StateUnavailable as error:
                self.stopped = error.to_api_error()
            except ApiError as error:
                self.stopped = error
            except Exception:
                _log.exception("unforeseen")
                self.stopped = ApiError("SERVER_ERROR")

    async def _check(self) -> None:
        if self.caller.context.probes.leaving:
            raise ServerDown(detail="The service is being stopped: send the rest again.")
        if self.renew is not None and time.monotonic() - self._renewed > _FRESH:
            self.caller.actor = await self.renew()
            self._renewed = time.monotonic()

    async def _breathe(self, count: int) -> None:
        """Let other requests have their turn, and the log its details."""
        self._undetailed += count
        if self._undetailed >= _DETAILS:
            self._undetailed = 0
            await self.caller.context.write_details()
        await self.pace.rest()
        await self._check()

    async def _group(self, entries: Sequence[Entry]) -> AsyncIterator[list[Outcome]]:
        """Carry out lines in order; consecutive users, and subscribers of a list, together."""
        for record_type, some in _runs(entries):
            if record_type is RecordType.USER:
                async with aclosing(users(self.caller, some, self.pace)) as results:
                    async for outcomes in results:
                        self._note_fatal(outcomes)
                        yield outcomes
                        if self.stopped is not None:
                            return
            elif record_type is RecordType.MEMBERSHIP:
                yield await self._members(some)
            else:
                known = await self._known(some) if record_type is RecordType.DOMAIN else {}
                for entry in some:
                    # Only the first line about a domain: it may change it.
                    found = known.pop(_domain(entry), None)
                    yield [await self._alone(entry, record_type, found)]
                    if self.stopped is not None:
                        return

    async def _known(self, entries: Sequence[Entry]) -> dict[str, Found]:
        names = sorted({_domain(entry) for entry in entries} - {""})
        allowed = [
            name for name in names if can_be_stored(name) and self.caller.actor.manages(name)
        ]
        return await known_domains(self.caller, allowed) if allowed else {}

    def _note_fatal(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.is_fatal:
                self.stopped = ApiError(str(outcome.more["code"]))

    async def _members(self, entries: Sequence[Entry]) -> list[Outcome]:
        try:
            return await memberships(self.caller, entries)
        except FATAL:
            raise
        except ApiError as error:
            return [failed(entry, error) for entry in entries]

    async def _alone(
        self, entry: Entry, record_type: RecordType | None, found: Found | None = None
    ) -> Outcome:
        try:
            if entry.problem is not None:
                raise entry.problem
            if record_type is None:
                raise problem("type", "INVALID_VALUE", f"One of {', '.join(RecordType)}.")
            if record_type in POLICIES:
                outcome = await policy(self.caller, entry, record_type)
            else:
                outcome = await account(self.caller, entry, record_type, found)
        except FATAL:
            raise
        except ApiError as error:
            return refused(entry, error, record_type)
        self._note_fatal([outcome])
        return outcome


def _domain(entry: Entry) -> str:
    """Return the domain that a line is about; empty: none."""
    name = entry.record.get("domain")
    return name.strip().lower() if isinstance(name, str) else ""


def _runs(entries: Sequence[Entry]) -> Iterator[tuple[RecordType | None, list[Entry]]]:
    """Split lines into runs of one type, in which no user is twice, and only one list."""

    def key(entry: Entry) -> tuple[RecordType | None, tuple[str, str]]:
        found = type_of(entry)
        return found, group_of(entry) if found is RecordType.MEMBERSHIP else _NO_LIST

    for (record_type, _), group in groupby(entries, key):
        some = list(group)
        if record_type is not RecordType.USER:
            yield record_type, some
            continue
        seen, run = set[str](), list[Entry]()
        for entry in some:
            mail = entry.record.get("mail")
            named = isinstance(mail, str) and bool(mail.strip())
            name = mail.strip().lower() if isinstance(mail, str) else ""
            if run and (name in seen or not named):
                yield RecordType.USER, run
                seen, run = set(), []
            if named:
                seen.add(name)
                run.append(entry)
            else:
                missing = problem("mail", "REQUIRED", "The line does not say who.")
                yield None, [entry._replace(problem=missing)]
        if run:
            yield RecordType.USER, run


def type_of(entry: Entry) -> RecordType | None:
    """Return the type of a record; None: it has none, or the line is no record."""
    found = entry.record.get("type")
    return _TYPES.get(found) if isinstance(found, str) and entry.problem is None else None
