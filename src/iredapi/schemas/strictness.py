"""The parameter ``strict`` of all writes."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Strictness(Params):
    """A form with the parameter ``strict``."""

    strict: fields.YesNo = param(
        "`yes`: what would be reported in `_ignored` or `_adjusted` is an error that names it, and "
        "nothing is changed. `no` overrides the server's `IREDAPI_STRICT`.",
        "yes",
        alias="strict",
    )
