"""Form of white- and blacklists."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class WblistEdit(Params):
    """Addresses to add or to remove."""

    addresses: fields.RemoteAddresses = param(
        "E-mail addresses, `@domain`, `@.domain` (with sub-domains), `@.` (anybody), IP addresses "
        "and CIDR networks. Invalid ones are left out and listed in `_skipped`.",
        "user1@example.net,@.example.org,192.0.2.10",
    )
