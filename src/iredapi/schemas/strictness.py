"""The parameter that every write takes."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Strictness(Params):
    """Whether the whole request must have an effect."""

    strict: fields.YesNo = param(
        "`yes`: what would be told in `_ignored` or `_adjusted` is an error that names it, and "
        "nothing is changed. `no` prevails over the server's `IREDAPI_STRICT`.",
        "yes",
        alias="strict",
    )
