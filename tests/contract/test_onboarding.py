"""From a domain that a normal admin adds to one that gets mail: DNS records, proof, activation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from iredapi.cli.commands import app
from iredapi.operations import ownership
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.api import urls_of
from tests.servers.dns import BROKEN, SILENT, DnsServer, dns_server
from tests.servers.dovecot import Dovecot
from tests.servers.lookups import MailServer, RealMailServer, SqlMailServer, is_hosted
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
D, A, IDN = "ex.com", "al.com", "xn--bcher-kva.example"
Zone = dict[tuple[str, str], list[str]]


@pytest.fixture
def mail_server(store: Store, request: pytest.FixtureRequest) -> MailServer:
    """The real postmap; on SQLite the same lookups."""
    if store.name == "sqlite":
        return SqlMailServer(store)
    return RealMailServer(request.getfixturevalue("postfix"), cast("Dovecot", None))


class World:
    """A service that asks our DNS server, and a normal admin who may create domains."""

    def __init__(self, service: Service, zone: Zone, dns: DnsServer, maker: Client) -> None:
        self.service, self.zone, self.dns, self.maker = service, zone, dns, maker

    async def names(self, domain: str = D, client: Client | None = None) -> dict[str, Any]:
        """The answer of ``/dns`` by name."""
        found = await (client or self.maker).ok("GET", f"domain/{domain}/dns")
        assert found["domain"] == domain
        return {item["name"]: item for item in found["names"]}

    async def publish(self, *names: str, domain: str = D) -> None:
        """Publish the codes that these names wait for."""
        shown = await self.names(domain)
        for name in names:
            code = one(shown[name], "ownership")["value"]
            self.zone[name, "TXT"] = [*self.zone.get((name, "TXT"), []), f'"{code}"']

    async def rows(self) -> set[tuple[str, str, str, int]]:
        rows = await self.service.store.rows(
            "SELECT admin, domain, alias_domain, verified FROM domain_ownership", "iredadmin"
        )
        return {(r["admin"], r["domain"], r["alias_domain"], r["verified"]) for r in rows}


def one(shown: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [record for record in shown["records"] if record["kind"] == kind]
    return cast("dict[str, Any]", found)


def statuses(shown: dict[str, Any]) -> dict[str, str]:
    return {record["kind"]: record["status"] for record in shown["records"]}


@asynccontextmanager
async def _world(store: Store, **given: Any) -> AsyncIterator[World]:
    zone: Zone = {("mail.host.test", "A"): ["192.0.2.1"]}
    usual: dict[str, Any] = {
        "require_domain_ownership": True, "dns_mx": "Mail.host.test.", "dns_timeout": 5,
        "dns_autoconfig": "mail.host.test", "ownership_by_web": False,
    }  # fmt: skip
    async with (
        dns_server(zone) as dns,
        serving(store, dns_resolver=dns.address, **(usual | given)) as service,
    ):
        maker = await service.admin_of(mail="maker@admins.test", maxDomains="9")
        yield World(service, zone, dns, maker)


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    async with _world(store) as world:
        yield world


async def test_a_new_domain_becomes_active(world: World, mail_server: MailServer) -> None:
    maker, zone = world.maker, world.zone
    await maker.ok("POST", f"domain/{D}")
    await maker.ok("POST", f"user/u@{D}", password=PASSWORD)
    await maker.ok("PUT", f"domain/{D}", addAliasDomain=f"{A},{IDN}")
    shown = await world.names()
    assert list(shown) == [D, A, IDN]
    for name, item in shown.items():
        assert item == item | {"is_alias": name != D, "active": False, "ownership": "pending"}
        assert statuses(item) == dict.fromkeys(
            ["ownership", "mx", "spf", "dmarc", "autoconfig"], "missing"
        )
        assert {record["reason"] for record in item["records"]} == {"NO_SUCH_NAME"}
        assert item["web_file"] is None
        values = {record["kind"]: (record["name"], record["value"]) for record in item["records"]}
        code = values.pop("ownership")[1]
        assert code.startswith("iredmail-domain-verification-")
        assert values == {
            "mx": (name, "10 mail.host.test."), "spf": (name, "v=spf1 mx ~all"),
            "dmarc": (f"_dmarc.{name}", "v=DMARC1; p=none"),
            "autoconfig": (f"autoconfig.{name}", "mail.host.test."),
        }  # fmt: skip
    refused = await maker.call("POST", f"domain/{D}/verify")
    assert (refused[0], refused[1]["_msg"]) == (409, "OWNERSHIP_NOT_VERIFIED")
    assert not await is_hosted(mail_server, D)
    await world.publish(D)
    zone[D, "MX"] = ["10 MAIL.host.test."]
    done = await maker.ok("POST", f"domain/{D}/verify")
    assert done["_changed"] == ["accountStatus"]
    assert {(item["value"], item["reason"]) for item in done["_skipped"]} == {
        (A, "NO_SUCH_NAME"), (IDN, "NO_SUCH_NAME"),
    }  # fmt: skip
    assert await is_hosted(mail_server, D)
    assert not await is_hosted(mail_server, A)
    await world.publish(A, IDN)
    assert (await maker.ok("POST", f"domain/{D}/verify"))["_changed"] == ["aliasDomains"]
    for name in (A, IDN):
        assert await is_hosted(mail_server, name)
    # As iRedAdmin-Pro would have stored it.
    assert await world.rows() == {
        ("maker@admins.test", D, alias, 1) for alias in ("", A, IDN)
    }  # fmt: skip
    shown = await world.names()
    for item in shown.values():
        assert (item["active"], item["ownership"]) == (True, "verified")
        assert "ownership" not in statuses(item)
    assert statuses(shown[D])["mx"] == "ok"
    assert await maker.ok("POST", f"domain/{D}/verify") == {"_success": True, "_changed": []}
    log = await (await world.service.root()).ok("GET", "log", event="active")
    assert sorted(row["message"] for row in log) == [
        f"[API] Active alias domain: {A} (of {D}).", f"[API] Active alias domain: {IDN} (of {D}).",
        f"[API] Active domain: {D}.",
    ]  # fmt: skip


async def test_only_the_domain_and_the_settings_are_asked_for(world: World) -> None:
    """No admin can ask this server's resolver for other names."""
    await world.maker.ok("POST", f"domain/{D}")
    world.zone[D, "MX"] = ["10 inside.test."]
    await world.names()
    status, _ = await world.maker.call(
        "GET", f"domain/{D}/dns", params={"name": "inside.test", "strict": "yes"}
    )
    assert status == 400
    asked = {name for name, _ in world.dns.asked}
    assert asked <= {"mail.host.test"} | {name for name in asked if f".{name}".endswith(f".{D}")}
    for path in ("domain/inside.test/dns", f"domain/_dmarc.{D}/dns"):
        assert (await world.maker.call("GET", path))[0] == 403
    assert (await world.maker.call("POST", "domain/inside.test/verify"))[0] == 403


