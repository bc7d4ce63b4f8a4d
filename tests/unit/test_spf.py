"""Senders of a domain by SPF: records and limits of RFC 7208."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from iredapi.domain import spf
from iredapi.domain.spf import Question, Senders

Zone = Mapping[tuple[str, str], Sequence[str]]


def walk(zone: Zone, domain: str = "ex.com") -> tuple[Senders, list[Question]]:
    asked: list[Question] = []
    steps = spf.senders(domain)
    try:
        questions = next(steps)
        while True:
            asked += questions
            questions = steps.send(
                tuple(tuple(zone.get((item.name, item.type), ())) for item in questions)
            )
    except StopIteration as end:
        found: Senders = end.value
        return found, asked


def found(zone: Zone) -> tuple[set[str], str]:
    result, _ = walk(zone)
    return set(result.networks), result.reason


def record(text: str, **others: str) -> dict[tuple[str, str], list[str]]:
    zone = {("ex.com", "TXT"): ["other", f"v=spf1{text}"]}
    for key, value in others.items():
        kind, _, name = key.partition("_")
        zone[(name.replace("_", "."), kind)] = value.split()
    return zone


@pytest.mark.parametrize(
    "text, others, networks",
    [
        (" ip4:192.0.2.1 -all", {}, {"192.0.2.1"}),
        (" ip4:192.0.2.77/24 ip4:192.0.2.9/32 ~all", {}, {"192.0.2.0/24", "192.0.2.9"}),
        (" ip6:2001:DB8::/32 ip6:2001:db8:1::7/128", {}, {"2001:db8::/32", "2001:db8:1::7"}),
        (" IP4:192.0.2.1 +IP4:192.0.2.2", {}, {"192.0.2.1", "192.0.2.2"}),
        (" a", {"A_ex_com": "192.0.2.3", "AAAA_ex_com": "2001:db8::3"},
         {"192.0.2.3", "2001:db8::3"}),
        (" a:h.test/24//64", {"A_h_test": "192.0.2.3", "AAAA_h_test": "2001:db8::3"},
         {"192.0.2.0/24", "2001:db8::/64"}),
        (" a/28", {"A_ex_com": "192.0.2.20"}, {"192.0.2.16/28"}),
        (" mx", {"MX_ex_com": "m1.test m2.test", "A_m1_test": "192.0.2.4",
                 "A_m2_test": "192.0.2.5"}, {"192.0.2.4", "192.0.2.5"}),
        (" mx:h.test//64", {"MX_h_test": "m1.test", "AAAA_m1_test": "2001:db8::9"},
         {"2001:db8::/64"}),
        # Not: other results than pass, mechanisms that depend on the client, too wide networks.
        (" ?ip4:192.0.2.1 ~ip4:192.0.2.2 -ip4:192.0.2.3 ip4:192.0.2.4", {}, {"192.0.2.4"}),
        (" ?a -mx ip4:192.0.2.4", {"A_ex_com": "192.0.2.9"}, {"192.0.2.4"}),
        (" exists:%{i}.x.test ptr include:%{d}.x.test ip4:192.0.2.4", {}, {"192.0.2.4"}),
        (" ip4:0.0.0.0/0 ip4:128.0.0.0/1 ip6:::/0 ip4:10.0.0.0/8", {}, {"10.0.0.0/8"}),
        (" ip4:192.0.2.4 +all ip4:192.0.2.5", {}, {"192.0.2.4"}),
        (" ip4:192.0.2.4 exp=x.test unknown=y", {}, {"192.0.2.4"}),
    ],
)  # fmt: skip
def test_record(text: str, others: dict[str, str], networks: set[str]) -> None:
    assert found(record(text, **others)) == (networks, "")


def test_include_and_redirect() -> None:
    zone: Zone = {
        ("ex.com", "TXT"): ["v=spf1 include:a.test ip4:192.0.2.1 redirect=b.test"],
        ("a.test", "TXT"): ["v=spf1 ip4:192.0.2.2 include:c.test -all"],
        ("b.test", "TXT"): ["v=spf1 ip4:192.0.2.3 ?all"],
        ("c.test", "TXT"): ["v=spf1 ip4:192.0.2.4 redirect=d.test"],
        ("d.test", "TXT"): ["v=spf1 ip4:192.0.2.5"],
    }
    assert found(zone) == ({f"192.0.2.{n}" for n in range(1, 6)}, "")


def test_redirect_does_not_count_beside_all() -> None:
    assert found(record(" ip4:192.0.2.1 redirect=b.test ~all")) == ({"192.0.2.1"}, "")


def test_without_spf_the_mail_exchangers_then_the_addresses() -> None:
    exchangers: Zone = {
        ("ex.com", "TXT"): ["v=spf10 ip4:192.0.2.9", "spf2.0/pra ip4:192.0.2.8"],
        ("ex.com", "MX"): ["m.test"],
        ("m.test", "A"): ["192.0.2.1"],
        ("ex.com", "A"): ["192.0.2.2"],
    }
    assert found(exchangers) == ({"192.0.2.1"}, "")
    assert found({("ex.com", "A"): ["192.0.2.2"]}) == ({"192.0.2.2"}, "")
    assert found({("ex.com", "MX"): ["."], ("ex.com", "A"): ["192.0.2.2"]}) == (
        set(), "NO_DNS_RECORDS",
    )  # fmt: skip
    assert found({}) == (set(), "NO_DNS_RECORDS")


def test_addresses_before_the_eleventh_lookup_are_kept() -> None:
    chain: dict[tuple[str, str], list[str]] = {
        (f"i{n}.test", "TXT"): [f"v=spf1 ip4:192.0.2.{n}"] for n in range(20)
    }
    ten = " ".join(f"include:i{n}.test" for n in range(10))
    chain["ex.com", "TXT"] = [f"v=spf1 {ten} ip4:198.51.100.1"]
    assert found(chain) == ({f"192.0.2.{n}" for n in range(10)} | {"198.51.100.1"}, "")
    chain["ex.com", "TXT"] = [f"v=spf1 {ten} a ip4:198.51.100.1"]
    result, asked = walk(chain)
    assert (set(result.networks), result.reason) == (
        {f"192.0.2.{n}" for n in range(10)}, "SPF_LIMIT",
    )  # fmt: skip
    assert len(asked) == 11


def test_a_record_that_includes_itself_ends() -> None:
    result, asked = walk(record(" ip4:192.0.2.1 include:ex.com"))
    assert result == Senders(("192.0.2.1",), "SPF_LIMIT")
    assert len(asked) == 11


def test_two_void_lookups() -> None:
    assert found(record(" a:x.test mx:y.test ip4:192.0.2.1"))[0] == {"192.0.2.1"}
    assert found(record(" a:x.test mx:y.test a:z.test ip4:192.0.2.1")) == (set(), "SPF_LIMIT")


def test_ten_mail_exchangers() -> None:
    zone = record(" ip4:192.0.2.1 mx ip4:192.0.2.2", MX_ex_com=" ".join(["m.test"] * 11))
    assert found(zone) == ({"192.0.2.1"}, "SPF_LIMIT")


def test_maximum_of_networks() -> None:
    many = " ".join(f"ip4:10.{n // 250}.{n % 250}.1" for n in range(1200))
    networks, reason = found(record(f" {many}"))
    assert (len(networks), reason) == (spf.MAX_NETWORKS, "SPF_LIMIT")


@pytest.mark.parametrize(
    "text",
    [
        " ip4:192.0.2.256",
        " ip4:",
        " ip4",
        " ip4:2001:db8::1",
        " ip6:192.0.2.1",
        " ip4:192.0.2.1/33",
        " a/33",
        " a//129",
        " a:",
        " include",
        " include:",
        " include/24",
        " ipv4:192.0.2.1",
        " ip4:192.0.2.1,192.0.2.2",
        " \ufffd",
        " include:nowhere.test",
    ],
)
def test_malformed(text: str) -> None:
    assert found(record(text)) == (set(), "SPF_INVALID")


def test_two_records_are_invalid() -> None:
    zone: Zone = {("ex.com", "TXT"): ["v=spf1 ip4:192.0.2.1", "v=spf1 -all"]}
    assert found(zone) == (set(), "SPF_INVALID")
