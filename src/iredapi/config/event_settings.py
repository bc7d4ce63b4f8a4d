"""Settings of events."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field


class EventSettings(BaseModel):
    """Whether changes are told to other systems (docs/events.md)."""

    TITLE: ClassVar[str] = "Events"

    events: bool = Field(
        False,
        description="Whether every change of an account, domain or policy is kept as an event, for "
        "`GET /events`. Then no change is made while the state database is away. All replicas need "
        "the same value.",
    )
    events_days: int = Field(7, ge=1, le=3650, description="For how many days events can be read.")
