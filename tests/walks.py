"""Walks through a long list by ``cursor`` while others create and delete accounts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from sqlalchemy import text

from tests.clients import Client
from tests.contract.histories import HASH
from tests.servers.openldap import account_dn
from tests.servers.store import Store

DOMAIN: Final = "walk.test"
USERS: Final = int(os.environ.get("WALK_USERS", "1000"))
"""``make walk-test`` has 100,000."""
LIMIT: Final = 250 if USERS <= 2000 else 1000
_CHANGES: Final = 2 if USERS <= 2000 else 20
"""Accounts that are created, and as many that are deleted, while a page is read."""
_BEGINNINGS: Final = ("a_", "a-", "a.", "b", "zo", "u", "j.doe")
_FOREIGN: Final = ("A", "Zo", "é", "_x", "ß", "-y")
"""Of names that only other programs store, in SQL."""
_CHUNK: Final = 5000


def names(store: Store) -> list[str]:
    """Return the addresses at the beginning, which every collation takes for different ones."""
    beginnings = _BEGINNINGS if store.name == "openldap" else _BEGINNINGS + _FOREIGN
    return [f"{beginnings[n % len(beginnings)]}{n}@{DOMAIN}" for n in range(USERS)]


async def fill(store: Store, mails: list[str]) -> None:
    """Store users past the API. OpenLDAP is stopped meanwhile, and the domain must be there."""
    if store.name == "openldap":
        store.directory.load(_entries(mails))
        return
    columns = "username, password, domain, name, settings, disclaimer, active, quota"
    values = ":name, 'x', :domain, :shown, '', '', 1, :quota"
    insert = text(f"INSERT INTO mailbox ({columns}) VALUES ({values})")
    async with store.connect("vmail") as connection:
        for start in range(0, len(mails), _CHUNK):
            rows = [
                {"name": mail, "domain": DOMAIN, "shown": f"Name {n % 97}", "quota": n % 11}
                for n, mail in enumerate(mails[start : start + _CHUNK], start)
            ]
            await connection.execute(insert, rows)
    if store.name == "postgresql":  # nothing makes statistics of SQLite's tables
        await store.execute("ANALYZE mailbox")


def _entries(mails: list[str]) -> Iterator[str]:
    for number, mail in enumerate(mails):
        local = mail.partition("@")[0]
        yield (
            f"dn: {account_dn(mail)}\nobjectClass: inetOrgPerson\nobjectClass: mailUser\n"
            f"objectClass: shadowAccount\nobjectClass: amavisAccount\nmail: {mail}\nuid: {local}\n"
            f"cn: Name {number % 97}\nsn: {local}\naccountStatus: active\nenabledService: mail\n"
            f"homeDirectory: /var/vmail/{local}/\nuserPassword: {HASH}\n\n"
        )


@dataclass
class Walk:
    """One walk; ``changes`` are those that others made meanwhile."""

    root: Client
    mails: list[str]
    form: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        # Of every tenth user, one that the API can delete.
        self._leaving = [m for m in self.mails[::10] if m.isascii() and m.islower()]
        self._random.shuffle(self._leaving)
        self._made = 0
        self.gone: set[str] = set()
        self.changes = self.pages = 0

    async def _come(self) -> None:
        self._made += 1
        letter = self._random.choice("abjuz")
        local = f"{letter}{self._random.randrange(USERS)}-new{self.seed}-{self._made}"
        await self.root.ok("POST", f"user/{local}@{DOMAIN}", password_hash=HASH)
        self.changes += 1

    async def _leave(self) -> None:
        if self._leaving:
            mail = self._leaving.pop()
            self.gone.add(mail)
            await self.root.ok("DELETE", f"user/{mail}")
            self.changes += 1

    async def check(self) -> str:
        """Walk, and check that everybody who stayed came exactly once; return the figures."""
        begun, found = time.perf_counter(), list[str]()
        cursor: str | None = ""
        form = {"email_only": "yes", "limit": str(LIMIT), **self.form}
        while cursor is not None:
            more = {"cursor": cursor} if cursor else {}
            page = self.root.call("GET", f"users/{DOMAIN}", params=form | more)
            others = (one() for one in (self._come, self._leave) for _ in range(_CHANGES))
            (status, answer), *_ = await asyncio.gather(page, *others)
            assert (status, answer["_success"]) == (200, True), answer
            found, cursor = found + answer["_data"], answer["_next"]
            self.pages += 1
        seconds = time.perf_counter() - begun
        stayed = set(self.mails) - self.gone
        assert len(found) == len(set(found)), _some(m for m in found if found.count(m) > 1)
        assert stayed <= set(found), _some(stayed - set(found))
        assert self.gone
        assert self.pages >= len(stayed) // LIMIT
        self.mails = sorted(stayed)
        return (
            f"{len(stayed):,} of {USERS:,} users stayed, each came once, in {self.pages} pages,"
            f" among {self.changes} changes: {seconds:.1f} s"
        )


def _some(wrong: Any) -> list[str]:
    return sorted(set(list(wrong)[:20]))
