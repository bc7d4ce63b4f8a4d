"""What the forms of all policies share."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Effective(Params):
    """Which view of a policy."""

    effective: fields.YesNo = param(
        "`yes`: what applies in the end, and whose setting decides it: the user's, the domain's, "
        "the global one; also those of scopes that the admin may not read by themselves.",
        "yes",
    )
