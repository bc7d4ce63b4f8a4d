"""Answers of exports."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExportRecord(BaseModel):
    """An account or a policy, with the keys of `view=canonical`; see docs/export.md."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="`domain`, `admin`, `user`, `alias`, `ml`, `membership`, `maillist`, "
        "`throttle`, `greylisting`, `spampolicy` or `wblist`."
    )
