"""The parameter ``strict`` of all operations."""

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


class StrictReading(Params):
    """The parameter ``strict`` of operations that read."""

    strict: fields.YesNo = param(
        "`yes`: a parameter that the operation does not know is an error that names it.",
        "yes",
        alias="strict",
    )