async def test_only_what_waits_is_switched_on(world: World, mail_server: MailServer) -> None:
    """A domain that a global admin has disabled stays disabled, whatever is proved."""
    root, maker = await world.service.root(), world.maker
    for number, statuses_ in enumerate([["disabled"], ["active", "disabled"]]):
        name = f"d{number}.com"
        await maker.ok("POST", f"domain/{name}")
        await world.publish(name, domain=name)
        for status in statuses_:
            await root.ok("PUT", f"domain/{name}", accountStatus=status)
        for client in (maker, root):
            refused = await client.refused("POST", f"domain/{name}/verify")
            assert refused == (409, "OWNERSHIP_NOT_PENDING", [])
        assert (await maker.refused("PUT", f"domain/{name}", accountStatus="active"))[0] == 403
        assert not await is_hosted(mail_server, name)
    # Verified, and disabled later.
    await maker.ok("POST", f"domain/{D}")
    await world.publish(D)
    await maker.ok("POST", f"domain/{D}/verify")
    await root.ok("PUT", f"domain/{D}", accountStatus="disabled")
    assert (await maker.refused("POST", f"domain/{D}/verify"))[1] == "OWNERSHIP_NOT_PENDING"
    # What a global admin has created is nobody's to prove.
    await root.ok("POST", "domain/own.com", accountStatus="disabled")
    assert (await root.refused("POST", "domain/own.com/verify"))[1] == "OWNERSHIP_NOT_PENDING"
    assert (await world.names("own.com", root))["own.com"]["ownership"] is None
    assert (await root.refused("POST", "domain/none.com/verify"))[1] == "NO_SUCH_DOMAIN"
    assert (await root.refused("GET", "domain/none.com/dns"))[1] == "NO_SUCH_DOMAIN"


