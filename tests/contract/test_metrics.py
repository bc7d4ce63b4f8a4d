"""``/metrics``: what it tells on each storage, who may read it, and what it never says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client.openmetrics import parser

from iredapi.observability import signals
from iredapi.observability.query_counter import listening
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
TOKEN = "a-long-secret-of-metrics"
families: Any = parser.text_string_to_metric_families
Labels = dict[str, str]


@pytest_asyncio.fixture
async def measured(store: Store) -> AsyncIterator[Service]:
    async with serving(store, metrics_networks="127.0.0.1", metrics_token=TOKEN) as service:
        yield service
    signals.listen(None)


def _url(client: Client, query: str = "") -> str:
    return f"{client.http.base_url.copy_with(path='/metrics')}{query}"


async def _text(client: Client, query: str = "", **headers: str) -> str:
    answer = await client.http.get(_url(client, query), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return answer.text


def _values(text: str, name: str) -> list[tuple[Labels, float]]:
    return [
        (dict(sample.labels), sample.value)
        for family in families(text)
        for sample in family.samples
        if sample.name == f"iredapi_{name}"
    ]


def _value(text: str, name: str, **labels: str) -> float:
    found = [value for own, value in _values(text, name) if labels.items() <= own.items()]
    assert found, (name, labels, _values(text, name))
    return sum(found)


async def test_requests_are_counted_by_operation(measured: Service) -> None:
    root = await measured.root()
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    for _ in range(3):
        await root.ok("GET", "user/u@ex.com")
    assert (await root.refused("GET", "user/nobody@ex.com"))[0] == 404
    assert (await root.http.request("BREW", "user/u@ex.com")).status_code == 405
    assert (await root.http.get("nothing/u@ex.com")).status_code == 404
    text = await _text(root)
    read = {"operation": "user.read", "method": "GET"}
    assert _value(text, "requests_total", **read, status="200", code="") == 3
    assert _value(text, "requests_total", **read, status="404", code="NO_SUCH_ACCOUNT") == 1
    assert _value(text, "requests_total", operation="login", status="200") == 1
    assert _value(text, "request_duration_seconds_count", operation="user.read") == 4
    backend = "directory" if measured.store.name == "openldap" else "database"
    waits = {"operation": "user.read", "backend": backend}
    assert _value(text, "backend_calls_total", **waits) >= 4
    assert 0 < _value(text, "backend_seconds_total", **waits) < 60
    # What is no operation has no labels of its own: a client cannot make new series.
    other = {own["method"] for own, _ in _values(text, "requests_total") if not own["operation"]}
    assert other == {""}
    for name in ("u@ex.com", "nobody", ROOT, "ex.com", "BREW", "nothing"):
        assert name not in text
    # Reading metrics is not counted itself.
    assert _values(await _text(root), "requests_total") == _values(text, "requests_total")


async def test_the_state_of_the_process_and_of_its_servers(measured: Service) -> None:
    root = await measured.root()
    measured.context.watch_pools(lambda name, use: None)
    text = await _text(root)
    storage = "ldap" if measured.store.name == "openldap" else measured.store.name
    builds = [own["storage"] for own, _ in _values(text, "build")]
    assert builds == [storage] or (storage, builds) == ("mariadb", ["mysql"])
    assert _value(text, "sessions") == 1
    assert _value(text, "tokens") == 0
    await root.ok("POST", "tokens", label="one")
    assert _value(await _text(root), "tokens") == 1
    assert {value for _, value in _values(text, "server_up")} == {1.0}
    names = {own["server"] for own, _ in _values(text, "server_writable")}
    assert {"state", "iredadmin"} <= names
    assert _value(text, "unit_retries_total") == 0
    assert _value(text, "audit_entries_lost_total") == 0


async def test_batches_and_events_are_counted(measured: Service) -> None:
    root = await measured.root()
    await root.ok("POST", "domain/ex.com")
    signals.unit_retried()
    signals.audit_entries_lost(3)
    text = await _text(root)
    assert _value(text, "unit_retries_total") == 1
    assert _value(text, "audit_entries_lost_total") == 3
    assert _value(text, "batch_items_count", kind="log") >= 1
    assert _value(text, "batch_items_sum", kind="logins") >= 1
    assert _value(text, "batch_wait_seconds_count", kind="log") >= 1


async def test_domains_when_asked_for(measured: Service) -> None:
    root = await measured.root()
    for domain in ("ex.com", "b.org"):
        await root.ok("POST", f"domain/{domain}")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, quota="100")
    text = await _text(root, "?domains=yes")
    assert _value(text, "domain_users", domain="ex.com") == 1
    assert _value(text, "domain_users", domain="b.org") == 0
    assert _value(text, "domain_allocated_bytes", domain="ex.com") == 100 * 1024 * 1024
    assert _value(text, "domain_stored_bytes", domain="ex.com") == 0
    assert "u@ex.com" not in text
    with listening() as statements:
        await _text(root, "?domains=yes")
    for number in range(5):
        await root.ok("POST", f"domain/more{number}.org")
    with listening() as later:
        await _text(root, "?domains=yes")
    # On OpenLDAP these are the ones of iredadmin, for the sizes; searches are not counted.
    words = ("FROM mailbox", "used_quota", "FROM domain")
    both = [
        [sql for sql in some if any(word in sql for word in words)] for some in (statements, later)
    ]
    assert len(both[0]) == len(both[1]) <= 2
    assert "domain_users" not in await _text(root, "?domains=no")
    answer = await root.http.get(_url(root, "?domains=all"))
    assert (answer.status_code, answer.json()["_errors"][0]["param"]) == (400, "domains")


@pytest.mark.stores("sqlite")
async def test_who_may_read_metrics(store: Store) -> None:
    """The API's allow list does not decide, nor does a login."""

    async def asked(given: dict[str, Any], **headers: str) -> int:
        async with serving(store, **given) as service:
            client = service.client() if hasattr(service, "client") else await service.root()
            return (await client.http.get(_url(client), headers=headers)).status_code

    far = {"metrics_networks": "192.0.2.0/24"}
    with_token = {"metrics_token": TOKEN}
    try:
        assert await asked({}) == 404
        assert await asked({"metrics_networks": "127.0.0.0/8"}) == 200
        assert await asked(far) == 403
        assert await asked(far, **{"X-Forwarded-For": "192.0.2.1"}) == 403
        trusting = {**far, "trusted_proxies": "127.0.0.1"}
        assert await asked(trusting, **{"X-Forwarded-For": "192.0.2.1"}) == 200
        assert await asked(with_token) == 403
        assert await asked(with_token, Authorization=f"Bearer {TOKEN}") == 200
        assert await asked(with_token, Authorization=f"Bearer {TOKEN[:-1]}") == 403
        assert await asked(with_token, Authorization=f"Basic {TOKEN}") == 403
    finally:
        signals.listen(None)
