"""The index ranges in which addresses in other spellings are looked up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.backends.sql.spellings import byte_ranges
from iredapi.domain.addresses import fold

_BLANKS = st.text(" \t\r\n", max_size=3)


@pytest.mark.parametrize(
    "name", ["bob.smith@ex-1.com", "u1@localhost", "a@b.c", "0@1.2", "example.com", "local"]
)
@given(data=st.data())
def test_every_other_spelling_is_in_a_range(name: str, data: st.DataObject) -> None:
    letters = [data.draw(st.sampled_from([letter, letter.upper()])) for letter in name]
    stored = data.draw(_BLANKS) + "".join(letters) + data.draw(_BLANKS)
    assert fold(stored) == name
    found = [low for low, high in byte_ranges(name) if low <= stored < high]
    assert bool(found) == (stored != name)
