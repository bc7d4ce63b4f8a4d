"""Lines about mail users: unchanged ones cost a comparison, new ones share transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.auth import permissions
from iredapi.auth.permissions import Action, Target
from iredapi.backends.protocols.values import OwnRow
from iredapi.backends.unit_of_work import STRICT, ReadUnit
from iredapi.domain import exported_records
from iredapi.domain.account_records import RIGHTS, RecordType
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.errors import ApiError
from iredapi.observability.logging import REQUEST_ID
from iredapi.operations import lists
from iredapi.operations.passwords import Passwords
from iredapi.operations.user_batches import BatchedChange
from iredapi.runtime.outbox import EVENT_ID
from iredapi.runtime.transactions import WriteResult
from iredapi.schemas.users import UserDraft
from iredapi.transfer.accounts import (
    can_be_stored,
    creation,
    new_name,
    parsed,
    revision,
    split,
    target_of,
    unchecked,
)
from iredapi.transfer.kinds import KINDS, Caller, Found, Values, found_user
from iredapi.transfer.lines import Entry
from iredapi.transfer.outcomes import Outcome, Word, failed, written
from iredapi.transfer.pace import Pace
from iredapi.workflows.users import joined

_UNITS: Final = 2
"""Units of new users that run at the same time: while one is written, another is prepared."""
_TURN: Final = 16
"""Lines after which other requests get their turn."""
_SENT: Final = 64
"""Lines after which the results so far are sent."""
_UNSAID: Final[Mapping[str, Any]] = {
    "transport": "", "senderBcc": "", "recipientBcc": "", "aliases": [], "isGlobalAdmin": "no",
    "suspended": "no", RIGHTS: [],
}  # fmt: skip
"""Values that every new user has: such users can share a transaction."""


def _status(user: OwnRow) -> str:
    return "active" if user.active else "disabled"


_DIRECT: Final[Mapping[str, Callable[[OwnRow], Any]]] = {
    "name": lambda user: user.name or local_part_of(user.mail),
    "sn": lambda user: user.surname or local_part_of(user.mail),
    "gn": lambda user: user.given_name,
    "accountStatus": _status,
    "quota": lambda user: user.quota,
    "language": lambda user: user.language,
    "employeeid": lambda user: user.employee_id,
    "mailboxFormat": lambda user: user.mailbox_format,
    "mailboxFolder": lambda user: user.mailbox_folder,
    "password_hash": lambda user: user.password,
    "type": lambda _user: "user",
}
"""Keys whose values can be compared without the whole canonical view."""
_SIMPLE: Final = _DIRECT.keys() | {"mail"}


def _is_unchanged(record: Mapping[str, Any], user: OwnRow) -> bool:
    """Tell whether all values of a line with direct keys are certain to be stored already."""
    for key, value in record.items():
        if key == "mail":
            continue
        stored = _DIRECT[key](user)
        if value != stored and value != str(stored):
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the storage has of the users of some lines, by address."""

    own: Mapping[str, OwnRow]
    """Of lines with direct keys."""
    whole: Mapping[str, Found]
    """Of the other lines."""


async def _stored(unit: ReadUnit, simple: Sequence[str], others: Sequence[str]) -> _Stored:
    own = await unit.users.own_fields(simple) if simple else {}
    records = await unit.users.records_of(others) if others else {}
    names = sorted({domain_of(mail) for mail in records})
    hosting = await unit.domains.records_of(names) if names else {}
    whole = {}
    for mail, user in records.items():
        domain = hosting.get(domain_of(mail))
        view = exported_records.user_view(user, domain.names if domain else (), unit.features)
        whole[mail] = Found(view, user.password)
    return _Stored(own, whole)


