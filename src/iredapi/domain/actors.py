"""Who asks: an admin as it is at the time of the request."""

from __future__ import annotations

from dataclasses import dataclass, field

from iredapi.domain import account_settings
from iredapi.domain.addresses import domain_of


@dataclass(frozen=True, slots=True)
class Principal:
    """What the account storage says of somebody who may be an admin.

    ``password`` is the stored hash; it never leaves the process.
    """

    username: str
    password: str = field(repr=False)
    standalone: bool
    is_global: bool
    domains: frozenset[str]
    settings: account_settings.Settings
    account_created_at: str = ""
    """What tells this account from a later one of the same name; empty where nothing does."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The admin behind a request."""

    username: str
    is_global: bool
    domains: frozenset[str]
    """Managed domains; of no meaning for a global admin."""
    settings: account_settings.Settings = field(default_factory=dict)
    """Limits of a normal admin (``create_max_…``)."""
    client: str = ""
    """The client's IP address, for the audit log."""
    token: str = ""
    """The id of the API token that the request came with; empty for a login session."""
    read_only: bool = False
    """May change nothing: the token says so."""
    limited: bool = False
    """The token ends, or is for some networks or domains, or may only read: what it gives to others
    must not outlive that."""
    credential: str = field(default="", repr=False)
    """A fingerprint of the password that this admin has logged in with; empty: not known."""

    @property
    def may_create_domains(self) -> bool:
        """Global admins may; normal ones when the key is there, whatever its value."""
        return self.is_global or "create_new_domains" in self.settings

    @property
    def sees_hashes(self) -> bool:
        """Tell whether stored hashes are shown where the settings do not hide them."""
        return self.is_global and not self.limited

    def manages(self, domain: str) -> bool:
        """Tell whether the domain is this admin's; an empty name never is."""
        return bool(domain) and (self.is_global or domain in self.domains)

    def manages_account(self, mail: str) -> bool:
        """Tell whether the account's domain, the part after its last ``@``, is this admin's.

        What has no domain is for global admins.
        """
        return self.is_global if "@" not in mail else self.manages(domain_of(mail))


SYSTEM = Actor("iredapi", is_global=True, domains=frozenset())
"""The command line, run by whoever may read the configuration."""
