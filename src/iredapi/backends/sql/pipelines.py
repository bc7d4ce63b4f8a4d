"""Small questions of many requests, sent together: on PostgreSQL, where a message takes many.

What is asked while others are on their way waits for them and then goes out in one message. A
question that comes alone goes out at once; under load a program and its database wake each other a
fraction as often, which costs more than the questions do. Only what neither takes long nor waits
for locks may be asked here: others wait behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError

from iredapi.backends.sql.leases import Lease
from iredapi.backends.sql.plain import Plain
from iredapi.meter import METER

TOGETHER: Final = 16
"""Most questions in one message."""
LANES: Final = 4
"""Messages that may be on their way at once: as a rule one is, but none waits for a slow one."""
SLOW: Final = 0.02
"""Seconds after which a message is slow."""


@dataclass(slots=True)
class _Question:
    values: Mapping[str, Any]
    answer: asyncio.Future[list[Any]]


class Pipeline:
    """Questions of one kind (reads, or writes that are each a transaction) of one database."""

    def __init__(
        self,
        lease: Callable[[], Awaitable[Lease]],
        give: Callable[[Lease], Awaitable[None]],
        dialect: Dialect,
    ) -> None:
        self._lease = lease
        self._give = give
        self._dialect = dialect
        self._waiting: dict[str, tuple[Plain, list[_Question]]] = {}
        self._lanes: set[asyncio.Task[None]] = set()
        self._numbered: dict[str, Plain] = {}
        self._sent = 0.0

    async def fetch(self, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement; its rows. Raises what SQLAlchemy would, and ServerDown.

        Who goes away meanwhile takes nothing back: a write may have been done.
        """
        begun = time.perf_counter()
        question = _Question(values, asyncio.get_running_loop().create_future())
        found = self._waiting.get(plain.sql)
        if found is None:
            found = self._waiting[plain.sql] = (plain, [])
        found[1].append(question)
        if not self._lanes or (len(self._lanes) < LANES and begun - self._sent > SLOW):
            # What it costs is counted where it is waited for.
            lane = asyncio.get_running_loop().create_task(self._lane(), context=Context())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        rows = await question.answer
        meter = METER.get()
        if meter is not None:
            meter.count(time.perf_counter() - begun)
        return rows

    async def close(self) -> None:
        """Wait for what is on its way."""
        while self._lanes:
            await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self) -> None:
        while self._waiting:
            sql, (plain, questions) = next(iter(self._waiting.items()))
            # Those of the other kinds are next: nobody is passed over.
            del self._waiting[sql]
            if len(questions) > TOGETHER:
                self._waiting[sql] = (plain, questions[TOGETHER:])
            # Who has gone away in the meantime asks for nothing any more.
            asked = [item for item in questions[:TOGETHER] if not item.answer.done()]
            if asked:
                self._sent = time.perf_counter()
                await self._ask(plain, asked)

    async def _ask(self, plain: Plain, questions: list[_Question]) -> None:
        try:
            lease = await self._lease()
            try:
                await self._answer(lease, plain, questions)
            finally:
                await self._give(lease)
        except BaseException as error:
            for question in questions:
                if not question.answer.done():
                    question.answer.set_exception(_copy(error))
            if not isinstance(error, Exception):
                raise

    async def _answer(self, lease: Lease, plain: Plain, questions: list[_Question]) -> None:
        if len(questions) > 1:
            numbered = self._numbered.get(plain.sql)
            if numbered is None:
                numbered = self._numbered[plain.sql] = plain.numbered(self._dialect)
            try:
                found = await lease.fetch_many(numbered, [item.values for item in questions])
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                # One of them is wrong, and nothing was done: each by itself, then.
            else:
                for question, rows in zip(questions, found, strict=True):
                    if not question.answer.done():
                        question.answer.set_result(rows)
                return
        for question in questions:
            try:
                rows = await lease.fetch(plain, question.values)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                if not question.answer.done():
                    question.answer.set_exception(error)
            else:
                if not question.answer.done():
                    question.answer.set_result(rows)


def _copy(error: BaseException) -> BaseException:
    """Return an error for one of several who wait: each adds its own history to it."""
    if isinstance(error, DBAPIError):
        return type(error)(
            error.statement,
            None,
            error.orig or error,
            hide_parameters=True,
            connection_invalidated=error.connection_invalidated,
        )
    return error if isinstance(error, Exception) else asyncio.CancelledError()
