"""The index ranges in which addresses in other spellings are looked up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.backends.sql.spellings import byte_range_lines, byte_ranges
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


@given(name=st.text("aZ0@.- ", max_size=12))
def test_lines_are_the_ranges(name: str) -> None:
    ranges = byte_ranges(name)
    lows, highs, wanted = byte_range_lines(name)
    assert list(zip(lows.split("\n"), highs.split("\n"), strict=True)) == ranges
    assert wanted.split("\n") == [name] * len(ranges)
    # Inclusive: the range of blanks behind the address starts at the address itself.
    own = byte_range_lines(name, "")
    assert own[0].split("\n")[1] == name
    assert own[1:] == (highs, wanted)
