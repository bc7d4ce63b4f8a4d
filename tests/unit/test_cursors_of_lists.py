"""Cursors of lists are signed and bound to a query, and their refusal tells nothing."""

from __future__ import annotations

from datetime import datetime

import pytest

from iredapi.domain import cursors, listing
from iredapi.domain.listing import Key, ListQuery
from iredapi.errors import ApiError, InvalidParameters

SECRET = b"s" * cursors.KEY_BYTES
QUERY = cursors.query_hash(["users.list", "ex.com", "root@ex.com", *ListQuery().parts()])


@pytest.mark.parametrize(
    "position",
    [Key("a@ex.com"), Key("josé ü@ex.com", "Zoë \x00\\%_"), Key("a@ex.com", -1), Key("", "")],
)
def test_a_cursor_gives_its_position_back(position: Key) -> None:
    text = cursors.encode(SECRET, QUERY, position)
    assert cursors.decode(SECRET, QUERY, text) == position
    assert text.isascii()
    assert not set(text) & set("=+/&%")


def test_a_cursor_of_another_query_or_key_is_refused() -> None:
    text = cursors.encode(SECRET, QUERY, Key("a@ex.com"))
    other = cursors.query_hash(["users.list", "ex.com", "root@ex.com", *ListQuery("name").parts()])
    refusals = {_refusal(SECRET, other, text), _refusal(b"t" * 32, QUERY, text)}
    raw = [text[:-1], text + "A", text + "=", " " + text, "", "é", "A" * 40, text[::-1]]
    raw += [text[:n] + ("B" if text[n] != "B" else "C") + text[n + 1 :] for n in range(len(text))]
    refusals |= {_refusal(SECRET, QUERY, one) for one in raw}
    assert len(refusals) == 1


def _refusal(secret: bytes, query: bytes, text: str) -> str:
    with pytest.raises(InvalidParameters) as found:
        cursors.decode(secret, query, text)
    assert found.value.code == "INVALID_CURSOR"
    return f"{found.value} {found.value.errors}"


def test_each_part_of_a_query_is_part_of_its_hash() -> None:
    queries = [
        ListQuery(), ListQuery("name"), ListQuery(descending=True), ListQuery(search="ab"),
        ListQuery(active=True), ListQuery(active=False),
        ListQuery(modified_since=datetime(2026, 1, 1)),
    ]  # fmt: skip
    assert len({cursors.query_hash(query.parts()) for query in queries}) == len(queries)


def test_a_page_ends_at_its_last_key_although_items_are_gone() -> None:
    keys = [Key("a"), Key("b"), Key("c")]
    page = listing.page_of(keys, 2, {"a": 1, "c": 3})
    assert (page.items, page.last, page.more) == ([1], Key("b"), True)
    page = listing.page_of(keys, 3, {"a": 1, "b": 2, "c": 3})
    assert (page.items, page.more) == ([1, 2, 3], False)


def test_chosen_fields_are_those_that_items_have() -> None:
    assert listing.only([{"a": 1, "b": 2, "c": 3}], ("c", "A")) == [{"a": 1, "c": 3}]
    with pytest.raises(ApiError):
        listing.check_fields(["a", "x"], {"a"})
