"""Where webhooks may lead: addresses in all their forms, names, names that change, TLS, redirects.

``docs/security.md`` has the table in words. Receivers are on loopback only, and DNS answers are
those of our own server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients import Client, Service, serving
from tests.servers.certificates import Authority
from tests.servers.dns import SILENT, dns_server
from tests.servers.store import Store
from tests.servers.webhook_receiver import REDIRECT, Receiver, receiver

pytestmark = pytest.mark.stores("sqlite")
NAME = "panel.example.com"


@asynccontextmanager
async def on(store: Store, dns: str, port: int, **given: Any) -> AsyncIterator[Service]:
    usual = {
        "events": True, "dns_resolver": dns, "dns_timeout": 0.5, "webhook_http": True,
        "webhook_ports": f"{port}", "webhook_timeout": 1,
    }  # fmt: skip
    async with serving(store, **(usual | given)) as service:
        yield service


async def outcome(client: Client, url: str) -> str | None:
    """Why a test was not taken; None: it was."""
    made = await client.ok("POST", "webhooks", label="x", url=url)
    done = await client.ok("POST", f"webhook/{made['id']}/ping")
    await client.ok("DELETE", f"webhook/{made['id']}")
    found: str | None = done["reason"]
    return found


PRIVATE = {
    "loopback": ["127.0.0.1", "127.9.9.9", "::1"],
    "of this host": ["0.0.0.0", "::"],  # noqa: S104
    "private": ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fc00::1", "fd12::1"],
    "link-local": ["169.254.1.1", "169.254.169.254", "fe80::1"],
    "of carriers": ["100.64.0.1"],
    "multicast": ["224.0.0.1", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.2.1", "2001:db8::1"],
    "with IPv4 inside": [
        "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::1", "2001:0:7f00:1::1",
    ],
}  # fmt: skip
ADDRESSES = [address for some in PRIVATE.values() for address in some]


async def test_addresses_in_urls(store: Store) -> None:
    async with receiver() as there, on(store, "127.0.0.1:9", there.port) as service:
        root = await service.root()
        for address in ADDRESSES:
            host = f"[{address}]" if ":" in address else address
            refused = await root.refused(
                "POST", "webhooks", label="x", url=f"http://{host}:{there.port}/"
            )
            assert refused == (400, "INVALID_URL", ["url"]), address
        assert there.connections == 0


async def test_addresses_of_names(store: Store) -> None:
    """Whatever a name leads to, also by a CNAME, is compared; nothing is connected to."""
    zone = {
        (f"h{n}.example.com", "AAAA" if ":" in address else "A"): [address]
        for n, address in enumerate(ADDRESSES)
    }
    zone["alias.example.com", "CNAME"] = ["h0.example.com."]
    async with (
        receiver() as there, dns_server(zone) as dns, on(store, dns.address, there.port) as service,
    ):  # fmt: skip
        root = await service.root()
        for n in range(len(ADDRESSES)):
            url = f"http://h{n}.example.com:{there.port}/"
            assert await outcome(root, url) == "ADDRESS_NOT_ALLOWED", ADDRESSES[n]
        url = f"http://alias.example.com:{there.port}/"
        assert await outcome(root, url) == "ADDRESS_NOT_ALLOWED"
        assert there.connections == 0


async def test_no_address(store: Store) -> None:
    zone = {(NAME, SILENT): [""]}
    async with dns_server(zone) as dns, on(store, dns.address, 443) as service:
        root = await service.root()
        assert await outcome(root, "https://nowhere.example.com/") == "NO_ADDRESS"
        assert await outcome(root, f"https://{NAME}/") == "NO_ADDRESS"


class _Changing(dict[tuple[str, str], list[str]]):
    """The first answer about a name is another one than those after it."""

    def __init__(self, first: str, later: str) -> None:
        super().__init__({(NAME, "A"): [first]})
        self._answers = iter([first])
        self._later = later

    def get(self, key: Any, default: Any = None) -> Any:
        if key == (NAME, "A"):
            return [next(self._answers, self._later)]
        return super().get(key, default)


async def test_a_name_that_changes(store: Store) -> None:
    """One look-up for each request: the address that was compared is connected to."""
    async with receiver(host="127.0.0.77") as there:
        networks = {"webhook_networks": "127.0.0.77/32"}
        # First the permitted address, then another one, as a second look-up would find it.
        async with (
            dns_server(_Changing("127.0.0.77", "127.0.0.1")) as dns,
            on(store, dns.address, there.port, **networks) as service,
        ):
            root = await service.root()
            url = f"http://{NAME}:{there.port}/"
            assert await outcome(root, url) is None
            assert [kind for _, kind in dns.asked].count("A") == 1
            assert await outcome(root, url) == "ADDRESS_NOT_ALLOWED"
            assert there.connections == 1
            assert there.calls[0].headers["host"] == f"{NAME}:{there.port}"


async def test_a_name_with_several_addresses(store: Store) -> None:
    """Those that are not permitted are left out, wherever they stand."""
    zone = {(NAME, "A"): ["127.0.0.1", "127.0.0.77"]}
    async with receiver(host="127.0.0.77") as there, receiver(port=there.port) as other:
        networks = {"webhook_networks": "127.0.0.77/32"}
        async with (
            dns_server(zone) as dns, on(store, dns.address, there.port, **networks) as service,
        ):  # fmt: skip
            root = await service.root()
            for _ in range(10):  # answers of the DNS have their records in any order
                assert await outcome(root, f"http://{NAME}:{there.port}/") is None
        assert (there.connections, other.connections) == (10, 0)


async def test_what_the_operator_forbids_later(store: Store) -> None:
    """A webhook that was made under other settings is compared with those of now."""
    async with receiver() as there:
        async with on(store, "127.0.0.1:9", there.port, webhook_networks="127.0.0.1/32") as one:
            root = await one.root()
            made = await root.ok("POST", "webhooks", label="x", url=there.url)
            assert (await root.ok("POST", f"webhook/{made['id']}/ping"))["reason"] is None
        for given in (
            {"webhook_networks": ""},
            {"webhook_networks": "127.0.0.1/32", "webhook_http": False},
            {"webhook_networks": "127.0.0.1/32", "webhook_ports": "443"},
        ):
            async with on(store, "127.0.0.1:9", there.port, **given) as two:
                root = await two.root()
                done = await root.ok("POST", f"webhook/{made['id']}/ping")
                assert done["reason"] == "URL_NOT_ALLOWED", given
        assert there.connections == 1


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    yield
    assert os.environ["HTTP_PROXY"]


async def test_no_proxies_cookies_or_redirects(store: Store, proxies: None) -> None:
    answer = REDIRECT.replace("\r\n\r\n", "\r\nSet-Cookie: a=b; Path=/\r\n\r\n")
    async with receiver(lambda _call: answer) as there:
        async with on(store, "127.0.0.1:9", there.port, webhook_networks="127.0.0.1") as service:
            root = await service.root()
            made = await root.ok("POST", "webhooks", label="x", url=there.url)
            for _ in range(2):
                assert (await root.ok("POST", f"webhook/{made['id']}/ping"))["reason"] == "REDIRECT"
        assert [call.line for call in there.calls] == ["POST /hook HTTP/1.1"] * 2
        assert not any("cookie" in call.headers for call in there.calls)


async def test_certificates(store: Store, tmp_path: Path) -> None:
    """Of the name in the URL, by an authority that is trusted; the address in the URL, too."""
    authority, foreign = Authority(), Authority("another authority")
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.certificate)
    zone = {(NAME, "A"): ["127.0.0.1"], ("other.example.com", "A"): ["127.0.0.1"]}

    async def of(there: Receiver, host: str, **given: Any) -> str | None:
        networks: dict[str, Any] = {"webhook_networks": "127.0.0.1", "webhook_http": False}
        async with (
            dns_server(zone) as dns,
            on(store, dns.address, there.port, **(networks | given)) as service,
        ):
            return await outcome(await service.root(), f"https://{host}:{there.port}/")

    trusted = {"webhook_ca_file": str(bundle)}
    async with receiver(tls=authority.server(NAME, tmp_path)) as there:
        assert await of(there, NAME, **trusted) is None
        assert await of(there, NAME) == "TLS_FAILED"
        assert await of(there, "other.example.com", **trusted) == "TLS_FAILED"
        assert await of(there, "127.0.0.1", **trusted) == "TLS_FAILED"
        assert len(there.calls) == 1
    async with receiver(tls=authority.server("127.0.0.1", tmp_path)) as there:
        assert await of(there, "127.0.0.1", **trusted) is None
    (tmp_path / "foreign").mkdir()
    async with receiver(tls=foreign.server(NAME, tmp_path / "foreign")) as there:
        assert await of(there, NAME, **trusted) == "TLS_FAILED"
        assert there.calls == []


async def test_an_answer_without_end(store: Store) -> None:
    """No more than a little is read of an answer, and not for longer than the setting says."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(10_000):
                writer.write(b"x" * 8192)
                await writer.drain()
                sent += 8192
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, on(store, "127.0.0.1:9", port, webhook_networks="127.0.0.1") as service:
        assert await outcome(await service.root(), f"http://127.0.0.1:{port}/") is None
    assert sent < 8 * 1024 * 1024  # what the system's buffers hold


@pytest.mark.parametrize(
    "part", ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
)
async def test_a_head_without_end(store: Store, part: str) -> None:
    """Interim answers, one after the other, do not keep the service from its other requests."""
    ends: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun = time.monotonic()
        try:
            while time.monotonic() < begun + 5:
                writer.write(part.encode() * 100)
                await writer.drain()
        except OSError:
            pass
        finally:
            ends.append(time.monotonic() - begun)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    allowed = {"webhook_networks": "127.0.0.1", "webhook_timeout": 5.0}
    async with server, on(store, "127.0.0.1:9", port, **allowed) as service:
        assert await outcome(await service.root(), f"http://127.0.0.1:{port}/") == "BROKEN_ANSWER"
    assert len(ends) == 1
    assert ends[0] < 3
