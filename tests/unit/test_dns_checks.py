"""What the DNS records of a hosted domain mean, and which addresses a web file may come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from iredapi.backends.domain_dns import Survey, dkim_keys
from iredapi.backends.outbound import is_public
from iredapi.domain import dns_checks
from iredapi.domain.dns_records import Targets
from tests.servers.dns import BROKEN, SILENT, dns_server

KEY = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ=="
TARGETS = Targets(
    exchangers=("mx1.host.test", "mx2.host.test"),
    autoconfig="auto.host.test",
    autodiscover="auto.host.test",
    tls_rpt="mailto:tls@host.test",
    keys={("dkim", "ex.com"): KEY, ("s2", "*"): "v=DKIM1; p=AAAA"},
)
Records = Mapping[tuple[str, str], Sequence[str]]
HOSTS: Records = {
    ("mx1.host.test", "A"): ["192.0.2.1"],
    ("mx2.host.test", "A"): ["192.0.2.2"],
    ("mx2.host.test", "AAAA"): ["2001:db8::2"],
    ("auto.host.test", "A"): ["192.0.2.3", "192.0.2.4"],
}


async def survey(
    records: Records, targets: Targets = TARGETS, *, backup: bool = False, name: str = "ex.com"
) -> dict[str, list[tuple[str, str]]]:
    """(status, reason) of the records of each kind."""
    found: dict[str, list[tuple[str, str]]] = {}
    async with dns_server({**HOSTS, **records}) as server:
        host, _, port = server.address.partition(":")
        checks = dns_checks.checks(name, targets, backup=backup, codes=["iredmail-x"])
        seconds = 0.7 if any(kind == SILENT for _, kind in records) else 9
        verdicts = await Survey((host, int(port)), seconds).run(checks)
        for check, some in zip(checks, verdicts, strict=True):
            found.setdefault(check.wanted[0].kind, []).extend(
                (verdict.status.value, verdict.reason) for verdict in some
            )
    return found


OK = ("ok", "")
MX, TXT = ("ex.com", "MX"), ("ex.com", "TXT")
DKIM, DMARC = ("dkim._domainkey.ex.com", "TXT"), ("_dmarc.ex.com", "TXT")
CASES: list[tuple[str, Records, list[tuple[str, str]]]] = [
    # MX
    ("mx", {MX: ["10 MX1.Host.Test.", "20 mx2.host.test."]}, [OK, OK]),
    ("mx", {MX: ["5 mx1.host.test.", "20 backup.far.test."]}, [OK, ("missing", "NO_RECORD")]),
    ("mx", {MX: ["10 mx2.host.test.", "10 far.test."]}, [("wrong", "OTHER_HOST_FIRST")] * 2),
    ("mx", {MX: ["10 far.test."]}, [("wrong", "OTHER_HOST")] * 2),
    ("mx", {MX: ["0 ."]}, [("wrong", "OTHER_HOST")] * 2),
    ("mx", {TXT: ['"x"']}, [("missing", "NO_RECORD")] * 2),
    ("mx", {}, [("missing", "NO_SUCH_NAME")] * 2),
    ("mx", {("ex.com", BROKEN): [""]}, [("unknown", "DNS_FAILURE")] * 2),
    ("mx", {("ex.com", SILENT): [""]}, [("unknown", "DNS_TIMEOUT")] * 2),
    # SPF
    ("spf", {TXT: ['"V=SPF1 Include:a.test MX -all"', '"other"']}, [OK]),
    ("spf", {TXT: ['"v=spf1 a:mx1.host" ".test a:mx2.host.test ~all"']}, [OK]),
    ("spf", {TXT: ['"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"']}, [OK]),
    ("spf", {TXT: ['"v=spf1 include:a.test -all"'],
             ("a.test", "TXT"): ['"v=spf1 a:mx1.host.test a:mx2.host.test -all"']}, [OK]),
    ("spf", {TXT: ['"v=spf1 ip4:192.0.2.1 -all"']}, [("wrong", "NOT_LISTED")]),
    ("spf", {TXT: ['"v=spf1 -all mx"']}, [("wrong", "NOT_LISTED")]),
    ("spf", {TXT: ['"v=spf1 -mx ~all"']}, [("wrong", "NOT_LISTED")]),
    ("spf", {TXT: ['"v=spf1 mx -all"', '"v=spf1 -all"']}, [("wrong", "SEVERAL_RECORDS")]),
    ("spf", {TXT: ['"v=spf1 mx ipv4:192.0.2.1 -all"']}, [("wrong", "INVALID_RECORD")]),
    ("spf", {TXT: ['"v=spf1 include:none.test -all"']}, [("wrong", "NOT_LISTED")]),
    # Which names exist is not told.
    ("spf", {TXT: ['"v=spf1 a:a.test a:b.test a:c.test -all"']}, [("wrong", "NOT_LISTED")]),
    ("spf", {TXT: ['"v=spf1 a:a.test a:b.test a:c.test -all"'], ("c.test", "A"): ["10.0.0.1"]},
     [("wrong", "NOT_LISTED")]),
    ("dmarc", {("_dmarc.ex.com", "CNAME"): ["a.test."]}, [("missing", "NO_RECORD")]),
    ("dmarc", {("_dmarc.ex.com", "CNAME"): ["a.test."], ("a.test", "A"): ["10.0.0.1"]},
     [("missing", "NO_RECORD")]),
    ("spf", {TXT: ['"v=spf1 include:broken.test -all"'], ("broken.test", BROKEN): [""]},
     [("unknown", "DNS_FAILURE")]),
    ("spf", {TXT: ['"v=spf10 mx"']}, [("missing", "NO_RECORD")]),
    # DKIM
    ("dkim", {DKIM: ['"v=DKIM1; p=MIGfMA0GCSqGSIb3" "DQEBAQUAA4GN ADCBiQ== ;t=s"']}, [OK]),
    ("dkim", {("dkim._domainkey.ex.com", "CNAME"): ["k.far.test."],
              ("k.far.test", "TXT"): [f'"{KEY}"']}, [OK]),
    ("dkim", {DKIM: ['"v=DKIM1; p=AAAA"']}, [("wrong", "OTHER_VALUE")]),
    ("dkim", {DKIM: ['"v=DKIM1; p="']}, [("wrong", "KEY_REVOKED")]),
    ("dkim", {DKIM: [f'"{KEY}"', '"v=DKIM1; p=AAAA"']}, [("wrong", "SEVERAL_RECORDS")]),
    ("dkim", {DKIM: ['"something"']}, [("missing", "NO_RECORD")]),
    # DMARC
    ("dmarc", {DMARC: ['"v = DMARC1;p=Reject; rua=mailto:a@b.test"', '"x"']}, [OK]),
    ("dmarc", {DMARC: ['"v=DMARC1; p=perhaps"']}, [("wrong", "INVALID_RECORD")]),
    ("dmarc", {DMARC: ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"']},
     [("wrong", "SEVERAL_RECORDS")]),
    ("dmarc", {DMARC: ['"p=none; v=DMARC1"']}, [("missing", "NO_RECORD")]),
    # Hosts
    ("autoconfig", {("autoconfig.ex.com", "CNAME"): ["AUTO.host.test."]}, [OK]),
    ("autoconfig", {("autoconfig.ex.com", "A"): ["192.0.2.4"]}, [OK]),
    ("autoconfig", {("autoconfig.ex.com", "CNAME"): ["b.test."], ("b.test", "A"): ["192.0.2.3"]},
     [OK]),
    ("autoconfig", {("autoconfig.ex.com", "CNAME"): ["b.test."]}, [("wrong", "OTHER_HOST")]),
    ("autoconfig", {("autoconfig.ex.com", "A"): ["192.0.2.9"]}, [("wrong", "OTHER_HOST")]),
    ("autodiscover", {("_autodiscover._tcp.ex.com", "SRV"): ["0 0 443 auto.host.test."]}, [OK]),
    ("autodiscover", {}, [("missing", "NO_SUCH_NAME")]),
    ("tls_rpt", {("_smtp._tls.ex.com", "TXT"): [
        '"v=TLSRPTv1; rua=mailto:x@y.test, MAILTO:tls@host.test"']}, [OK]),
    ("tls_rpt", {("_smtp._tls.ex.com", "TXT"): ['"v=TLSRPTv1;rua=mailto:x@y.test"']},
     [("wrong", "OTHER_VALUE")]),
    # The proof of ownership
    ("ownership", {TXT: ['"other"', '" iredmail-x"']}, [OK]),
    ("ownership", {TXT: ['"other"']}, [("missing", "NO_RECORD")]),
    ("ownership", {TXT: ['"iredmail-domain-verification-y"']}, [("wrong", "OTHER_VALUE")]),
]  # fmt: skip


@pytest.mark.parametrize("kind, records, expected", CASES)
async def test_meaning(kind: str, records: Records, expected: list[tuple[str, str]]) -> None:
    assert (await survey(records))[kind] == expected


async def test_one_silent_name_delays_no_other() -> None:
    found = await survey({("_dmarc.ex.com", SILENT): [""], MX: ["1 mx1.host.test."]})
    assert found["dmarc"] == [("unknown", "DNS_TIMEOUT")]
    assert found["mx"][0] == OK


async def test_a_key_that_is_not_configured() -> None:
    targets = Targets(exchangers=("mx1.host.test",))
    assert "dkim" not in {kind for kind, some in (await survey({}, targets)).items() if some}
    assert (await survey({DKIM: [f'"{KEY}"']}, targets))["dkim"] == [OK]
    unread = Targets(keys=None)
    assert (await survey({}, unread))["dkim"] == [("unknown", "KEYS_NOT_READABLE")]
    assert (await survey({}, unread))["mx"] == [("unknown", "NOT_CONFIGURED")]
    assert (await survey({DKIM: ['"p="']}, targets))["dkim"] == [("wrong", "KEY_REVOKED")]
    common = ("s2._domainkey.other.test", "TXT")
    assert (await survey({common: ['"p=AAAA"']}, name="other.test"))["dkim"] == [OK]


async def test_a_backup_mx_may_come_later() -> None:
    found = await survey({MX: ["10 far.test.", "20 mx1.host.test."]}, backup=True)
    assert found["mx"] == [OK, ("missing", "NO_RECORD")]
    assert set(found) == {"ownership", "mx"}


async def test_what_a_cname_leads_to_is_not_shown() -> None:
    """Or an admin could read names that only this server's resolver knows."""
    async with dns_server(
        {
            ("_dmarc.ex.com", "CNAME"): ["secret.inside.test."],
            ("secret.inside.test", "TXT"): ['"v=DMARC1; p=none; secret"'],
            ("autoconfig.ex.com", "CNAME"): ["host.inside.test."],
            ("host.inside.test", "A"): ["10.0.0.7"],
            ("ex.com", "CNAME"): ["all.inside.test."],
            ("all.inside.test", "TXT"): ['"v=spf1 ip4:10.0.0.8 -all"'],
            ("all.inside.test", "MX"): ["10 mx.inside.test."],
            **HOSTS,
        }
    ) as server:
        host, _, port = server.address.partition(":")
        checks = dns_checks.checks("ex.com", TARGETS)
        verdicts = [v for some in await Survey((host, int(port)), 2).run(checks) for v in some]
    shown = [text for verdict in verdicts for text in (*verdict.found, verdict.value or "")]
    assert [text for text in shown if text] == ["host.inside.test."]
    assert ("_dmarc.ex.com", "TXT") in server.asked


