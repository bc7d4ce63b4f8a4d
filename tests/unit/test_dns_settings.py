"""Which DNS resolver is asked."""

from __future__ import annotations

import pytest

from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", None),
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_resolver(monkeypatch: pytest.MonkeyPatch, text: str, expected: object) -> None:
    monkeypatch.setenv("IREDAPI_DNS_RESOLVER", text)
    assert load().resolver == expected


@pytest.mark.parametrize(
    "text", ["dns.example", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:x",
             "[2001:db8::53]", "192.0.2.0/24"],
)  # fmt: skip
def test_wrong_resolver(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("IREDAPI_DNS_RESOLVER", text)
    with pytest.raises(ConfigurationError, match=r"^IREDAPI_DNS_RESOLVER: "):
        load()


@pytest.mark.parametrize("text", ["0", "-1", "x", "301"])
def test_wrong_timeout(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("IREDAPI_DNS_TIMEOUT", text)
    with pytest.raises(ConfigurationError, match=r"^IREDAPI_DNS_TIMEOUT: "):
        load()
