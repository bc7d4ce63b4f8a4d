"""Asks the DNS for the records of hosted domains, for the checks of ``domain.dns_checks``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import dns.zonefile

from iredapi.backends.dns import make_resolver
from iredapi.domain.dns_records import (
    FAILURE,
    INVALID_NAME,
    NO_RECORD,
    NO_SUCH_NAME,
    TIMEOUT,
    Check,
    Found,
    Verdict,
    Verdicts,
    unknown,
)
from iredapi.domain.spf import Question

_MAX_CONCURRENT: Final = 32
_MAX_BYTES: Final = 4 * 1024 * 1024
_DOMAINKEY: Final = "._domainkey."


class Survey:
    """The look-ups of one request: each question is asked once, and all share one time limit."""

    def __init__(self, address: tuple[str, int] | None, timeout: float) -> None:
        """``address``: of the resolver, and its port; None: the system's. ``timeout``: seconds."""
        self._address = address
        self._timeout = timeout
        self._semaphore = asyncio.Semaphore(_MAX_CONCURRENT)
        self._asked: dict[Question, asyncio.Task[Found]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def run(self, checks: Sequence[Check]) -> list[Verdicts]:
        """Return the verdicts of each check; those that take too long are unknown."""
        found: list[Verdicts] = [[unknown(TIMEOUT)] * len(check.wanted) for check in checks]
        try:
            self._resolver = make_resolver(self._address, self._timeout)
        except (dns.exception.DNSException, OSError):
            return [[unknown(FAILURE)] * len(check.wanted) for check in checks]

        async def judge(place: int) -> None:
            found[place] = await self._judged(checks[place])

        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout), asyncio.TaskGroup() as group:
                self._tasks = group
                for place in range(len(checks)):
                    group.create_task(judge(place))
        for check in checks:
            check.walk.close()
        return found

    async def addresses(self, name: str) -> list[str]:
        """Return the IP addresses of a name. Raises TimeoutError."""
        resolver = make_resolver(self._address, self._timeout)
        async with asyncio.timeout(self._timeout):
            founds = await asyncio.gather(
                _answer(resolver, Question(name, "AAAA")), _answer(resolver, Question(name, "A"))
            )
        return [record for found in founds for record in found.records]

    async def _judged(self, check: Check) -> list[Verdict]:
        try:
            questions = next(check.walk)
            while True:
                answers = await asyncio.gather(*map(self._ask, questions))
                questions = check.walk.send(tuple(answers))
        except StopIteration as end:
            verdicts: list[Verdict] = end.value
            return verdicts

    async def _ask(self, question: Question) -> Found:
        assert self._tasks is not None  # noqa: S101 (only called by its tasks)
        if question not in self._asked:
            self._asked[question] = self._tasks.create_task(self._answered(question))
        return await self._asked[question]

    async def _answered(self, question: Question) -> Found:
        assert self._resolver is not None  # noqa: S101
        async with self._semaphore:
            return await _answer(self._resolver, question)


async def _answer(resolver: dns.asyncresolver.Resolver, question: Question) -> Found:
    try:
        name = dns.name.from_text(question.name)
    except (dns.exception.DNSException, UnicodeError):
        return Found(reason=INVALID_NAME)
    try:
        answer = await resolver.resolve(name, question.type, search=False, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN as error:
        # Whether the name exists to which a CNAME leads is not told.
        is_alias = error.canonical_name != name
        return Found(reason=NO_RECORD if is_alias else NO_SUCH_NAME)
    except dns.exception.Timeout:
        return Found(reason=TIMEOUT)
    except (dns.exception.DNSException, OSError, EOFError):
        return Found(reason=FAILURE)
    if answer.rrset is None:
        return Found(reason=NO_RECORD)
    texts = tuple(_text(record, question.type) for record in answer.rrset)
    return Found(texts, elsewhere=answer.canonical_name != name)


def _text(record: Any, kind: str) -> str:
    if kind == "TXT":
        # A long text is cut into strings, wherever the one who has published it liked.
        return b"".join(record.strings).decode("utf-8", "replace")
    return str(record.to_text()).lower()


def dkim_keys(path: Path) -> dict[tuple[str, str], str]:
    """Return the DKIM records of a zone file, such as ``amavisd showkeys`` writes.

    Keys are (selector, domain) in lower case. Raises OSError, and ValueError if it is no such file.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError("the file is larger than 4 MiB")
    try:
        sets = dns.zonefile.read_rrsets(content.decode(), rdclass=None, default_ttl=3600)
    except dns.exception.DNSException as error:
        raise ValueError(str(error)) from None
    found = {}
    for records in sets:
        name = records.name.to_text(omit_final_dot=True).lower()
        selector, middle, domain = name.partition(_DOMAINKEY)
        if middle and records.rdtype == dns.rdatatype.TXT:
            found[selector, domain] = _text(records[0], "TXT")
    return found
