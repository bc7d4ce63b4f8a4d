"""The parameters that all operations have: ``strict``, and ``dry_run`` of writes."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Strictness(Params):
    """A form with the parameters ``strict`` and ``dry_run``."""

    strict: fields.YesNo = param(
        "`yes`: what would be reported in `_ignored` or `_adjusted` is an error that names it, and "
        "nothing is changed. `no` overrides the server's `IREDAPI_STRICT`.",
        "yes",
        alias="strict",
    )
    dry_run: fields.YesNo = param(
        "`yes`: everything is checked as for the real call, nothing is changed, and `_changes` "
        "tells what would be.",
        "yes",
        alias="dry_run",
    )


class StrictReading(Params):
    """The parameter ``strict`` of operations that read."""

    strict: fields.YesNo = param(
        "`yes`: a parameter that the operation does not know is an error that names it.",
        "yes",
        alias="strict",
    )
