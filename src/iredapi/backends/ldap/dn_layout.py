"""DNs and filters of iRedMail's LDAP tree.

Each account has a usual DN that can be computed, so it is read by DN first. Other programs may put
an entry elsewhere. Postfix finds entries by address, and so does ``Session.account`` if there is
none with the usual DN. An account belongs to the domain of its address, wherever its entry is.

Names are lower case. slapd ignores the case of DNs but returns them as they were written, so DNs
are compared with ``same``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from iredapi.backends.ldap.escaping import escape_filter, rdn
from iredapi.backends.ldap.escaping import key_of as same
from iredapi.backends.ldap.model import Scope, Search
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
    "OTHERS",
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
"""Entries with an address of their own."""
OTHERS = "(|(objectClass=mailList)(objectClass=mailAlias))"
"""The same without users."""
ALL_ACCOUNTS = (
    "(|(objectClass=mailUser)(objectClass=mailList)(objectClass=mailAlias)"
    "(objectClass=mailExternalUser))"
)
"""Entries with ``domainStatus``: accounts, and the external members of lists."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The two subtrees of iRedMail: mail domains, and standalone admins."""

    base: str
    admin_base: str
    other_dns: dict[str, str] = field(default_factory=dict, compare=False)
    """DNs of domains that do not have the usual DN, by name."""

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
        parent = self.container(EXTERNALS, domain_of(address))
        return f"{rdn('memberOfGroup', address)},{parent}"

    def admin(self, mail: str) -> str:
        """Return the DN of a standalone admin."""
        return f"{rdn('mail', mail)},{self.admin_base}"

    def managed_by(self, mail: str) -> Search:
        """Return the search for the names of the domains that an account manages."""
        return self.base, Scope.ONE, both(DOMAIN, equal("domainAdmin", mail)), ("domainName",)

    def groups_with(self, mail: str) -> Search:
        """Return the search for the addresses of the alias accounts with a member."""
        wanted = both("(objectClass=mailAlias)", equal("mailForwardingAddress", mail))
        return self.base, Scope.SUB, wanted, ("mail",)


def equal(name: str, value: str) -> str:
    """Return a filter: the attribute has this value."""
    return f"({name}={escape_filter(value)})"


def ends(name: str, value: str) -> str:
    """Return a filter: the attribute has a value with this suffix."""
    return f"({name}=*{escape_filter(value)})"


def either(terms: Iterable[str]) -> str:
    """Return a filter: any of these matches."""
    found = list(terms)
    return found[0] if len(found) == 1 else f"(|{''.join(found)})"


def both(*terms: str) -> str:
    """Return a filter: all of these match."""
    return terms[0] if len(terms) == 1 else f"(&{''.join(terms)})"


def inside(kind: str, domain: str) -> str:
    """Return a filter: entries of a kind that have an address in a domain."""
    return both(kind, ends("mail", f"@{domain}"))


def real_users(domain: str) -> str:
    """Return a filter: the mail users of a domain, without its catch-all account."""
    return both(USER, ends("mail", f"@{domain}"), f"(!{equal('mail', '@' + domain)})")


def everything(domain: str) -> str:
    """Return a filter: all entries with ``domainStatus`` of a domain, wherever they are."""
    return either([inside(ACCOUNTS, domain), both(EXTERNAL, ends("memberOfGroup", f"@{domain}"))])
