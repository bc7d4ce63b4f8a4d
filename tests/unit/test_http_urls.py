"""Which URLs of other people's servers are taken, and what a request is made of."""

from __future__ import annotations

import pytest

from iredapi.domain.http_urls import MAX_URL, HttpUrl, parse


@pytest.mark.parametrize(
    "text, expected",
    [
        ("https://Panel.Example.com", HttpUrl("https", "panel.example.com", 443, "/")),
        ("HTTPS://panel.example.com./a?b=c", HttpUrl("https", "panel.example.com", 443, "/a?b=c")),
        ("https://panel.example.com?b", HttpUrl("https", "panel.example.com", 443, "/?b")),
        ("http://panel.example.com:8080/", HttpUrl("http", "panel.example.com", 8080, "/")),
        ("https://192.0.2.1/a@b", HttpUrl("https", "192.0.2.1", 443, "/a@b")),
        ("https://[2001:DB8:0::1]:8443/x", HttpUrl("https", "2001:db8::1", 8443, "/x")),
    ],
)
def test_taken(text: str, expected: HttpUrl) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


def test_parts() -> None:
    found = parse("https://[2001:db8::1]:8443/x")
    assert (found.authority, str(found.address)) == ("[2001:db8::1]:8443", "2001:db8::1")
    named = parse("https://panel.example.com:443/?key=s3cret")
    assert (named.authority, named.address) == ("panel.example.com", None)
    assert "s3cret" not in repr(named)


@pytest.mark.parametrize(
    "text",
    [
        "", "panel.example.com", "ftp://panel.example.com/", "https:///x", "https://",
        # Other ways to write 127.0.0.1, which some programs understand.
        "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/",
        "https://0x7f.0.0.1/", "https://[127.0.0.1]/", "https://[::1%25lo]/", "https://127.0.0.1.5/",
        "https://localhost/", "https://panel/", "https://panel.example.1/", "https://-a.example/",
        "https://user@panel.example.com/", "https://user:word@panel.example.com/",
        "https://panel.example.com/#x", "https://panel.example.com:0/",
        "https://panel.example.com:65536/", "https://panel.example.com:x/",
        "https://panel.example.com /", "https://panel.example.com/a b", "https://b\u00fccher.example/",
        "https://panel.example.com\\@a.example/", "https://panel.example.com/\n", "https://a..b/",
        "https://panel.example.com/" + "x" * MAX_URL,
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse(text)
    assert "user:word" not in str(refused.value)
