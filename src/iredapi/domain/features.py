"""Features that some storages have and others lack; rules ask for a feature, not for a storage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Feature(StrEnum):
    """A feature that a storage declares."""

    ALIAS_POLICIES = "alias policies"
    """Access policies and moderators of alias accounts are stored."""
    ANY_SERVICE = "any service"
    """Services of users and domains are any words, not columns."""
    PHONE_VALUES = "phone values"
    """Telephone numbers are several values of an LDAP syntax, not one text."""
    EXTRA_ADDRESS_POLICIES = "policies of extra addresses"
    """iRedAPD applies the access policy of a mailing list to its extra addresses, too."""
    NAME_REQUIRED = "names needed"
    """An account must have a name; the default is its local part."""
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
"""Texts about features in the OpenAPI description of operations."""
