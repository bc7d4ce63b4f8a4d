"""What some storages can do and others cannot: rules ask for these, never for a kind of storage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Feature(StrEnum):
    """Something that a storage declares."""

    ALIAS_POLICIES = "alias policies"
    """Who may send to an alias account is kept."""
    ANY_SERVICE = "any service"
    """Services of users, and of domains, are free words, not columns."""
    PHONE_VALUES = "phone values"
    """Telephone numbers are values of a syntax, not one text."""
    EXTRA_ADDRESS_POLICIES = "policies of extra addresses"
    """Who may send to a mailing list holds for its extra addresses, too."""
    NAME_REQUIRED = "names needed"
    """An account without a name is called by its local part."""
    MAILLIST = "unsubscribable mailing lists"
    LDIF = "LDIF export"


LDAP: Final = frozenset(
    {
        Feature.ANY_SERVICE,
        Feature.PHONE_VALUES,
        Feature.NAME_REQUIRED,
        Feature.EXTRA_ADDRESS_POLICIES,
        Feature.MAILLIST,
        Feature.LDIF,
    }
)
SQL: Final = frozenset({Feature.ALIAS_POLICIES})
NOTES: Final[Mapping[Feature, str]] = MappingProxyType(
    {
        Feature.MAILLIST: "Only where accounts are kept in LDAP; otherwise 501.",
        Feature.LDIF: "Only where accounts are kept in LDAP; otherwise 501.",
    }
)
"""What the documentation of routes says."""