async def test_the_proof_of_somebody_else_is_none(world: World) -> None:
    """A domain that another admin has verified long ago is not the new admin's."""
    root, maker = await world.service.root(), world.maker
    await maker.ok("POST", f"domain/{D}", addAliasDomain=A)
    await world.publish(D, A)
    await maker.ok("POST", f"domain/{D}/verify")
    await maker.ok("DELETE", f"domain/{D}")
    thief = await world.service.admin_of(mail="thief@admins.test", maxDomains="9")
    await thief.ok("POST", f"domain/{D}")
    assert (await thief.refused("PUT", f"domain/{D}", accountStatus="active"))[0] == 403
    assert (await thief.refused("POST", f"domain/{D}/verify"))[1] == "OWNERSHIP_NOT_VERIFIED"
    await root.ok("DELETE", f"domain/{D}")
    # The first one has it back: the codes are those in the DNS.
    await maker.ok("POST", f"domain/{D}", addAliasDomain=A)
    await maker.ok("PUT", f"domain/{D}", accountStatus="active")
    assert (await maker.ok("POST", f"domain/{D}/verify"))["_changed"] == ["aliasDomains"]


async def test_what_changes_meanwhile(world: World, mail_server: MailServer) -> None:
    """Between the question to the DNS and the write somebody else may have changed everything."""
    maker, service = world.maker, world.service
    root = await service.root()
    await maker.ok("POST", f"domain/{D}", addAliasDomain=A)
    await world.publish(D, A)
    answers = await asyncio.gather(*(maker.call("POST", f"domain/{D}/verify") for _ in range(3)))
    assert {status for status, _ in answers} == {200}
    changed = [name for _, answer in answers for name in answer["_changed"]]
    assert sorted(changed) == ["accountStatus", "aliasDomains"]
    assert {row[3] for row in await world.rows()} == {1}

    async def meanwhile(*calls: tuple[str, dict[str, str]]) -> tuple[int, str]:
        """Verify, with calls of a global admin between the proof and the activation."""
        real, done = service.context.write, False

        async def write(actor: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if operation is ownership.activate and not done:
                done = True
                for method_path, form in calls:
                    method, _, path = method_path.partition(" ")
                    await root.ok(method, path, **form)
            return await real(actor, operation, *args, **kwargs)

        service.context.write = write  # type: ignore[method-assign]
        try:
            status, answer = await maker.call("POST", "domain/race.com/verify")
        finally:
            del service.context.write
        return status, answer["_msg"]

    for calls, expected in (
        ([("DELETE domain/race.com", {})], (404, "NO_SUCH_DOMAIN")),
        ([("PUT domain/race.com", {"accountStatus": "disabled"})], (409, "CHANGED_MEANWHILE")),
    ):
        await maker.ok("POST", "domain/race.com")
        await world.publish("race.com", domain="race.com")
        assert await meanwhile(*calls) == expected
        assert not await is_hosted(mail_server, "race.com")


async def test_a_proof_that_was_half_stored_is_completed(
    world: World, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the activation and the note in iRedAdmin's database."""
    maker = world.maker
    await maker.ok("POST", f"domain/{D}")
    await world.publish(D)

    async def dies(*_: Any) -> None:
        raise RuntimeError("as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(ownership, "note_verified", dies)
        assert (await maker.call("POST", f"domain/{D}/verify"))[0] == 500
    assert await is_hosted(mail_server, D)
    assert {row[3] for row in await world.rows()} == {0}
    assert (await maker.ok("POST", f"domain/{D}/verify"))["_changed"] == []
    assert {row[3] for row in await world.rows()} == {1}


async def test_dry_run_and_idempotency_key(world: World, mail_server: MailServer) -> None:
    maker = world.maker
    await maker.ok("POST", f"domain/{D}")
    key = {"Idempotency-Key": "k1"}
    first = await maker.http.post(f"domain/{D}/verify", headers=key)
    assert (first.status_code, first.headers["Retry-After"]) == (409, "60")
    await world.publish(D)
    _, dry = await maker.call("POST", f"domain/{D}/verify", data={"dry_run": "yes"})
    assert (dry["_changed"], dry["_changes"]) == (["accountStatus"], [
        {"kind": "domain", "account": D, "field": "accountStatus", "old": "disabled",
         "new": "active"}])  # fmt: skip
    assert not await is_hosted(mail_server, D)
    assert {row[3] for row in await world.rows()} == {0}
    # The refusal may be another one soon: it is not kept under the key.
    second = await maker.http.post(f"domain/{D}/verify", headers=key)
    third = await maker.http.post(f"domain/{D}/verify", headers=key)
    assert second.json()["_changed"] == third.json()["_changed"] == ["accountStatus"]
    assert third.headers["Idempotent-Replayed"] == "true"


@pytest.mark.stores("sqlite", "postgresql")
async def test_without_the_database_of_the_panel(store: Store) -> None:
    """There are no codes, and nothing can be proved."""
    async with _world(store, iredadmin_url="") as world:
        await world.maker.ok("POST", f"domain/{D}")
        shown = (await world.names())[D]
        assert (shown["ownership"], shown["web_file"], statuses(shown)["mx"]) == (
            None, None, "missing",
        )  # fmt: skip
        refused = await world.maker.refused("POST", f"domain/{D}/verify")
        assert refused[:2] == (501, "NOT_SUPPORTED_BY_BACKEND")
        assert (await world.maker.refused("PUT", f"domain/{D}", accountStatus="active"))[0] == 403


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("state, reason", [(BROKEN, "DNS_FAILURE"), (SILENT, "DNS_TIMEOUT")])
async def test_dns_that_does_not_answer(store: Store, state: str, reason: str) -> None:
    async with _world(store, dns_timeout=0.5) as world:
        await world.maker.ok("POST", f"domain/{D}")
        world.zone[D, state] = [""]
        mx = one((await world.names())[D], "mx")
        assert (mx["status"], mx["reason"]) == ("unknown", reason)
        status, answer = await world.maker.call("POST", f"domain/{D}/verify")
        assert (status, answer["_msg"]) == (503, "DNS_UNAVAILABLE")
        if state == SILENT:
            # Nobody takes all places of this server with a DNS that is slow.
            calls = [world.maker.call("GET", f"domain/{D}/dns") for _ in range(6)]
            codes = sorted(status for status, _ in await asyncio.gather(*calls))
            assert codes == [200] * 4 + [503] * 2


@pytest.mark.stores("sqlite")
async def test_a_file_at_the_web_server(store: Store, mail_server: MailServer) -> None:
    """The same code as a file; at a loopback address only if the operator allows it."""
    here = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    files: dict[str, bytes] = {}
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.splitlines()[1])
        writer.write(files.get(head.split(" ")[1][1:], b"HTTP/1.1 404 Not Found\r\n\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, here, 80)
    async with server:
        for allowed in ("", f"{here}/32"):
            await store.reset()
            given = {"ownership_by_web": True, "ownership_web_networks": allowed}
            async with _world(store, **given) as world:
                await world.maker.ok("POST", f"domain/{D}")
                world.zone[D, "A"] = [here]
                shown = (await world.names())[D]
                code = one(shown, "ownership")["value"]
                assert shown["web_file"] == f"http://{D}/{code}"
                elsewhere = f"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n{code}"
                for answer in (elsewhere, f"HTTP/1.1 200 OK\r\n\r\n{code}x", "nonsense"):
                    files[code] = answer.encode()
                    refused = await world.maker.refused("POST", f"domain/{D}/verify")
                    assert refused[1] == "OWNERSHIP_NOT_VERIFIED", answer
                files[code] = f"HTTP/1.1 200 OK\r\n\r\n {code}\n".encode()
                status, _ = await world.maker.call("POST", f"domain/{D}/verify")
                assert status == (200 if allowed else 409)
                assert bool(asked) == bool(allowed) == await is_hosted(mail_server, D)
    assert set(asked) == {f"Host: {D}"}


@pytest.mark.stores("sqlite")
async def test_the_table_for_an_operator(world: World, tmp_path: Path) -> None:
    await world.maker.ok("POST", f"domain/{D}")
    world.zone[D, "MX"] = ["10 far.test."]
    world.zone[f"_dmarc.{D}", "TXT"] = ['"v=DMARC1; p=none"']
    file = tmp_path / "env"
    settings = world.service.settings
    given = {**urls_of(world.service.store), "IREDAPI_DNS_RESOLVER": world.dns.address,
             "IREDAPI_DNS_MX": "mail.host.test", "IREDAPI_STATE_URL": settings.urls()["state"],
             "IREDAPI_DATA_DIR": str(tmp_path)}  # fmt: skip
    file.write_text("".join(f'{name}="{value}"\n' for name, value in given.items()))
    arguments = ["dns", D, "--env-file", str(file)]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert done.exit_code == 1, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines, done.stderr
    assert lines[0] == ["STATUS", "TYPE", "NAME", "TO", "PUBLISH"]
    assert ["wrong", "(OTHER_HOST)", "MX", D, "10", "mail.host.test."] in lines
    assert ["found:", "10", "far.test."] in lines
    assert ["ok", "TXT", f"_dmarc.{D}", "v=DMARC1;", "p=none"] in lines
