"""Traces of a real process, over OTLP: what a request is made of, and what is never said."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess, add_root, running_on
from tests.servers.mlmmjadmin import TOKEN, MlmmjAdminServer
from tests.servers.otlp import OtlpReceiver, ReceivedSpan
from tests.servers.process import free_port
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
_SERVER, _CLIENT = 2, 3
"""Kinds of spans in OTLP."""
_MAIL = "traced-user@ex.com"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    found = OtlpReceiver()
    yield found
    found.stop()


def _given(receiver: OtlpReceiver, **more: str) -> dict[str, str]:
    return {
        "IREDAPI_TRACES": "yes",
        "IREDAPI_PASSWORD_SCHEME": "SHA512-CRYPT",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        # Only what the client has decided to trace.
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        **more,
    }


class _Client:
    """A client that names a trace in each request."""

    def __init__(self, address: str) -> None:
        self.http = httpx.AsyncClient(base_url=f"{address}/api/", trust_env=False, timeout=60)
        self.span = ""

    async def __aenter__(self) -> _Client:
        answer = await self.http.post("login", data={"username": ROOT, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def call(
        self, method: str, path: str, status: int = 200, flags: str = "01", **form: str
    ) -> str:
        """Send a request; return the id of its trace."""
        trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        headers = {"traceparent": f"00-{trace}-{self.span}-{flags}"}
        answer = await self.http.request(method, path, data=form or None, headers=headers)
        assert answer.status_code == status, answer.text
        return trace


def _lines(api: ApiProcess, trace: str) -> list[dict[str, Any]]:
    """The lines of the log that name a trace."""
    deadline = time.monotonic() + 10
    while True:
        lines = [json.loads(line) for line in api.output.splitlines() if f'"{trace}"' in line]
        if any(line["event"] == "request" for line in lines) or time.monotonic() > deadline:
            return lines
        time.sleep(0.05)


def _named(spans: list[ReceivedSpan], part: str) -> list[ReceivedSpan]:
    return [span for span in spans if part in span.name]


def _check_tree(spans: list[ReceivedSpan], client: str) -> None:
    """Every span leads up to the server's, which is a child of the client's; times are within."""
    ids = {span.id: span for span in spans}
    for span in spans:
        assert span.parent in ids or span.parent == client, span
        assert span.start <= span.end
    assert len(_named([span for span in spans if span.parent == client], "/api/")) == 1


async def test_what_a_request_is_made_of(store: Store, receiver: OtlpReceiver) -> None:
    await add_root(store)
    system = {"sqlite": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}.get(store.name)
    given = _given(receiver, OTEL_SERVICE_NAME="mail-api", FASTAPI_OTEL_AUTO_CONFIGURE="true")
    with running_on(store, **given) as api:
        async with _Client(api.address) as client:
            trace = await client.call("POST", "domain/ex.com")
            await asyncio.to_thread(receiver.of, trace, "POST /api/domain/{domain}")
            trace = await client.call("POST", f"user/{_MAIL}", password=PASSWORD, name="Secretive")
            spans = await asyncio.to_thread(receiver.of, trace, "POST /api/user/{mail}")
            _check_tree(spans, client.span)
            (request,) = _named(spans, "/api/")
            assert request.kind == _SERVER
            assert request.attributes["http.route"] == "/api/user/{mail}"
            assert request.attributes["http.request.method"] == "POST"
            assert request.attributes["http.response.status_code"] == 200
            assert request.attributes["iredapi.operation"] == "user.create"
            assert request.resource["service.name"] == "mail-api"
            assert request.resource["service.version"]
            assert not request.failed
            (hashing,) = _named(spans, "hash a password")
            (waiting,) = _named(spans, "wait for a hashing thread")
            assert waiting.parent == hashing.id
            assert hashing.end - hashing.start > waiting.end - waiting.start
            asked = [span for span in spans if span.kind == _CLIENT]
            if system is None:
                assert {span.attributes["db.system.name"] for span in asked} >= {"ldap"}
                assert _named(asked, "LDAP add")
                searches = _named(asked, "LDAP search")
                assert any("ldap.filter" in span.attributes for span in searches)
            else:
                names = {span.attributes["db.system.name"] for span in asked}
                assert names <= {system, "mariadb"}
                texts = " ".join(span.attributes["db.query.text"] for span in asked)
                assert "INSERT INTO mailbox" in texts
                assert "COMMIT" in texts or store.name == "mariadb"
            # The line of the request leads to the trace.
            (line,) = [one for one in _lines(api, trace) if one["event"] == "request"]
            assert (line["trace_id"], line["span_id"]) == (trace, request.id)

            trace = await client.call("GET", f"user/{_MAIL}")
            spans = await asyncio.to_thread(receiver.of, trace, "GET /api/user/{mail}")
            _check_tree(spans, client.span)
            assert _named(spans, "operation ")
            trace = await client.call("PUT", f"user/{_MAIL}", name="Otherwise")
            spans = await asyncio.to_thread(receiver.of, trace, "PUT /api/user/{mail}")
            _check_tree(spans, client.span)
            # A refusal is no fault of the service.
            trace = await client.call("GET", "user/nobody-there@ex.com", status=404)
            spans = await asyncio.to_thread(receiver.of, trace, "GET /api/user/{mail}")
            (request,) = _named(spans, "/api/")
            assert request.attributes["iredapi.code"] == "NO_SUCH_ACCOUNT"
            assert not any(span.failed for span in spans)
            # A path that is no operation does not become a name.
            trace = await client.call("GET", "nowhere/secret-path", status=404)
            await asyncio.to_thread(receiver.of, trace, "GET")
            # The client does not want this one.
            trace = await client.call("GET", "whoami", flags="00")
            (line,) = [one for one in _lines(api, trace) if one["event"] == "request"]
            assert line["trace_id"] == trace
            kept = await client.call("GET", "whoami")
            await asyncio.to_thread(receiver.of, kept, "GET /api/whoami")
            assert trace not in {span.trace for span in receiver.spans}
    whole = b"".join(receiver.bodies)
    words = (_MAIL, "traced-user", "ex.com", ROOT, PASSWORD, "Secretive", "Otherwise", "nobody")
    for word in (*words, "secret-path", "$6$", "{CRYPT}"):
        assert word.encode() not in whole, word
    assert not receiver.others  # FastAPI's own metrics and logs
    assert not any(span.events or span.message for span in receiver.spans)
    # A health check or a timer is no request.
    assert all(span.parent for span in receiver.spans)


@pytest.mark.stores("postgresql", "mariadb")
async def test_batches_are_linked_to_their_members(store: Store, receiver: OtlpReceiver) -> None:
    await add_root(store)
    with running_on(store, **_given(receiver)) as api:
        async with _Client(api.address) as client:
            await client.call("POST", "domain/ex.com")
            mails = [f"u{number}@ex.com" for number in range(24)]
            for mail in mails:
                await client.call("POST", f"user/{mail}", password=PASSWORD)
            for _ in range(4):
                await asyncio.gather(*(
                    client.call("PUT", f"user/{mail}", name=secrets.token_hex(4)) for mail in mails
                ))  # fmt: skip

            def shared(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
                return [
                    span for span in spans if span.name == "batch of changes" and span.links[1:]
                ]

            spans = await asyncio.to_thread(receiver.until, lambda found: bool(shared(found)))
            await asyncio.sleep(0.5)
            waits = {(span.trace, span.id): span for span in receiver.spans}
            for batch in shared(spans):
                assert batch.attributes["iredapi.batch.items"] == len(batch.links)
                members = [waits[link] for link in batch.links]
                assert {member.name for member in members} == {"wait for changes"}
                assert len({member.trace for member in members}) == len(members)
                # It is in the trace of its first member, with the statements below it.
                assert (batch.trace, batch.parent) == batch.links[0]
                inside = [span for span in receiver.spans if span.parent == batch.id]
                assert any("db.query.text" in span.attributes for span in inside)


@pytest.mark.stores("sqlite")
@pytest.mark.needs("mlmmj")
async def test_the_list_server_gets_the_trace(
    store: Store, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    await add_root(store)
    server = MlmmjAdminServer(tmp_path / "spool", tmp_path / "archive", free_port())
    server.spool.mkdir()
    server.archive.mkdir()
    server.start()
    try:
        given = _given(receiver, IREDAPI_MLMMJADMIN_URL=server.url, IREDAPI_MLMMJADMIN_TOKEN=TOKEN)
        given["IREDAPI_METRICS_NETWORKS"] = "127.0.0.1"
        with running_on(store, **given) as api:
            async with _Client(api.address) as client:
                await client.call("POST", "domain/ex.com")
                trace = await client.call("POST", "ml/team@ex.com", name="Team")
                spans = await asyncio.to_thread(receiver.of, trace, "POST /api/ml/{mail}")
                _check_tree(spans, client.span)
                (call,) = _named(spans, "POST /{address}")
                assert call.kind == _CLIENT
                (sent,) = [one for one in server.requests if one.method == "POST"]
                found = {name.lower(): value for name, value in sent.headers.items()}
                assert found["traceparent"] == f"00-{trace}-{call.id}-01"
                # Metrics tell the same wait apart.
                text = (await client.http.get(f"{api.address}/metrics")).text
                series = 'iredapi_backend_calls_total{backend="list_server",operation="ml.create"}'
                calls = [one for one in server.requests if "team" in one.target]
                assert f"{series} {float(len(calls))}" in text
                assert b"team@" not in b"".join(receiver.bodies)
                assert TOKEN.encode() not in b"".join(receiver.bodies)
    finally:
        server.stop()


@pytest.mark.stores("sqlite")
async def test_how_many_requests_are_traced(store: Store, receiver: OtlpReceiver) -> None:
    """The standard variables decide: here a share of none, and what clients have begun."""
    await add_root(store)
    given = _given(
        receiver, OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0"
    )
    with running_on(store, **given) as api:
        async with _Client(api.address) as client:
            for _ in range(5):
                assert (await client.http.get("whoami")).status_code == 200
            # Not a trace: a new one is begun, which is not sampled either.
            answer = await client.http.get("whoami", headers={"traceparent": "00-zz-zz-01"})
            assert answer.status_code == 200
            kept = await client.call("GET", "whoami")
            await asyncio.to_thread(receiver.of, kept, "GET /api/whoami")
    assert {span.trace for span in receiver.spans} == {kept}


@pytest.mark.stores("sqlite")
async def test_without_a_receiver_requests_are_answered(store: Store) -> None:
    await add_root(store)
    away = f"http://127.0.0.1:{free_port()}"
    given = {"IREDAPI_TRACES": "yes", "OTEL_EXPORTER_OTLP_ENDPOINT": away}
    with running_on(store, **given, OTEL_BSP_SCHEDULE_DELAY="100") as api:
        async with _Client(api.address) as client:
            for _ in range(20):
                began = time.monotonic()
                await client.call("GET", "whoami")
                assert time.monotonic() - began < 2
        await asyncio.sleep(1)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 15
