"""Records that should be in the DNS, what the DNS has, and verdicts on that."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from iredapi.domain.spf import Question

NO_SUCH_NAME: Final = "NO_SUCH_NAME"
NO_RECORD: Final = "NO_RECORD"
FAILURE: Final = "DNS_FAILURE"
TIMEOUT: Final = "DNS_TIMEOUT"
INVALID_NAME: Final = "INVALID_NAME"
NOT_CONFIGURED: Final = "NOT_CONFIGURED"
KEYS_NOT_READABLE: Final = "KEYS_NOT_READABLE"
SEVERAL: Final = "SEVERAL_RECORDS"
INVALID: Final = "INVALID_RECORD"
OTHER_HOST: Final = "OTHER_HOST"
OTHER_HOST_FIRST: Final = "OTHER_HOST_FIRST"
NOT_LISTED: Final = "NOT_LISTED"
OTHER_VALUE: Final = "OTHER_VALUE"
REVOKED: Final = "KEY_REVOKED"
NOT_ASKED: Final = frozenset({FAILURE, TIMEOUT, INVALID_NAME})
"""Reasons for which it is not known what the DNS has."""
MAX_FOUND: Final = 20
"""Records that an answer shows."""
MAX_TEXT: Final = 2048
"""Characters of a record that an answer shows."""


class Status(StrEnum):
    """What a record is like."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Targets:
    """What the operator has configured. Host names are in lower case without the last dot."""

    exchangers: tuple[str, ...] = ()
    spf: str = "v=spf1 mx ~all"
    dmarc: str = "v=DMARC1; p=none"
    autoconfig: str = ""
    autodiscover: str = ""
    tls_rpt: str = ""
    keys: Mapping[tuple[str, str], str] | None = field(default_factory=dict)
    """(selector, domain) → DKIM record; the domain ``*`` stands for all without a key. None: they
    cannot be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the DNS has for one question: records as in a zone file, texts without quotes."""

    records: tuple[str, ...] = ()
    reason: str = ""
    """Why there are no records."""
    elsewhere: bool = False
    """Whether a CNAME leads to them: they are another name's, and are not shown."""

    @property
    def failed(self) -> bool:
        """Whether it is not known what the DNS has."""
        return self.reason in NOT_ASKED

    @property
    def shown(self) -> tuple[str, ...]:
        """The records that an answer has."""
        if self.elsewhere:
            return ()
        return tuple(record[:MAX_TEXT] for record in self.records[:MAX_FOUND])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record that should be in the DNS; ``value`` is what to publish, None: not known."""

    kind: str
    name: str
    type: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the DNS has of a wanted record."""

    status: Status
    reason: str = ""
    found: tuple[str, ...] = ()
    value: str | None = None
    """What to publish, if it is not the wanted value; None: it is."""


Result = TypeVar("Result")
Asking = Generator[tuple[Question, ...], tuple[Found, ...], Result]
Verdicts = list[Verdict]


@dataclass(frozen=True, slots=True)
class Check:
    """Wanted records, and the generator that returns a verdict for each; empty: leave them out."""

    wanted: tuple[Wanted, ...]
    walk: Asking[Verdicts]


def absent(found: Found) -> Verdict:
    """Return the verdict when no record is there that could be the wanted one."""
    if found.failed:
        return Verdict(Status.UNKNOWN, found.reason)
    return Verdict(Status.MISSING, found.reason or NO_RECORD)


def unknown(reason: str) -> Verdict:
    """Return the verdict of a record of which the DNS could not be asked."""
    return Verdict(Status.UNKNOWN, reason)
