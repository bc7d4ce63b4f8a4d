"""Parameters of mail users: which fields each may change, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

PROFILE_OF: Final[Mapping[str, str]] = {
    "sender_bcc": "bcc",
    "recipient_bcc": "bcc",
    "forwarding": "forwarding",
    "add_forwarding": "forwarding",
    "remove_forwarding": "forwarding",
    "transport": "relay",
    "aliases": "aliases",
    "add_alias": "aliases",
    "remove_alias": "aliases",
}
GLOBAL_ONLY: Final = frozenset({"is_global_admin", "maildir"})
SERVICES: Final = frozenset({"services", "add_service", "remove_service"})
ROUTES: Final = frozenset({"forwarding", "add_forwarding", "remove_forwarding"})
CREDENTIALS: Final = frozenset({"password", "password_hash"})
AT_CREATION: Final = CREDENTIALS | {"quota", "language", "is_global_admin", "maildir", "restore"}
"""Parameters that ``draft`` handles itself, not ``revise``."""
DIRECT_FIELDS: Final[Mapping[str, str]] = {
    "name": "name",
    "gn": "given_name",
    "sn": "surname",
    "mobile": "mobile",
    "telephone_number": "telephone",
    "account_status": "active",
    "language": "language",
    "employeeid": "employee_id",
    "transport": "transport",
    "sender_bcc": "sender_bcc",
    "recipient_bcc": "recipient_bcc",
    "mailbox_format": "mailbox_format",
    "mailbox_folder": "mailbox_folder",
}
ALIASES: Final = frozenset({"aliases", "add_alias", "remove_alias"})
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    **{name: frozenset({field}) for name, field in DIRECT_FIELDS.items()},
    **dict.fromkeys(CREDENTIALS, frozenset({"password"})),
    **dict.fromkeys(ROUTES, frozenset({"forwardings"})),
    **dict.fromkeys(ALIASES, frozenset({"aliases"})),
    **dict.fromkeys(SERVICES, frozenset({"services", "custom_services"})),
    "quota": frozenset({"quota"}),
    "suspend": frozenset({"services", "custom_services", "held", "held_by_domain"}),
    "maildir": frozenset({"location"}),
    "is_global_admin": frozenset({"is_global", "is_admin", "marks_agree"}),
}
"""Which fields of a user each parameter may change."""


@cache
def own_row_parameters(row: frozenset[str]) -> frozenset[str]:
    """Return the parameters that change only the user's own row, whatever its values are.

    ``row`` are the fields that a storage keeps in that row and that change no other row. Only
    ``revise`` decides on these parameters, and no setting of the domain disables them.
    """
    return frozenset(
        name
        for name in DIRECT_FIELDS.keys() | CREDENTIALS
        if FIELDS[name] <= row and name not in GLOBAL_ONLY and name not in PROFILE_OF
    )


@cache
def new_row_parameters(row: frozenset[str]) -> frozenset[str]:
    """Return the parameters of a new user that write only its own row; ``row`` as above."""
    return frozenset(
        name
        for name, fields in FIELDS.items()
        if fields <= row and name not in GLOBAL_ONLY and name not in PROFILE_OF
    )
