"""LDIF (RFC 2849), read back by a parser of the tests."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iredapi.domain import ldif
from iredapi.domain.ldif import Record

Parsed = tuple[str, list[tuple[str, bytes]]]


def parse(text: str) -> list[Parsed]:
    """Read LDIF by the grammar of RFC 2849: lines unfolded, records divided by empty lines."""
    assert text.isascii()
    assert "\r" not in text
    found: list[Parsed] = []
    for block in text.removesuffix("\n").split("\n\n"):
        lines: list[str] = []
        for line in block.split("\n"):
            assert 0 < len(line) <= 76, line
            if line.startswith(" "):
                lines[-1] += line[1:]
            else:
                lines.append(line)
        pairs = [_pair(line) for line in lines]
        name, dn = pairs[0]
        assert name == "dn"
        found.append((dn.decode(), pairs[1:]))
    return found


def _pair(line: str) -> tuple[str, bytes]:
    name, colon, rest = line.partition(":")
    assert name
    assert colon
    if rest.startswith(":"):
        return name, base64.b64decode(rest[1:].strip(" "), validate=True)
    value = rest.lstrip(" ")
    # SAFE-STRING
    assert not value.startswith((":", "<", " "))
    assert not set(value) & {"\0", "\n", "\r"}
    return name, value.encode("ascii")


_names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}(;lang-[a-z]{2})?", fullmatch=True).filter(
    lambda name: name.lower() != "dn"
)
_values = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(str.encode),
    st.text(st.sampled_from(" :<\0\n\ra\x7fé"), max_size=8).map(str.encode),
)
_dns = st.one_of(
    st.text(min_size=1, max_size=120).filter(lambda text: text.isprintable()),
    st.just("mail=u@ex.com,ou=Users,domainName=ex.com,o=domains,dc=example,dc=com"),
).filter(lambda dn: "\n" not in dn)
_records = st.lists(
    st.builds(
        Record,
        _dns,
        st.dictionaries(_names, st.lists(_values, min_size=1, max_size=4, unique=True), max_size=6),
    ),
    min_size=1,
    max_size=4,
)


@given(_records)
def test_round_trip(records: list[Record]) -> None:
    text = ldif.text(records)
    assert "".join(ldif.chunks(records)) == text
    found = parse(text)
    assert [dn for dn, _ in found] == [record.dn for record in records]
    for (_, pairs), record in zip(found, records, strict=True):
        wanted = [(name, value) for name, many in record.attributes.items() for value in many]
        assert sorted(pairs) == sorted(wanted)


@given(_records)
def test_the_order_does_not_depend_on_the_server(records: list[Record]) -> None:
    other = [
        Record(
            record.dn,
            {
                name: list(reversed(list(record.attributes[name])))
                for name in reversed(list(record.attributes))
            },
        )
        for record in records
    ]
    if all(len({name.lower() for name in r.attributes}) == len(r.attributes) for r in records):
        assert ldif.text(other) == ldif.text(records)


def test_form() -> None:
    records = [
        Record(
            "mail=u@ex.com,ou=Users,domainName=ex.com,o=domains,dc=a-rather-long-one,dc=example",
            {
                "zip": [b"1"],
                "cn": ["Jürgen".encode()],
                "objectClass": [b"top", b"mailUser"],
                "description": [b" led", b"tail ", b":x", b"<x", b"", b"a: b < c", b"tab\there"],
                "sn": [b"x" * 73, b"y" * 150],
            },
        ),
        Record("cn=é", {"objectClass": [b"top"]}),
    ]
    assert ldif.text(records) == (
        "dn: mail=u@ex.com,ou=Users,domainName=ex.com,o=domains,dc=a-rather-long-one,\n"
        " dc=example\n"
        "objectClass: mailUser\n"
        "objectClass: top\n"
        "cn:: SsO8cmdlbg==\n"
        "description:\n"
        "description:: IGxlZA==\n"
        "description:: Ong=\n"
        "description:: PHg=\n"
        "description: a: b < c\n"
        "description:: dGFiCWhlcmU=\n"
        "description:: dGFpbCA=\n"
        "sn: " + "x" * 72 + "\n x\n"
        "sn: " + "y" * 72 + "\n " + "y" * 75 + "\n yyy\n"
        "zip: 1\n"
        "\n"
        "dn:: Y249w6k=\n"
        "objectClass: top\n"
    )


def test_no_records() -> None:
    assert ldif.text([]) == ""


@pytest.mark.parametrize("hidden", ["userPassword", "USERPASSWORD", "userpassword"])
def test_without(hidden: str) -> None:
    record = Record("cn=x", {"userPassword": [b"p"], "userPassword;x-a": [b"q"], "cn": [b"x"]})
    assert [dict(item.attributes) for item in ldif.without([record], [hidden])] == [{"cn": [b"x"]}]