async def test_what_to_publish_keeps_the_other_senders() -> None:
    async with dns_server({TXT: ['"v=spf1 include:a.test mx -all"'], **HOSTS}) as server:
        host, _, port = server.address.partition(":")
        targets = Targets(exchangers=("mx1.host.test",), spf="v=spf1 mx ip4:198.51.100.1 ~all")
        checks = dns_checks.checks("ex.com", targets)
        found = await Survey((host, int(port)), 2).run(checks)
    assert found[1][0].value == "v=spf1 ip4:198.51.100.1 include:a.test mx -all"


def test_keys_of_amavisd(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        "; key#1 1024 bits, i=dkim, d=Ex.com, /var/lib/dkim/ex.com.pem\n"
        'dkim._domainkey.Ex.com.\t3600 TXT (\n  "v=DKIM1; p="\n  "MIGf"\n  "MA0G")\n\n'
        's2._domainkey.*. TXT "v=DKIM1; p=AAAA"\nwww.ex.com. A 192.0.2.1\n'
    )
    assert dkim_keys(path) == {
        ("dkim", "ex.com"): "v=DKIM1; p=MIGfMA0G",
        ("s2", "*"): "v=DKIM1; p=AAAA",
    }
    path.write_text("no zone file at all")
    with pytest.raises(ValueError, match=r"."):
        dkim_keys(path)


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 127.9.9.9 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 "
    "192.0.2.1 192.0.0.9 192.88.99.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 "
    ":: ::1 fe80::1 fc00::1 ff02::1 2001:db8::1 3fff::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 "
    "::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::7f00:1 2002:7f00:1::1 2001:0:7f00:1::1".split(),
)
def test_addresses_that_are_not_connected_to(address: str) -> None:
    assert not is_public(ip_address(address))


def test_public_addresses() -> None:
    assert is_public(ip_address("8.8.8.8"))
    assert is_public(ip_address("2606:4700::1111"))
    assert is_public(ip_address("127.0.0.9"), [ip_network("127.0.0.8/30")])
    assert not is_public(ip_address("127.0.0.9"), [ip_network("127.0.0.0/30")])