@dataclass(slots=True)
class _Run:
    """Consecutive lines about different users."""

    caller: Caller
    entries: Sequence[Entry]
    pace: Pace
    passwords: Passwords
    results: dict[int, Outcome] = field(default_factory=dict)
    waiting: dict[int, BatchedChange] = field(default_factory=dict)
    ignored: dict[int, list[str]] = field(default_factory=dict)
    sent: int = 0
    going: list[tuple[frozenset[str], asyncio.Task[None]]] = field(default_factory=list)
    """Creations of users that are going on, while the next lines are read: domains and task."""

    def ready(self) -> list[Outcome]:
        """Return the next results, up to the first line that waits."""
        found = []
        while self.sent in self.results:
            found.append(self.results.pop(self.sent))
            self.sent += 1
        return found

    async def new(self, at: int, entry: Entry, name: str, values: Values) -> None:
        """Decide how to create a user. Raises ApiError."""
        caller = self.caller
        permissions.check(caller.actor, Action.USER_CREATE, Target(mail=name))
        mail = new_name(RecordType.USER, name)
        short = {
            key: value
            for key, value in values.items()
            if key not in _UNSAID or value != _UNSAID[key]
        }
        if short.get("forwarding") in ([mail], mail):
            del short["forwarding"]
        batcher = caller.context.user_batcher
        if RIGHTS not in short:
            changes, ignored = parsed(caller, RecordType.USER, UserDraft, Action.USER_CREATE, short)
            if batcher.takes(changes):
                hashed = await self.passwords.hashed(changes)
                if not self._share_locks(mail):
                    await self.start()
                self.waiting[at] = BatchedChange(
                    caller.actor, mail, changes, hashed, REQUEST_ID.get(), None, self.passwords,
                    exact=STRICT.get(),
                )  # fmt: skip
                self.ignored[at] = ignored
                most = caller.context.backend.most_created_together
                if len(self.waiting) >= min(self.pace.shared, most):
                    await self._start_full()
                return
        await self.flush()
        self.results[at] = await creation(caller, entry, RecordType.USER, mail, short)

    def _share_locks(self, mail: str) -> bool:
        """Tell whether a user may join those who wait. OpenLDAP locks domains one by one."""
        if self.caller.context.backend.sees_own_writes:
            return True
        return all(domain_of(item.mail) == domain_of(mail) for item in self.waiting.values())

    async def start(self) -> None:
        """Begin to create the users who wait, when those before them in their domains are there."""
        waiting, self.waiting = self.waiting, {}
        if not waiting:
            return
        domains = frozenset(domain_of(item.mail) for item in waiting.values())
        await self._settle([pair for pair in self.going if not domains.isdisjoint(pair[0])])
        if len(self.going) >= _UNITS:
            await self._settle(self.going[: 1 - _UNITS])
        task = asyncio.ensure_future(self._create(waiting))
        self.going.append((domains, task))

    async def _start_full(self) -> None:
        """Begin to create those who wait but for the last domain: its next users may follow.

        Units of different domains wait for no lock of each other.
        """
        last = domain_of(next(reversed(self.waiting.values())).mail)
        others = {at: one for at, one in self.waiting.items() if domain_of(one.mail) != last}
        if 2 * len(others) < len(self.waiting):
            await self.start()
            return
        rest = {at: one for at, one in self.waiting.items() if at not in others}
        self.waiting = others
        await self.start()
        self.waiting = rest

    async def settle(self) -> None:
        """Wait for the creations that are going on."""
        await self._settle(self.going)

    async def _settle(self, some: Sequence[tuple[frozenset[str], asyncio.Task[None]]]) -> None:
        if some:
            tasks = [task for _, task in some]
            self.going = [pair for pair in self.going if pair[1] not in tasks]
            await asyncio.wait(tasks)
            for task in tasks:
                task.result()

    async def flush(self) -> None:
        """Create the users who wait, and wait for them."""
        await self.start()
        await self.settle()

    async def _create(self, waiting: Mapping[int, BatchedChange]) -> None:
        """Create users in one transaction."""
        caller = self.caller
        done = await caller.context.user_batcher.create_all(
            list(waiting.values()), dry_run=caller.dry_run
        )
        fatal: Outcome | None = None
        for (at, item), result in zip(waiting.items(), done, strict=True):
            if fatal is not None and result is False:  # it would be tried alone, in vain
                self.results[at] = fatal._replace(entry=self.entries[at])
                continue
            self.results[at] = await self._created(at, item, result)
            if self.results[at].is_fatal:
                fatal = self.results[at]
        await self._join([waiting[at].mail for at in waiting if self._is_done(at)])

    def _is_done(self, at: int) -> bool:
        return self.results[at].word is Word.DONE

    async def _created(self, at: int, item: BatchedChange, result: bool | Exception) -> Outcome:
        caller, entry = self.caller, self.entries[at]
        if result is True:
            caller.note_planned(item.mail)
            adjusted = tuple(one.to_dict() for one in item.adjusted)
            done = WriteResult(adjusted=adjusted)
            return written(entry, done, UserDraft, self.ignored[at])
        _, values = split(entry, RecordType.USER)
        if isinstance(result, ApiError):
            if result.code == "ALREADY_EXISTS" and (found := await self._spelled(item.mail)):
                return await revision(caller, entry, RecordType.USER, item.mail, values, found)
            if caller.would_exist(result, domain_of(item.mail)):
                return unchecked(entry)
            return failed(entry, result, UserDraft)
        if isinstance(result, Exception):
            raise result
        if item.pending is not None:
            EVENT_ID.set(item.pending.id)
        return await creation(caller, entry, RecordType.USER, item.mail, values)

    async def _spelled(self, mail: str) -> Found | None:
        """Return a user whose address is stored in another spelling."""

        async def find(unit: ReadUnit) -> Found | None:
            user = await unit.users.get(mail)
            return None if user is None else await found_user(unit, user)

        return await self.caller.context.read(self.caller.actor, find)

    async def _join(self, mails: Sequence[str]) -> None:
        """Subscribe new users to the default lists of their domains."""
        caller = self.caller
        if caller.context.list_server is None or caller.dry_run:
            return
        of = dict[str, list[str]]()
        for mail in mails:
            name = domain_of(mail)
            if name not in of:
                of[name] = await caller.context.read(caller.actor, lists.defaults, name)
            if of[name]:
                await joined(caller.context, caller.actor, mail, WriteResult())


