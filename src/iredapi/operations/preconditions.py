"""``If-Match``: a write that is made only if the account is still as its entity tag says.

An entity tag is ``"<view><state>-<rest>"``. ``state`` is a keyed digest of what is stored for the
account. ``rest`` is a checksum of the whole answer: it has counters, times of logins and
memberships too, which change without a write to the account. ``If-None-Match`` compares all of it,
``If-Match`` the state only. Hashes are part of the state: the key keeps the tag from telling
anything of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final
from zlib import crc32

import orjson

from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain.addresses import domain_of
from iredapi.errors import ApiError, InvalidRequest

STORED: Final = "s"
CANONICAL: Final = "c"
_VOLATILE: Final = (
    "stored_bytes", "stored_messages", "last_login", "last_login_by_service", "used_quota",
    "allocated_quota", "num_existing_users", "num_existing_aliases", "num_existing_maillists",
    "existingUsers", "existingAliases", "existingLists", "allocatedQuota", "mailing_lists",
    "domainCurrentUserNumber", "domainCurrentAliasNumber", "domainCurrentListNumber",
    "domainCurrentQuotaSize", "memberOfGroup",
)  # fmt: skip
"""Keys of profiles that are no part of the state."""
_TAG: Final = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
_SIZE: Final = 12

Reading = Callable[[ReadUnit, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Versions:
    """How the profiles of one kind of account are read and locked, by their name.

    ``claim`` None: a workflow checks the condition, under a lock of its own.
    """

    views: Mapping[str, Reading]
    """By the first letter of the tag. Each sets ``ReadUnit.state``."""
    claim: Callable[[UnitOfWork, str], Awaitable[Any]] | None


def state_of(profile: Mapping[str, Any], *more: Any) -> bytes:
    """Return what the state's digest is made of: a profile and hidden values beside it."""
    values, names = _kept(tuple(profile))
    # A digest in place of the names: hashing the state takes longer than all other steps.
    return names + orjson.dumps((values(profile), *more))


@lru_cache(maxsize=256)
def _kept(names: tuple[str, ...]) -> tuple[Callable[[Mapping[str, Any]], Any], bytes]:
    """Return what reads the values that are part of the state, and a digest of their names.

    Cached: most profiles of a kind have the same names.
    """
    kept = [name for name in names if name not in _VOLATILE]
    digest = hashlib.blake2b(orjson.dumps(kept), digest_size=_SIZE).digest()
    # ``itemgetter`` is in C, but takes no empty list.
    return itemgetter(*kept) if kept else (lambda _: ()), digest


class EntityTags:
    """Makes entity tags with a secret key, which all replicas have in common."""

    def __init__(self, key: bytes) -> None:
        self._new = hashlib.blake2b(digest_size=_SIZE, key=key[:64], person=b"iredapi etag")

    def digest(self, text: bytes) -> str:
        """Return the keyed digest of some bytes."""
        found = self._new.copy()
        found.update(text)
        return found.hexdigest()

    def tag(self, view: str, state: bytes, body: bytes) -> str:
        """Return the entity tag of an answer, with its quotes."""
        return f'"{view}{self.digest(state)}-{crc32(body):08x}{len(body):x}"'


def listed(header: str) -> list[str] | None:
    """Return the strong tags of a header's value, without quotes; None: any (``*``).

    Raises InvalidRequest.
    """
    text = header.strip()
    if text == "*":
        return None
    found, at = [], 0
    while at < len(text):
        match = _TAG.match(text, at)
        if match is None:
            break
        at = match.end()
        if not match[1]:
            found.append(match[2])
    if at < len(text) or not text:
        raise InvalidRequest(detail='If-Match must be * or tags in quotes: "…", "…".')
    return found


@dataclass(slots=True)
class Precondition:
    """The condition of one request: the target is in a state with one of the tags."""

    tags: EntityTags
    versions: Versions
    name: str
    wanted: Collection[str] | None
    met: bool = False
    """Whether a write that it guards is committed: the next writes of the request follow."""

    async def check(self, unit: UnitOfWork) -> None:
        """Lock the target and compare it. Raises ApiError ``PRECONDITION_FAILED``, or NotFound."""
        if self.versions.claim is None:
            return
        await self.versions.claim(unit, self.name)

        async def read(view: str) -> bytes:
            await self.versions.views[view](unit, self.name)
            return unit.state

        await self.compare(read)

    async def compare(self, read: Callable[[str], Awaitable[bytes]]) -> None:
        """Compare the target, whose state ``read`` returns. Raises as ``check`` does."""
        states: dict[str, set[str]] = {}
        for tag in self.wanted or ():
            states.setdefault(tag[:1], set()).add(tag[1:].partition("-")[0])
        # Without a tag of ours too: it must be there, or the answer is 404.
        for view in [view for view in self.versions.views if view in states] or [STORED]:
            found = self.tags.digest(await read(view))
            if self.wanted is None or found in states.get(view, ()):
                return
        raise ApiError("PRECONDITION_FAILED")


PRECONDITION: ContextVar[Precondition | None] = ContextVar("precondition", default=None)
"""The condition of the current request."""


async def claim_domain_of(unit: UnitOfWork, mail: str) -> None:
    """Lock the domain of an account: writes lock it first, too."""
    if "@" in mail:
        await unit.domains.claim(domain_of(mail))
