"""What accounts must be: the state that a client's last acknowledged change has left.

A state is a set of facts, which are the same on SQL and on OpenLDAP; ``facts`` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

DOMAINS: Final = ("shared0.test", "shared1.test", "shared2.test")
"""Which all clients change."""
PAUSE: Final = 0.4
"""Seconds that a client waits after an answer that is no clear one."""


class Fact(NamedTuple):
    """One row, or one value of an attribute."""

    kind: str
    owner: str
    """The account or domain that it belongs to."""
    values: tuple[Any, ...] = ()


BESIDE_SQL: Final = frozenset({"throttle"})
BESIDE_LDAP: Final = BESIDE_SQL | {"removed mailbox", "used quota"}
"""Kinds that are in other databases than the accounts: no transaction spans both."""


@dataclass(frozen=True)
class User:
    """A user and the rows that go with them."""

    mail: str
    name: str
    quota: int
    """Megabytes."""
    active: bool = True
    forwarding: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()
    throttle: int | None = None
    used: int | None = None
    """Bytes in the mailbox, as Dovecot writes them."""

    def facts(self) -> Iterator[Fact]:
        """Yield what must be stored."""
        yield Fact("user", self.mail, (self.name, self.quota, self.active))
        for mail in self.forwarding or {self.mail}:
            yield Fact("forwarding", self.mail, (mail,))
        for mail in self.aliases:
            yield Fact("address", self.mail, (mail,))
        if self.throttle is not None:
            yield Fact("throttle", self.mail, (self.throttle,))
        if self.used is not None:
            yield Fact("used quota", self.mail, (self.used,))


@dataclass(frozen=True)
class Alias:
    """A mail alias."""

    address: str
    name: str
    members: frozenset[str]

    def facts(self) -> Iterator[Fact]:
        """Yield what must be stored."""
        yield Fact("alias", self.address, (self.name,))
        for mail in self.members:
            yield Fact("member", self.address, (mail,))


@dataclass(frozen=True)
class Domain:
    """A mail domain."""

    name: str
    description: str
    users: int = 0
    """Its limit; 0: none."""
    alias_domains: frozenset[str] = frozenset()

    def facts(self) -> Iterator[Fact]:
        """Yield what must be stored."""
        yield Fact("domain", self.name, (self.description, self.users))
        for name in self.alias_domains:
            yield Fact("alias domain", self.name, (name,))


@dataclass(frozen=True)
class State:
    """Accounts that belong together."""

    domain: Domain | None = None
    user: User | None = None
    alias: Alias | None = None
    removed: frozenset[str] = frozenset()
    """Users whose mailboxes wait for their removal from the disk."""

    def facts(self) -> frozenset[Fact]:
        """Return all that must be stored, and nothing else may be."""
        parts = [part.facts() for part in (self.domain, self.user, self.alias) if part is not None]
        gone = {Fact("removed mailbox", mail) for mail in self.removed}
        return frozenset(fact for part in parts for fact in part) | gone


class Sent(NamedTuple):
    """One request, for people who look for what went wrong."""

    seconds: float
    """Since the beginning of the run."""
    request: str
    answer: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.seconds:9.2f} s  {self.request}: {self.answer}"


@dataclass
class Bundle:
    """Accounts that one client changes, one change after the other."""

    number: int
    domain: str
    state: State = field(default_factory=State)
    other: State | None = None
    """What a change without a clear answer would have made; there are no changes after it."""
    change: str = ""
    """The kind of that change."""
    request: tuple[str, str, dict[str, Any]] | None = None
    """That change: method, path and form. None: Dovecot's."""
    between: bool = False
    """Whether only what is beside the accounts was found to be changed."""
    names: set[str] = field(default_factory=set)
    """All that it may own something under."""
    sent: list[Sent] = field(default_factory=list)

    def expected(self, beside: frozenset[str]) -> list[frozenset[Fact]]:
        """Return the sets of facts that are right, the most likely first.

        ``beside`` are the kinds that are in other databases than the accounts.
        """
        old = self.state.facts()
        if self.other is None:
            return [old]
        new = self.other.facts()
        # Rows in other databases are committed before the accounts.
        between = frozenset(
            {fact for fact in old if fact.kind not in beside}
            | {fact for fact in new if fact.kind in beside}
        )
        return [old, new, between]
