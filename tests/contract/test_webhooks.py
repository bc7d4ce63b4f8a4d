"""Webhooks: who has which, what is sent when, how it is signed, and when it ends."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from iredapi.domain.change_events import ChangeEvent
from iredapi.domain.webhooks import MAX_PER_OWNER, PREFIX
from iredapi.workflows.webhook_sender import WebhookSender
from tests.api.test_access import bearer
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import ALL_STORES, Store
from tests.servers.webhook_receiver import (
    ERROR,
    GONE,
    HALF,
    HANG_UP,
    NONSENSE,
    OK,
    REDIRECT,
    SLOW,
    Call,
    receiver,
)

pytestmark = pytest.mark.stores(*ALL_STORES)
URL = "https://billing.example.com/mail"
MISSING: tuple[int, str, list[str]] = (404, "NO_SUCH_WEBHOOK", [])


def happened(account: str, kind: str = "user.updated", **body: Any) -> ChangeEvent:
    domain = account.rpartition("@")[2]
    told = {"actor": "", "fields": [], **body}
    return ChangeEvent(secrets.token_hex(16), time.time(), kind, account, domain, told)


@asynccontextmanager
async def on(store: Store, **given: Any) -> AsyncIterator[Service]:
    """A service with events; receivers may be on loopback."""
    usual: dict[str, Any] = {
        "events": True, "webhook_http": True, "webhook_networks": "127.0.0.0/8",
        "webhook_ports": ",".join(map(str, [443, *range(30000, 61000)])), "webhook_timeout": 1.0,
    }  # fmt: skip
    async with serving(store, **(usual | given)) as service:
        # Tests publish the events that they look for, and nothing else.
        service.context.outbox.wanted = False
        yield service


@asynccontextmanager
async def sending(service: Service) -> AsyncIterator[WebhookSender]:
    sender = WebhookSender(service.context)
    sender.start()
    try:
        yield sender
    finally:
        await sender.close()


async def hook(client: Client, url: str = URL, **form: Any) -> dict[str, Any]:
    made: dict[str, Any] = await client.ok(
        "POST", "webhooks", **({"label": "x", "url": url} | form)
    )
    return made


async def publish(service: Service, *events: ChangeEvent) -> None:
    await service.context.state.events.publish(events)


async def shown(client: Client, webhook_id: str, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    """What is told of a webhook, when that is as it should be."""
    for _ in range(300):
        found: dict[str, Any] = await client.ok("GET", f"webhook/{webhook_id}")
        if wanted(found):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


# Operations --------------------------------------------------------------------------------------


async def test_life_of_a_webhook(store: Store) -> None:
    async with on(store) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        assert await root.ok("GET", "webhooks") == []
        made = await hook(root, " HTTPS://Billing.example.com:443/mail?a=b ", label="  Billing ")
        secret = made.pop("secret")
        assert secret.startswith(PREFIX)
        assert made == made | {
            "owner": "root@admins.test", "label": "Billing", "kinds": [], "domains": None,
            "url": "https://billing.example.com/mail?a=b", "status": "active", "reason": None,
            "waiting": 0, "attempts": 0, "delivered": None, "failing_since": None,
            "old_secret_until": None,
        }  # fmt: skip
        del made["old_secret_until"]
        path = f"webhook/{made['id']}"
        assert await root.ok("GET", path) == made
        assert await root.ok("GET", "webhooks") == [made]
        form = {"kinds": "user.created,DOMAIN.deleted", "domains": "ex.com"}
        done = await root.ok("PUT", path, url=URL, **form)
        assert done["_changed"] == ["domains", "kinds", "url"]
        assert (await root.ok("PUT", path, url=URL, **form))["_changed"] == []
        found = await root.ok("GET", path)
        assert found == made | {
            "url": URL, "kinds": ["domain.deleted", "user.created"], "domains": ["ex.com"],
        }  # fmt: skip
        assert (await root.ok("PUT", path, kinds="", domains=""))["_changed"] == [
            "domains",
            "kinds",
        ]
        rotated = await root.ok("POST", f"{path}/rotate", overlap="3600")
        assert rotated["secret"] not in {secret, ""}
        assert rotated["old_secret_until"] is not None
        at_once = await root.ok("POST", f"{path}/rotate")
        assert at_once["old_secret_until"] is None
        log = str(await root.ok("GET", "log"))
        for word in ("Create webhook", "Update (domains, kinds, url) webhook", "Rotate the secret"):
            assert word in log
        assert secret not in log
        assert "billing.example" not in log
        await root.ok("DELETE", path)
        assert await root.refused("GET", path) == MISSING
        assert await root.refused("DELETE", path) == MISSING
        assert await root.ok("GET", "webhooks") == []


@pytest.mark.parametrize(
    "wrong, code",
    [
        ({"url": ""}, "EMPTY_NOT_ALLOWED"),
        ({"url": "ftp://x.example.com/"}, "INVALID_URL"),
        ({"url": "https://a:b@x.example.com/"}, "INVALID_URL"),
        ({"url": "http://billing.example.com/"}, "INVALID_URL"),
        ({"url": "https://billing.example.com:25/"}, "INVALID_URL"),
        ({"url": "https://10.0.0.1/"}, "INVALID_URL"),
        ({"url": "https://[::1]/"}, "INVALID_URL"),
        ({"label": ""}, "EMPTY_NOT_ALLOWED"),
        ({"label": "x" * 101}, "INVALID_TEXT"),
        ({"kinds": "user.created,user.exploded"}, "INVALID_VALUE"),
        ({"domains": "ex.com,nowhere.example"}, "INVALID_DOMAIN_NAME"),
        ({"domains": "@"}, "INVALID_DOMAIN_NAME"),
    ],
)
@pytest.mark.stores("sqlite")
async def test_wrong_parameters(store: Store, wrong: dict[str, str], code: str) -> None:
    given = {"webhook_http": False, "webhook_networks": "", "webhook_ports": "443"}
    async with on(store, **given) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        made = await hook(root)
        for method, path in (("POST", "webhooks"), ("PUT", f"webhook/{made['id']}")):
            form = {"url": URL, "label": "y"} | wrong
            assert await root.refused(method, path, **form) == (400, code, [*wrong])
        assert [one["label"] for one in await root.ok("GET", "webhooks")] == ["x"]
        assert (await root.refused("POST", "webhooks", label="x"))[1:] == ("REQUIRED", ["url"])
        assert (await root.refused("POST", "webhooks", url=URL))[1:] == ("REQUIRED", ["label"])
        path = f"webhook/{made['id']}"
        refused = await root.refused("POST", f"{path}/rotate", overlap="-1")
        assert refused[1:] == ("INVALID_NUMBER", ["overlap"])
        refused = await root.refused("GET", f"{path}/deliveries", limit="0")
        assert refused[1:] == ("INVALID_NUMBER", ["limit"])
        for name in ("x", "0" * 16, "A" * 16):
            assert await root.refused("GET", f"webhook/{name}") == MISSING
            assert await root.refused("POST", f"webhook/{name}/ping") == MISSING
        refused = await root.refused("POST", "webhooks", url=URL, label="y", dry_run="yes")
        assert refused[2] == ["dry_run"]


@pytest.mark.stores("sqlite")
async def test_off(store: Store) -> None:
    for given, code in (
        ({"events": False}, "EVENTS_NOT_KEPT"), ({"webhooks": False}, "WEBHOOKS_OFF"),
    ):  # fmt: skip
        async with on(store, **given) as service:
            root = await service.root()
            for method, path in (("GET", "webhooks"), ("GET", f"webhook/{'0' * 16}")):
                assert (await root.refused(method, path))[:2] == (501, code)
            refused = await root.refused("POST", "webhooks", url=URL, label="x")
            assert refused[:2] == (501, code)
            async with sending(service) as sender:
                assert sender._task is None


@pytest.mark.stores("sqlite")
async def test_only_so_many(store: Store) -> None:
    async with on(store) as service:
        root = await service.root()
        for _ in range(MAX_PER_OWNER):
            await hook(root)
        refused = await root.refused("POST", "webhooks", url=URL, label="x")
        assert refused[:2] == (409, "TOO_MANY_WEBHOOKS")


async def test_who_knows_which(store: Store) -> None:
    """Normal admins their own, global admins all; tokens of some domains those of these."""
    async with on(store) as service:
        root = await service.root()
        for name in ("ex.com", "other.com"):
            await root.ok("POST", f"domain/{name}")
        admin = await service.admin_of("ex.com")
        other = await service.admin_of("other.com")
        of_root, of_admin = await hook(root), await hook(admin, domains="ex.com")
        wide = await hook(admin)
        assert of_admin["owner"] == "ex-admin@admins.test"
        refused = await admin.refused("POST", "webhooks", url=URL, label="x", domains="other.com")
        assert refused == (403, "PERMISSION_DENIED", ["domains"])
        refused = await admin.refused("PUT", f"webhook/{wide['id']}", domains="ex.com,other.com")
        assert refused == (403, "PERMISSION_DENIED", ["domains"])
        assert len(await root.ok("GET", "webhooks")) == 3
        assert await other.ok("GET", "webhooks") == []
        for one in (of_root, of_admin):
            path = f"webhook/{one['id']}"
            for method, more in (
                ("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/ping"), ("POST", "/enable"),
                ("POST", "/rotate"), ("GET", "/deliveries"),
            ):  # fmt: skip
                assert await other.refused(method, path + more) == MISSING
        token = await admin.ok("POST", "tokens", label="x", domains="ex.com")
        limited = bearer(service, token["token"])
        assert [one["id"] for one in await limited.ok("GET", "webhooks")] == [of_admin["id"]]
        assert await limited.refused("GET", f"webhook/{wide['id']}") == MISSING
        for method, path in (
            ("POST", "webhooks"), ("PUT", f"webhook/{of_admin['id']}"),
            ("POST", f"webhook/{of_admin['id']}/rotate"),
            ("POST", f"webhook/{of_admin['id']}/enable"),
        ):  # fmt: skip
            assert (await limited.refused(method, path))[:2] == (403, "LIMITED_TOKEN")
        await limited.ok("DELETE", f"webhook/{of_admin['id']}")
        # A later account of that name.
        await root.ok("DELETE", "admin/ex-admin@admins.test")
        await asyncio.sleep(1.1)  # dates of creation have seconds
        await root.ok("POST", "admin/ex-admin@admins.test", password=PASSWORD)
        later = await service.client().login("ex-admin@admins.test")
        assert await later.ok("GET", "webhooks") == []
        assert await later.refused("GET", f"webhook/{wide['id']}") == MISSING
        # It may have as many as anybody.
        await store.execute("DELETE FROM webhooks WHERE owner <> 'ex-admin@admins.test'", "state")
        (old,) = await store.rows("SELECT * FROM webhooks", "state")
        copies = [old | {"id": f"{number:016x}"} for number in range(MAX_PER_OWNER - 1)]
        await store.insert("webhooks", *copies, database="state")
        assert (await hook(later))["owner"] == "ex-admin@admins.test"


# Sending -----------------------------------------------------------------------------------------


def verified(call: Call, *keys: str) -> bool:
    """What docs/webhooks.md tells a receiver to do; every key must have signed."""
    parts = [item.split("=", 1) for item in call.headers["iredapi-signature"].split(",")]
    stamp = dict(parts)["t"]
    assert abs(time.time() - int(stamp)) < 300
    assert call.headers["iredapi-timestamp"] == stamp
    sent = [value for name, value in parts if name == "v1"]
    signed = stamp.encode() + b"." + call.body
    return sent == [hmac.new(key.encode(), signed, hashlib.sha256).hexdigest() for key in keys]


async def test_events_arrive(store: Store) -> None:
    """In order per account, signed; only what was asked for; and the answers tell of it."""
    async with on(store) as service, receiver() as there:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await publish(service, happened("before@ex.com"))
        made = await hook(root, there.url, kinds="user.updated,user.deleted,user.renamed")
        events = [happened(f"u{n % 7}@ex.com", fields=["name"]) for n in range(60)]
        skipped = happened("u0@ex.com", "user.created")
        async with sending(service):
            await publish(service, *events[:30], skipped)
            await publish(service, *events[30:])
            await there.until(lambda: len(there.taken) >= 60)
            found = await shown(root, made["id"], lambda one: one["waiting"] == 0)
        assert found == found | {"status": "active", "attempts": 60, "failing_since": None}
        assert sorted(there.ids()) == sorted(event.id for event in events)
        for n in range(7):
            account = f"u{n}@ex.com"
            assert there.ids(account) == [e.id for e in events if e.account == account]
        assert 1 < there.most_at_once <= 8
        assert there.connections <= 8
        for call, event in ((c, e) for c in there.taken for e in events if c.event["id"] == e.id):
            assert call.event == event.to_response()
            assert call.line == "POST /hook HTTP/1.1"
            assert call.headers == call.headers | {
                "iredapi-event": event.id, "iredapi-kind": "user.updated",
                "content-type": "application/json", "host": f"127.0.0.1:{there.port}",
            }  # fmt: skip
            assert verified(call, made["secret"])
        rows = await root.ok("GET", f"webhook/{made['id']}/deliveries", limit="5")
        assert len(rows) == 5
        assert {(r["kind"], r["attempt"], r["status"], r["reason"]) for r in rows} == {
            ("user.updated", 1, 204, None)
        }
        assert len(await root.ok("GET", f"webhook/{made['id']}/deliveries")) == 60


async def test_real_changes_arrive(store: Store) -> None:
    """As GET /events shows them."""
    async with on(store) as service, receiver() as there:
        service.context.outbox.wanted = True
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await service.context.outbox.flush()
        await hook(root, there.url, domains="ex.com")
        async with sending(service):
            await root.ok("POST", "user/u@ex.com", password=PASSWORD)
            await root.ok("PUT", "user/u@ex.com", name="New")
            await root.ok("POST", "user/u@ex.com/change_email/v@ex.com")
            await root.ok("DELETE", "user/v@ex.com")
            await there.until(lambda: len(there.taken) >= 4)
        kinds = ["user.created", "user.updated", "user.renamed", "user.deleted"]
        assert [call.event["kind"] for call in there.taken] == kinds
        told = await root.ok("GET", "events", domain="ex.com", kinds=",".join(kinds))
        assert [call.event for call in there.taken] == told
        assert PASSWORD not in str([call.body for call in there.taken])


@pytest.mark.stores("sqlite")
async def test_both_accounts_of_a_rename_keep_their_order(store: Store) -> None:
    slow = {"user.renamed"}

    async with on(store) as service, receiver() as there:
        root = await service.root()
        await hook(root, there.url)
        first = happened("a@ex.com")
        renamed = happened("a@ex.com", "user.renamed", new_account="b@ex.com")
        later, again = happened("b@ex.com"), happened("a@ex.com", "user.created")

        def answer(call: Call) -> str:
            if call.event["kind"] in slow:
                slow.clear()
                return ERROR
            return OK

        there.answer = answer
        async with sending(service):
            await publish(service, first, renamed, later, again)
            await there.until(lambda: len(there.ids()) == 4)
        assert there.ids()[:2] == [first.id, renamed.id]


@pytest.mark.stores("sqlite", "postgresql")
async def test_a_receiver_that_fails_gets_it_again(store: Store) -> None:
    """Each way to fail, once for each account; the account waits, others go on; ids stay."""
    ways = [ERROR, HANG_UP, HALF, SLOW, REDIRECT, NONSENSE]
    failed: dict[str, str] = {}

    def answer(call: Call) -> str:
        account = call.event["account"]
        if account in failed or not account.startswith("bad"):
            return OK
        failed[account] = ways[int(account[3])]
        return failed[account]

    async with on(store, webhook_timeout=0.5) as service, receiver(answer) as there:
        root = await service.root()
        made = await hook(root, there.url)
        events = [happened(f"bad{n}@ex.com") for n in range(6) for _ in range(2)]
        events += [happened("good@ex.com") for _ in range(4)]
        async with sending(service):
            await publish(service, *events)
            await there.until(lambda: len({c.event["id"] for c in there.taken}) == 16)
            await shown(root, made["id"], lambda one: one["waiting"] == 0)
        assert sorted(failed.values()) == sorted(ways)
        for n in range(6):
            account = f"bad{n}@ex.com"
            assert there.ids(account) == [e.id for e in events if e.account == account]
        paths = {call.line for call in there.calls}
        assert paths == {"POST /hook HTTP/1.1"}  # nothing was redirected
        rows = await root.ok("GET", f"webhook/{made['id']}/deliveries")
        reasons = {(row["attempt"], row["status"], row["reason"]) for row in rows}
        assert reasons == {
            (1, 204, None), (2, 204, None), (1, 500, "HTTP_STATUS"), (1, None, "BROKEN_ANSWER"),
            (1, None, "TIMEOUT"), (1, 302, "REDIRECT"),
        }  # fmt: skip


@pytest.mark.stores("sqlite")
async def test_one_that_gives_up_and_is_enabled_again(store: Store) -> None:
    """Nothing is lost: it goes on where it stopped."""
    async with on(store, webhook_retry_seconds=2) as service, receiver(lambda _: ERROR) as there:
        root = await service.root()
        made = await hook(root, there.url)
        path = f"webhook/{made['id']}"
        events = [happened(f"u{n}@ex.com") for n in range(3)]
        async with sending(service):
            await publish(service, *events)
            await shown(root, made["id"], lambda one: one["status"] == "failing")
            found = await shown(root, made["id"], lambda one: one["status"] == "disabled")
            assert (found["reason"], found["waiting"]) == ("GAVE_UP", 3)
            assert found["failing_since"] is not None
            assert there.taken == []
            await publish(service, happened("late@ex.com"))
            count = len(there.calls)
            await asyncio.sleep(1)
            assert len(there.calls) == count
            there.answer = lambda _: OK
            enabled = await root.ok("POST", f"{path}/enable")
            assert (enabled["status"], enabled["reason"], enabled["missed"]) == ("active", None, 0)
            await there.until(lambda: len(there.ids()) == 4)
            await shown(root, made["id"], lambda one: one["waiting"] == 0)


@pytest.mark.stores("sqlite")
async def test_changes_of_slow_ones_do_not_delay_others(store: Store) -> None:
    async with on(store, webhook_timeout=20) as service, receiver(lambda _: SLOW) as slow:
        root = await service.root()
        hooks = [await hook(root, slow.url) for _ in range(5)]
        async with receiver() as there, sending(service):
            await publish(service, happened("u@ex.com"))
            await slow.until(lambda: len(slow.taken) == len(hooks))
            made = await hook(root, there.url)
            for one in hooks:
                await root.ok("PUT", f"webhook/{one['id']}", label="changed")
            await publish(service, happened("v@ex.com"))
            await there.until(lambda: len(there.ids()) == 1, seconds=4)
            # Nothing of the slow ones is left out either.
            slow.answer = lambda _: OK
            await slow.until(lambda: len(slow.ids("v@ex.com")) == 1)
            for one in (made, *hooks):
                await shown(root, one["id"], lambda one: one["waiting"] == 0)


@pytest.mark.stores("sqlite")
async def test_positions_without_events_do_not_wait(store: Store) -> None:
    async with on(store) as service, receiver() as there:
        root = await service.root()
        await publish(service, happened("u@ex.com"))
        made = await hook(root, there.url)
        await service.context.state.events.interrupt()
        async with sending(service):
            await shown(root, made["id"], lambda one: one["waiting"] == 0)
            await publish(service, happened("u@ex.com"))
            await there.until(lambda: len(there.ids()) == 1)


@pytest.mark.stores("sqlite")
async def test_gone_ends_it_at_once(store: Store) -> None:
    async with on(store) as service, receiver(lambda _: GONE) as there:
        root = await service.root()
        made = await hook(root, there.url)
        async with sending(service):
            await publish(service, happened("u@ex.com"), happened("u@ex.com"))
            found = await shown(root, made["id"], lambda one: one["status"] == "disabled")
        assert (found["reason"], len(there.calls)) == ("GONE", 1)


@pytest.mark.stores("sqlite")
async def test_what_is_not_kept_any_more_is_told(store: Store) -> None:
    async with on(store) as service:
        root = await service.root()
        made = await hook(root)
        await store.execute("UPDATE webhooks SET enabled = 0", "state")
        await publish(service, *(happened("u@ex.com") for _ in range(5)))
        await store.execute("DELETE FROM events WHERE position <= 3", "state")
        enabled = await root.ok("POST", f"webhook/{made['id']}/enable")
        assert enabled["missed"] == 3


async def test_only_what_the_owner_manages(store: Store) -> None:
    """As the rights are when it is sent; without any of its domains the webhook ends."""
    async with on(store) as service, receiver() as there:
        root = await service.root()
        for name in ("ex.com", "two.com", "other.com"):
            await root.ok("POST", f"domain/{name}")
        admin = await service.admin_of("ex.com", "two.com")
        made = await hook(admin, there.url)
        async with sending(service):
            mine = [happened("u@ex.com", actor="root@admins.test"), happened("u@two.com")]
            # Of an earlier domain of this name, which may have been somebody else's.
            before = replace(happened("old@ex.com"), time=time.time() - 3600)
            await publish(service, before, mine[0], happened("u@other.com"), mine[1])
            await publish(service, replace(happened("a@b.c", "admin.created"), domain=""))
            await there.until(lambda: len(there.taken) == 2)
            await shown(admin, made["id"], lambda one: one["waiting"] == 0)
            assert sorted(there.ids()) == sorted(event.id for event in mine)
            assert [call.event["actor"] for call in there.taken] == ["", ""]
            await root.ok("PUT", "domain/admins/two.com", removeAdmin="ex-admin@admins.test")
            await asyncio.sleep(1.1)  # rights are read again after a second
            last = happened("v@ex.com")
            await publish(service, happened("v@two.com"), last)
            await there.until(lambda: len(there.taken) == 3)
            assert there.ids()[-1] == last.id
            await root.ok("PUT", "domain/admins/ex.com", removeAdmin="ex-admin@admins.test")
            await asyncio.sleep(1.1)
            await publish(service, happened("w@ex.com"))
            found = await shown(admin, made["id"], lambda one: one["status"] == "disabled")
        assert found["reason"] == "DOMAINS_LOST"
        assert len(there.calls) == 3


@pytest.mark.parametrize(
    "end, reason",
    [("disable", "OWNER_GONE"), ("delete", "OWNER_GONE"), ("demote", "OWNER_DEMOTED")],
)
async def test_the_owner_gets_nothing_more(store: Store, end: str, reason: str) -> None:
    async with on(store) as service, receiver() as there:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        owner = "owner@admins.test"
        rights = {"isGlobalAdmin": "yes"} if end == "demote" else {}
        await root.ok("POST", f"admin/{owner}", password=PASSWORD, **rights)
        await root.ok("PUT", "domain/admins/ex.com", addAdmin=owner)
        made = await hook(await service.client().login(owner), there.url)
        async with sending(service):
            await publish(service, happened("u@ex.com"))
            await there.until(lambda: len(there.taken) == 1)
            if end == "disable":
                await root.ok("PUT", f"admin/{owner}", accountStatus="disabled")
            elif end == "delete":
                await root.ok("DELETE", f"admin/{owner}")
            else:
                await root.ok("PUT", f"admin/{owner}", isGlobalAdmin="no")
            await asyncio.sleep(1.1)
            await publish(service, happened("u@ex.com"))
            found = await shown(root, made["id"], lambda one: one["status"] == "disabled")
            assert found["reason"] == reason
            # Nor when somebody enables it.
            await root.ok("POST", f"webhook/{made['id']}/enable")
            await shown(root, made["id"], lambda one: one["status"] == "disabled")
        assert len(there.calls) == 1


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_the_next_sender_goes_on(store: Store) -> None:
    """What was taken before is not sent again, and what was open is sent."""
    stuck = True

    def answer(call: Call) -> str:
        return ERROR if stuck and call.event["account"] == "bad@ex.com" else OK

    async with on(store) as service, receiver(answer) as there:
        root = await service.root()
        made = await hook(root, there.url)
        events = [happened("bad@ex.com"), *(happened(f"u{n}@ex.com") for n in range(20))]
        async with sending(service):
            await publish(service, *events)
            await there.until(lambda: len(there.taken) == 20)
        stuck = False
        async with sending(service):
            await there.until(lambda: len(there.taken) == 21)
            await shown(root, made["id"], lambda one: one["waiting"] == 0)
        assert there.ids()[-1] == events[0].id
        rows = await root.ok("GET", f"webhook/{made['id']}/deliveries")
        assert rows[0]["attempt"] > 1


@pytest.mark.stores("sqlite", "postgresql")
async def test_two_senders_are_one(store: Store) -> None:
    """Only one of them sends; when it ends the other one does."""
    async with on(store) as service, receiver() as there:
        root = await service.root()
        await hook(root, there.url)
        async with sending(service):
            async with sending(service):
                await publish(service, *(happened(f"u{n}@ex.com") for n in range(20)))
                await there.until(lambda: len(there.taken) >= 20)
                await asyncio.sleep(0.5)
                assert len(there.calls) == 20
            await publish(service, happened("u@ex.com"))
            await there.until(lambda: len(there.taken) == 21)
        assert len(there.calls) == 21


@pytest.mark.stores("sqlite")
async def test_changes_count_at_once(store: Store) -> None:
    """A new URL, kinds and secret are used by the next request; nothing goes to a deleted one."""
    async with on(store) as service, receiver() as first, receiver() as second:
        root = await service.root()
        made = await hook(root, first.url)
        path = f"webhook/{made['id']}"
        async with sending(service):
            await publish(service, happened("u@ex.com"))
            await first.until(lambda: len(first.taken) == 1)
            await root.ok("PUT", path, url=second.url, kinds="user.deleted")
            rotated = await root.ok("POST", f"{path}/rotate", overlap="60")
            await asyncio.sleep(1.2)
            await publish(service, happened("u@ex.com"), happened("u@ex.com", "user.deleted"))
            await second.until(lambda: len(second.taken) == 1)
            assert second.taken[0].event["kind"] == "user.deleted"
            assert verified(second.taken[0], rotated["secret"], made["secret"])
            await root.ok("DELETE", path)
            await asyncio.sleep(1.2)
            await publish(service, happened("u@ex.com", "user.deleted"))
            await asyncio.sleep(1.2)
        assert (len(first.calls), len(second.calls)) == (1, 1)


@pytest.mark.stores("sqlite")
async def test_ping(store: Store) -> None:
    async with on(store) as service, receiver() as there:
        root = await service.root()
        made = await hook(root, there.url, kinds="user.deleted")
        path = f"webhook/{made['id']}/ping"
        done = await root.ok("POST", path)
        assert done == {"event": done["event"], "status": 204, "reason": None, "ms": done["ms"]}
        (call,) = there.taken
        assert call.event == call.event | {
            "id": done["event"], "kind": "ping", "webhook": made["id"],
        }  # fmt: skip
        assert verified(call, made["secret"])
        there.answer = lambda _: REDIRECT
        assert (await root.ok("POST", path))["reason"] == "REDIRECT"
        there.answer = lambda _: SLOW
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(root.call("POST", path)) for _ in range(3)]
        found = sorted(task.result()[0] for task in calls)
        assert found == [200, 200, 503]
        reasons = [answer["_data"]["reason"] for _, answer in map(asyncio.Task.result, calls)
                   if answer["_success"]]  # fmt: skip
        assert reasons == ["TIMEOUT", "TIMEOUT"]


@pytest.mark.stores("sqlite")
async def test_a_receiver_that_is_down_is_asked_rarely(store: Store) -> None:
    """After some failures one event at a time is tried; afterwards everything arrives."""
    async with on(store) as service, receiver(lambda _: ERROR) as there:
        root = await service.root()
        await hook(root, there.url)
        async with sending(service):
            await publish(service, *(happened(f"u{n}@ex.com") for n in range(100)))
            await asyncio.sleep(3)
            assert len(there.calls) < 30
            there.answer = lambda _: OK
            await there.until(lambda: len(there.ids()) == 100, 30)


async def test_secrets_are_in_no_answer(store: Store) -> None:
    async with on(store) as service:
        root = await service.root()
        made = await hook(root)
        row = (await service.context.state.webhooks.listed())[0]
        assert row.secret == made["secret"]
        assert made["secret"] not in repr(row)
        assert URL not in repr(row)
        texts = [
            await root.call("GET", "webhooks"),
            await root.call("GET", f"webhook/{made['id']}"),
        ]
        assert made["secret"] not in str(texts)
