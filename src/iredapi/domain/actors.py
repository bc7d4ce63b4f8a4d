"""The admin who makes a request, with its rights at the time of the request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from iredapi.domain import account_settings
from iredapi.domain.addresses import domain_of


@dataclass(frozen=True, slots=True)
class Principal:
    """The record of an account that may log in as admin, as the account storage has it.

    ``password`` is the stored hash; it never leaves the process.
    """

    username: str
    password: str = field(repr=False)
    standalone: bool
    is_global: bool
    domains: frozenset[str]
    settings: account_settings.Settings
    account_created_at: str = ""
    """Tells this account from a later one of the same name; empty: the storage has no such time."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The admin behind a request."""

    username: str
    is_global: bool
    domains: frozenset[str]
    """Managed domains; ignored for a global admin."""
    settings: account_settings.Settings = field(default_factory=dict)
    """Limits of a normal admin (``create_max_…``)."""
    client: str = ""
    """The client's IP address, for the audit log."""
    token: str = ""
    """Id of the API token of the request; empty for a login session."""
    read_only: bool = False
    """The token allows reading only."""
    limited: bool = False
    """The token expires, or is limited to networks, domains or reading. Rights that it gives to
    others must not outlive it."""
    credential: str = field(default="", repr=False)
    """Fingerprint of the password that the admin logged in with; empty: not known."""

    @property
    def may_create_domains(self) -> bool:
        """Whether the admin may create domains: a normal one with the key, whatever its value."""
        return self.is_global or "create_new_domains" in self.settings

    @property
    def sees_hashes(self) -> bool:
        """Whether responses show stored hashes to this admin, unless the settings hide them."""
        return self.is_global and not self.limited

    def manages(self, domain: str) -> bool:
        """Tell whether the admin manages a domain; never an empty name."""
        return bool(domain) and (self.is_global or domain in self.domains)

    def manages_account(self, mail: str) -> bool:
        """Tell whether the admin manages the account's domain, the part after its last ``@``.

        Accounts without a domain are managed by global admins only.
        """
        return self.is_global if "@" not in mail else self.manages(domain_of(mail))

    def may_see_admin(self, other: str) -> bool:
        """Tell whether an answer may name another admin: not to the admins of other domains."""
        return self.is_global or other == self.username or self.manages_account(other)


SYSTEM = Actor("iredapi", is_global=True, domains=frozenset())
"""The actor of the command line: it may do everything, as it can read the configuration."""


def fingerprint(principal: Principal) -> str:
    """Return a digest of account and password hash; sessions end when it is different."""
    account = f"{principal.standalone}\0{principal.username}\0{principal.account_created_at}"
    text = f"{account}\0{principal.password}"
    return hashlib.sha256(text.encode()).hexdigest()


def actor_of(principal: Principal, client: str) -> Actor:
    """Return the actor with all rights of a principal."""
    return Actor(
        principal.username,
        principal.is_global,
        principal.domains,
        principal.settings,
        client,
        credential=fingerprint(principal),
    )


def account_of(principal: Principal) -> str:
    """Return a digest that is different for a later account of the same name.

    Without a date of creation it is made of the password hash, so that a token ends with that.
    """
    if not principal.account_created_at:
        return fingerprint(principal)
    text = f"{principal.username}\0{principal.account_created_at}"
    return hashlib.sha256(text.encode()).hexdigest()
