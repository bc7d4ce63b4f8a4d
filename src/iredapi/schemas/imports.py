"""Form of an import."""

from __future__ import annotations

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class ImportOptions(Params):
    """How a file is imported."""

    on_existing: fields.OnExisting = param(
        "What happens to a line about something that is there already with other values: `skip` "
        "(the default) leaves it, `update` changes it, `fail` makes the line fail.",
        "skip",
        alias="on_existing",
    )
    format: fields.FileFormat = param(
        "Format of the file. Without it the `Content-Type` decides, or the first character: `{` "
        "begins NDJSON.",
        "ndjson",
    )
    type: fields.RecordTypes = param(
        "Type of the records of a CSV file that has no column `type`; the default is `user`.",
        "user",
    )
    dry_run: fields.YesNo = param(
        "`yes`: every line is checked as for the real import, and nothing is changed.",
        "yes",
        alias="dry_run",
    )
