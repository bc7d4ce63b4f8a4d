"""Form and answer of events."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from iredapi.domain.change_events import KINDS, LATEST, Cursor
from iredapi.schemas import field_validators as parse
from iredapi.schemas import fields
from iredapi.schemas.params import Params, param

MAX_LIMIT = 1000
MAX_WAIT = 60


def _after(value: Any) -> str:
    text = parse.filled(value)
    if text != LATEST and Cursor.of(text) is None:
        parse.fail("INVALID_CURSOR", "`_next` of an answer, the id of an event, or `latest`.")
    return text


_After = Annotated[str, BeforeValidator(_after), WithJsonSchema({"type": "string"})]
_Limit = Annotated[
    int,
    BeforeValidator(parse.whole_number(1, MAX_LIMIT)),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
]
_Wait = Annotated[
    int,
    BeforeValidator(parse.whole_number(0, MAX_WAIT)),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_WAIT}),
]
_Kinds = Annotated[
    tuple[str, ...],
    BeforeValidator(parse.some_words_of(KINDS)),
    WithJsonSchema({"type": "string"}),
]


class EventFilter(Params):
    """Which events. Without a parameter: all that are kept, from the oldest."""

    after: _After = param(
        "`_next` of the answer before, or the id of an event: only later ones. `latest`: none but "
        "those that are still to come. Without it: from the oldest.",
        "latest",
    )
    limit: _Limit = param("Maximum number of events; 100 without it.", "500")
    wait: _Wait = param("Maximum seconds for which the answer waits until there is an event.", "1")
    kinds: _Kinds = param(
        "Only events of these kinds, with commas between them.", "user.created,user.deleted"
    )
    domain: fields.ExistingDomain = param("Only events of this domain.", "example.com")


class ChangeEventRow(BaseModel):
    """A change that was committed."""

    id: str = Field(description="The same if the event is repeated.")
    time: str = Field(description="UTC, `YYYY-MM-DDThh:mm:ss.sssZ`.")
    kind: str = Field(description="`user.created`, `domain.updated` …; see docs/events.md.")
    account: str = Field(description="The address or domain that was changed.")
    domain: str = Field(description="Its domain; empty: none.")
    actor: str = Field(
        description="Who has changed it. Empty for normal admins if it is nobody of their domains."
    )
    request_id: str = Field(description="The `X-Request-Id` of the request.")
    fields: list[str] = Field(
        description="Names of what is different now, as in `_changed`; empty if all may be."
    )
    new_account: str | None = Field(None, description="The new address, of a renamed account.")
    policy: str | None = Field(None, description="Which one, of `policy.updated` and `.deleted`.")
    unconfirmed: bool | None = Field(
        None, description="Only with `true`: nobody knows whether the change was made."
    )
