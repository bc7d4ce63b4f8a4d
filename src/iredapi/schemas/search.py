"""Forms and answers of searches over all kinds of accounts, and of what an address is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from iredapi.domain.search import KINDS, OWNERS
from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class SearchForm(Params):
    """What is searched, and where."""

    q: fields.SearchText = param(
        "Text that the address, the name or the employee id contains, in any case. At least 2 "
        "characters; all of them stand for themselves.",
        "alice",
        required=True,
    )
    limit: fields.PageSize = param("Maximum number of results; 100 if not sent.", "20")
    kind: fields.SearchKinds = param(
        f"Only results of these kinds: {', '.join(f'`{kind}`' for kind in KINDS)}.", "user,alias"
    )


class SearchResult(BaseModel):
    """One domain or account that was found."""

    kind: str = Field(json_schema_extra={"enum": list(KINDS)})
    address: str = Field(description="An e-mail address, or the name of a domain.")
    name: str = Field(description="Empty if the server hides the names of users.")
    accountStatus: Literal["active", "disabled"] | None = Field(  # noqa: N815
        description="Null if the server hides it for users."
    )
    exact: bool = Field(description="Whether the address is what was searched for.")


class AddressOwner(BaseModel):
    """What an address is."""

    mail: str
    kind: str = Field(
        description="`alias_address`: a further address of an account; `forwarding`: mail is "
        "forwarded, and there is no account; `admin`: a standalone admin; `free`: a new account "
        "can have the address.",
        json_schema_extra={"enum": list(OWNERS)},
    )
    account: str | None = Field(
        description="The account that has the address; null without one, or if it is in a domain "
        "of others."
    )
