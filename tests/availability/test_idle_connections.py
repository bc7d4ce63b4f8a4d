"""Connections that a load balancer closes when they are idle, and those that become old."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from sqlalchemy.engine import make_url

from tests.clients import PASSWORD, ROOT
from tests.servers.api import add_root, running, urls_of
from tests.servers.forwarder import forwarding
from tests.servers.store import Store

LOGIN = {"username": ROOT, "password": PASSWORD}
FIRST: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("GET", "/api/domain/ex.com", {}),
    ("GET", "/api/users/ex.com", {}),
    ("PUT", "/api/domain/ex.com", {"name": "New"}),
    ("POST", "/api/user/v@ex.com", {"password": PASSWORD}),
    ("PUT", "/api/user/u@ex.com", {"name": "New"}),
    ("POST", "/api/throttle/u@ex.com/inbound", {"period": "60", "max_msgs": "7"}),
    ("PUT", "/api/spampolicy/user/u@ex.com", {"bypass_spam_checks": "yes"}),
    ("GET", "/api/throttle/u@ex.com/inbound", {}),
    ("POST", "/api/login", LOGIN),
    ("POST", "/api/verify_password/user/u@ex.com", {"password": PASSWORD}),
    ("DELETE", "/api/user/v@ex.com", {}),
)  # fmt: skip
_LOG = "SELECT event FROM log"


async def _busy(client: httpx.AsyncClient) -> list[httpx.Response]:
    """So many requests at once that several connections to each database are open afterwards."""
    return await asyncio.gather(
        *(client.get(f"/api/user/u@ex.com?n={n}") for n in range(6)),
        *(client.put("/api/domain/ex.com", data={"name": str(n)}) for n in range(4)),
        *(client.put("/api/user/u@ex.com", data={"name": str(n)}) for n in range(4)),
        *(client.get("/api/throttle/u@ex.com/inbound") for n in range(2)),
    )


@pytest.mark.stores("postgresql", "mariadb")
async def test_the_first_requests_after_a_pause_are_served(store: Store) -> None:
    """All idle connections to all databases were closed; what each request writes is logged."""
    await add_root(store)
    port = make_url(store.state).port
    assert port is not None
    with forwarding(port) as forwarder:
        given = {
            name: make_url(url).set(port=forwarder.port).render_as_string(hide_password=False)
            for name, url in urls_of(store).items()
            if name.endswith("_URL")
        }
        with running(urls_of(store) | given) as api:
            async with httpx.AsyncClient(
                base_url=api.address, timeout=30, trust_env=False
            ) as client:
                assert (await client.post("/api/login", data=LOGIN)).status_code == 200
                assert (await client.post("/api/domain/ex.com")).status_code == 200
                form = {"password": PASSWORD}
                assert (await client.post("/api/user/u@ex.com", data=form)).status_code == 200
                for method, path, form in FIRST:
                    await _busy(client)
                    assert forwarder.close_all() > 5
                    answer = await client.request(method, path, data=form or None)
                    assert answer.status_code == 200, (path, answer.text)
                await _busy(client)
                forwarder.close_all()
                await asyncio.sleep(1.1)  # what is believed for a second is over
                for answer in await _busy(client):
                    assert answer.status_code == 200, answer.text
                events = [row["event"] for row in await store.rows(_LOG, "iredadmin")]
                assert {"create", "update", "login", "delete"} <= set(events)
                assert "audit_failed" not in api.output


@pytest.mark.stores("postgresql", "mariadb")
async def test_connections_are_replaced_when_they_are_old(store: Store) -> None:
    """So a server that has come back behind a load balancer is used again."""
    await add_root(store)
    port = make_url(store.state).port
    assert port is not None
    with forwarding(port) as forwarder:
        given = {
            name: make_url(url).set(port=forwarder.port).render_as_string(hide_password=False)
            for name, url in urls_of(store).items()
            if name in {"IREDAPI_VMAIL_URL", "IREDAPI_STATE_URL"}
        }
        given["IREDAPI_CONNECTION_MAX_AGE"] = "1"
        with running(urls_of(store) | given) as api:
            async with httpx.AsyncClient(
                base_url=api.address, timeout=30, trust_env=False
            ) as client:
                assert (await client.post("/api/login", data=LOGIN)).status_code == 200
                assert (await client.post("/api/domain/ex.com")).status_code == 200
                before = forwarder.opened
                await asyncio.sleep(1.1)
                assert (await client.get("/api/domain/ex.com")).status_code == 200
                assert (await client.put("/api/domain/ex.com", data={"name": "x"})).is_success
                assert forwarder.opened >= before + 2  # one to each of both databases