async def users(
    caller: Caller, entries: Sequence[Entry], pace: Pace
) -> AsyncGenerator[list[Outcome], None]:
    """Carry out lines about different users, in order."""
    run = _Run(caller, entries, pace, await caller.context.passwords())
    names = [str(entry.record["mail"]).strip().lower() for entry in entries]
    reading = asyncio.ensure_future(_look_up(run, names, 0))
    try:
        at = 0
        while at < len(entries):
            stored, end = await reading
            if end < len(entries):
                # While these lines are compared, the storage reads the next ones.
                reading = asyncio.ensure_future(_look_up(run, names, end))
            async for some in _each(run, names, stored, range(at, end)):
                yield some
            at = end
        await run.flush()
        yield run.ready()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await run.settle()


async def _look_up(run: _Run, names: Sequence[str], at: int) -> tuple[_Stored, int]:
    """Return what the storage has of the next lines, and the index of the line behind them."""
    end = min(at + run.pace.looked_up, len(names))
    simple, others = list[str](), list[str]()
    for entry, name in zip(run.entries[at:end], names[at:end], strict=True):
        if can_be_stored(name) and run.caller.actor.manages_account(name):
            (simple if entry.record.keys() <= _SIMPLE else others).append(name)
    return await run.caller.context.read(run.caller.actor, _stored, simple, others), end


async def _each(
    run: _Run, names: Sequence[str], stored: _Stored, lines: range
) -> AsyncIterator[list[Outcome]]:
    for at in lines:
        entry, name = run.entries[at], names[at]
        own = stored.own.get(name)
        if own is not None and _is_unchanged(entry.record, own):
            run.results[at] = Outcome(entry, Word.UNCHANGED)
        else:
            try:
                await _one(run, at, entry, own is not None, stored.whole.get(name))
            except ApiError as error:
                run.results[at] = failed(entry, error, UserDraft)
        if at % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        if at % _SENT == _SENT - 1 and (some := run.ready()):
            yield some


async def _one(run: _Run, at: int, entry: Entry, is_there: bool, found: Found | None) -> None:
    text, values = split(entry, RecordType.USER)
    name = target_of(RecordType.USER, text).mail
    caller = run.caller
    if found is None and not is_there:
        await run.new(at, entry, name, values)
        return
    permissions.check(caller.actor, Action.USER_UPDATE, Target(mail=name))
    await run.flush()
    if found is None:
        found = await KINDS[RecordType.USER].look(caller, name)
    run.results[at] = await revision(caller, entry, RecordType.USER, name, values, found)
