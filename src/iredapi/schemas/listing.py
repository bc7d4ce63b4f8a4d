"""Parameters of lists: how much of a list, which items, in which order, and what of each.

A list without any of them is answered as if they did not exist (docs/adr/0015).
"""

from __future__ import annotations

from typing import Any, ClassVar

from iredapi.domain.listing import ADDRESS, DEFAULT_LIMIT, ListQuery, Shape
from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class Paged(Params):
    """How much of a list, and what of each item."""

    limit: fields.PageSize = param(
        "Answer with one page of at most this many items. `_next` is then the cursor of the next "
        "page, or null at the end.",
        "100",
    )
    cursor: fields.Cursor = param(
        "`_next` of the page before: the answer begins after it. The other parameters that choose "
        "and sort items must be the same; `limit`, `total`, `fields` and `view` may change.",
        "0n3M9G3nBDz0dQbFrm0h5yGBbOEHcrqkWyJhQGV4LmNvbSIsbnVsbF0",
    )
    total: fields.YesNo = param(
        "Also answer with `_total`: how many items all pages have together.", "yes"
    )
    only_fields: fields.FieldNames = param(
        "Only these keys of each item, with commas between them: those of the `view`, if "
        "the list has views.",
        "accountStatus",
        alias="fields",
    )

    paging: ClassVar[frozenset[str]] = frozenset({"limit", "cursor", "total", "only_fields"})
    """The fields that make an answer differ from the published one."""

    @property
    def asks_for_more(self) -> bool:
        """Whether a parameter was sent that the published list does not have."""
        return bool(self.model_fields_set & self.paging)

    @property
    def is_paged(self) -> bool:
        """Whether one page is requested, and not the whole list."""
        return bool(self.model_fields_set & {"limit", "cursor"})

    @property
    def page_size(self) -> int:
        """The maximum number of items of the page."""
        return self.limit or DEFAULT_LIMIT

    @property
    def shape(self) -> Shape:
        """What of each item is requested."""
        words: Any = getattr(self, "with_", None)
        view: Any = getattr(self, "view", None)
        only_names = getattr(self, "email_only", None) or getattr(self, "name_only", None)
        chosen = "names" if only_names else view or "native"
        return Shape(chosen, self.only_fields or (), frozenset(words or ()))

    @property
    def query(self) -> ListQuery:
        """Which items are requested, and in which order."""
        sort = str(getattr(self, "sort", None) or ADDRESS)
        active: bool | None = getattr(self, "status", None)
        if getattr(self, "disabled_only", None):
            active = False
        order = sort.removeprefix("-")
        return ListQuery(
            # The names of domains are their addresses.
            sort=ADDRESS if order == "domain" else order,
            descending=sort.startswith("-"),
            search=getattr(self, "search", None) or "",
            active=active,
            by_status="status" in self.model_fields_set,
            modified_since=getattr(self, "modified_since", None),
        )


class WithExtras(Params):
    """A form with the parameter ``with``: what is added to each item (``Shape.extras``)."""

    with_: fields.Extras = param(
        "`usage`: also what each account uses, and when it was last used.", "usage", alias="with"
    )

    paging: ClassVar[frozenset[str]] = frozenset({"with_"})

    @property
    def wants_usage(self) -> bool:
        """Whether what the account uses is requested, too."""
        return "usage" in (self.with_ or ())


class Chosen(Paged):
    """Which items of a list, and how much of it.

    A list that can be sorted declares ``sort`` itself: what it can be sorted by differs.
    """

    search: fields.SearchText = param(
        "Only items whose address, name or employee id contains this text, in any case. At least 2 "
        "characters; all of them stand for themselves.",
        "ali",
    )
    status: fields.Status = param("Only active, or only disabled ones.", "active")
    modified_since: fields.Moment = param(
        "Only what was created or changed at this time (UTC) or later.",
        "2026-01-31 12:00:00",
        alias="modified_since",
    )

    paging: ClassVar[frozenset[str]] = Paged.paging | {"search", "status", "modified_since", "sort"}
