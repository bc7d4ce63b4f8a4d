"""Where entries lie. Every DN can be computed, so accounts are read by name first.

Other programs put them elsewhere, and Postfix finds them by their address: so do we, when there is
nothing in the computed place (``Session.account``). What a domain holds is what has an address in
it, wherever it lies.

Names are lower case; slapd compares DNs without regard to case, and answers with the case of their
making, so DNs are compared by ``same``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from iredapi.backends.ldap.escaping import escape_filter, rdn
from iredapi.backends.ldap.escaping import key_of as same
from iredapi.domain.addresses import domain_of

__all__ = [
    "ACCOUNTS",
    "ALIASES",
    "ALL_ACCOUNTS",
    "CONTAINERS",
    "DOMAIN",
    "EXTERNAL",
    "EXTERNALS",
    "GROUPS",
    "USER",
    "USERS",
    "Tree",
    "both",
    "either",
    "ends",
    "equal",
    "everything",
    "inside",
    "real_users",
    "same",
]  # fmt: skip
USERS, GROUPS, ALIASES, EXTERNALS = "Users", "Groups", "Aliases", "Externals"
CONTAINERS = (USERS, GROUPS, ALIASES, EXTERNALS)
USER = "(objectClass=mailUser)"
DOMAIN = "(objectClass=mailDomain)"
EXTERNAL = "(objectClass=mailExternalUser)"
ACCOUNTS = "(|(objectClass=mailUser)(objectClass=mailList)(objectClass=mailAlias))"
"""Everything that has an address of its own."""
ALL_ACCOUNTS = (
    "(|(objectClass=mailUser)(objectClass=mailList)(objectClass=mailAlias)"
    "(objectClass=mailExternalUser))"
)
"""What carries ``domainStatus``: the accounts, and the external members of lists."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The two places that iRedMail uses: mail domains, and standalone admins."""

    base: str
    admin_base: str
    other_dns: dict[str, str] = field(default_factory=dict, compare=False)
    """Domains whose entries are named otherwise, and how."""

    def domain(self, name: str) -> str:
        """Return the DN of a mail domain."""
        if name in self.other_dns:
            return self.other_dns[name]
        return f"{rdn('domainName', name)},{self.base}"

    def container(self, kind: str, name: str) -> str:
        """Return the DN of one of a domain's four containers."""
        return f"{rdn('ou', kind)},{self.domain(name)}"

    def user(self, mail: str) -> str:
        """Return the DN of a mail user."""
        return f"{rdn('mail', mail)},{self.container(USERS, domain_of(mail))}"

    def catchall(self, name: str) -> str:
        """Return the DN of a domain's catch-all account."""
        return self.user(f"@{name}")

    def alias(self, address: str) -> str:
        """Return the DN of an alias account."""
        return f"{rdn('mail', address)},{self.container(ALIASES, domain_of(address))}"

    def mail_list(self, address: str) -> str:
        """Return the DN of a mailing list of either kind."""
        return f"{rdn('mail', address)},{self.container(GROUPS, domain_of(address))}"

    def external(self, address: str) -> str:
        """Return the DN of the entry that holds the external members of a list."""
        place = self.container(EXTERNALS, domain_of(address))
        return f"{rdn('memberOfGroup', address)},{place}"

    def admin(self, mail: str) -> str:
        """Return the DN of a standalone admin."""
        return f"{rdn('mail', mail)},{self.admin_base}"


def equal(name: str, value: str) -> str:
    """Return a filter: the attribute has this value."""
    return f"({name}={escape_filter(value)})"


def ends(name: str, value: str) -> str:
    """Return a filter: the attribute has a value with this end."""
    return f"({name}=*{escape_filter(value)})"


def either(terms: Iterable[str]) -> str:
    """Return a filter: one of these holds."""
    found = list(terms)
    return found[0] if len(found) == 1 else f"(|{''.join(found)})"


def both(*terms: str) -> str:
    """Return a filter: all of these hold."""
    return terms[0] if len(terms) == 1 else f"(&{''.join(terms)})"


def inside(kind: str, domain: str) -> str:
    """Return a filter: entries of a kind that have an address in a domain."""
    return both(kind, ends("mail", f"@{domain}"))


def real_users(domain: str) -> str:
    """Return a filter: the mail users of a domain, without its catch-all account."""
    return both(USER, ends("mail", f"@{domain}"), f"(!{equal('mail', '@' + domain)})")


def everything(domain: str) -> str:
    """Return a filter: what carries ``domainStatus`` for a domain, wherever it lies."""
    return either([inside(ACCOUNTS, domain), both(EXTERNAL, ends("memberOfGroup", f"@{domain}"))])
