"""Forms are read as Python's own library reads them."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iredapi.errors import InvalidRequest
from iredapi.web import request_body
from iredapi.web.request_body import MAX_FIELDS, MAX_PAIRS, query


class _Sent:
    def __init__(self, form: bytes) -> None:
        self.scope = {"query_string": form}


@given(st.text(st.sampled_from("ab&=;% +é\x00\t4"), max_size=12))
@example("a=1&a=2&b=&c&=d&&=&e=f=g")
@example("&")
def test_forms_are_pairs(text: str) -> None:
    form = text.encode()
    try:
        wanted = dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        with pytest.raises(InvalidRequest):
            query(_Sent(form))  # type: ignore[arg-type]
        return
    found = query(_Sent(form))  # type: ignore[arg-type]
    last = {name: value if isinstance(value, str) else value[-1] for name, value in found.items()}
    assert last == wanted


@pytest.mark.parametrize("pair", ["a=1", "a=%31"])
def test_too_many_values_are_refused(pair: str) -> None:
    query(_Sent("&".join([pair] * MAX_PAIRS).encode()))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        query(_Sent("&".join([pair] * (MAX_PAIRS + 1)).encode()))  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", ["a{}=1", "%61{}=1"])
def test_too_many_names_are_refused(pair: str) -> None:
    """A list's items have one name, however many they are."""
    pairs = [pair.format(number) for number in range(MAX_FIELDS)]
    query(_Sent("&".join(pairs).encode()))  # type: ignore[arg-type]
    items = [f"a7[{number}]=1" for number in range(20)]
    assert len(query(_Sent("&".join([*pairs, *items]).encode()))) == MAX_FIELDS + 20  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        query(_Sent("&".join([*pairs, "b=1"]).encode()))  # type: ignore[arg-type]


_PIECES = b"%41 %c3%a9 = =3D % %4 a _ + %0D%0A %0a %3D . %zz %%41 %2541 %00 %e2%82%ac".split()


@given(st.lists(st.sampled_from([*_PIECES, b" ", b"\t", b"\n", b"\r\n", b"\r"]), max_size=12))
def test_the_fast_way_decodes_what_the_slow_one_does(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    try:
        wanted = unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        # Two pieces may make a byte that begins no character.
        with pytest.raises(UnicodeDecodeError):
            request_body._unquoted(text)
    else:
        assert request_body._unquoted(text) == wanted
