"""Where entries lie. Every DN can be computed, so accounts are read by name and not searched for.

Names are lower case; slapd compares DNs without regard to case, and answers with the case of their
making, so DNs are compared by ``same``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iredapi.backends.ldap.client import escape_filter, rdn
from iredapi.domain.addresses import domain_of

USERS, GROUPS, ALIASES, EXTERNALS = "Users", "Groups", "Aliases", "Externals"
CONTAINERS = (USERS, GROUPS, ALIASES, EXTERNALS)
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

    def domain(self, name: str) -> str:
        """Return the DN of a mail domain."""
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


def same(dn: str) -> str:
    """Return a DN in a form that can be compared: lower case, no blanks around separators."""
    return ",".join(part.strip() for part in dn.lower().split(","))


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


def real_users(domain: str) -> str:
    """Return a filter: the mail users of a domain, without its catch-all account."""
    return both("(objectClass=mailUser)", f"(!{equal('mail', '@' + domain)})")
