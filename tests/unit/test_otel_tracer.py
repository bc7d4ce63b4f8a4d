"""Spans as OpenTelemetry sends them: what failed, what belongs together, and what is no span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from opentelemetry.trace import SpanContext

from iredapi.errors import ApiError
from iredapi.observability.otel_tracer import OtelTracer
from tests.servers.otlp import OtlpReceiver, ReceivedSpan

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_PARENT = {"traceparent": f"00-{_TRACE}-{_SPAN}-01"}
Sent = dict[str, ReceivedSpan]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    found = OtlpReceiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    yield found
    found.stop()


def _sent(tracer: OtelTracer, receiver: OtlpReceiver) -> Sent:
    tracer.close()
    return {span.name: span for span in receiver.spans}


def test_what_fails_is_told_without_its_message(receiver: OtlpReceiver) -> None:
    tracer = OtelTracer("1.2.3")
    failures = {
        "refused": ApiError("NO_SUCH_ACCOUNT", "CANARY"),
        "away": ApiError("SERVER_DOWN", "CANARY"),
        "fault": ValueError("CANARY"),
    }
    with tracer.request("GET", _PARENT):
        for name, error in failures.items():
            with suppress(Exception), tracer.span(name):
                raise error
        tracer.ended("SELECT", {"db.system.name": "sqlite"}, 0.5, "OperationalError")
        with tracer.span("fine"):
            pass
    found = _sent(tracer, receiver)
    assert {name for name, span in found.items() if span.failed} == {"away", "fault", "SELECT"}
    types = {name: span.attributes.get("error.type") for name, span in found.items()}
    assert types["refused"] == "NO_SUCH_ACCOUNT"
    assert types["fault"] == "ValueError"
    assert types["fine"] is None
    assert 0.4e9 < found["SELECT"].end - found["SELECT"].start < 0.6e9
    assert b"CANARY" not in b"".join(receiver.bodies)
    assert (found["GET"].trace, found["GET"].parent) == (_TRACE, _SPAN)
    assert {span.trace for span in found.values()} == {_TRACE}
    assert found["GET"].resource["service.name"] == "iredapi"
    assert found["GET"].resource["service.version"] == "1.2.3"


def test_spans_are_made_within_sampled_requests_only(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = "service.name=other,deployment.environment.name=x"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", named)
    tracer = OtelTracer("0")
    assert tracer.here() is None
    assert tracer.log_fields() == {}
    with tracer.span("a timer's"):
        tracer.ended("SELECT", {}, 0.1)
        tracer.began("wait", 1, 2)
    with tracer.batch("reads", [None, None]):
        assert tracer.here() is None
    with tracer.request("PUT", {"traceparent": f"00-{_TRACE}-{_SPAN}-00"}):
        assert tracer.here() is None
        assert tracer.log_fields()["trace_id"] == _TRACE
        # The decision is passed on.
        assert tracer.headers()["traceparent"].endswith("-00")
        with tracer.span("not sampled"):
            pass
    for wrong in ("", "00-zz-zz-01", f"00-{'0' * 32}-{_SPAN}-01", "x" * 5000):
        with tracer.request("GET", {"traceparent": wrong}):
            pass
    found = _sent(tracer, receiver)
    assert set(found) == {"GET"}
    assert len(receiver.spans) == 4
    assert all(not span.parent and span.trace != _TRACE for span in receiver.spans)
    assert found["GET"].resource["service.name"] == "other"
    assert found["GET"].resource["deployment.environment.name"] == "x"


def test_a_batch_is_linked_to_its_members(receiver: OtlpReceiver) -> None:
    tracer = OtelTracer("0")
    marks: list[SpanContext | None] = [None]
    for _ in range(2):
        with tracer.request("GET", {}), tracer.span("wait for reads"):
            marks.append(tracer.here())
    with tracer.batch("reads", marks), tracer.span("SELECT", client=True):
        pass
    found = _sent(tracer, receiver)
    waits = [span for span in receiver.spans if span.name == "wait for reads"]
    batch = found["batch of reads"]
    assert batch.links == [(span.trace, span.id) for span in waits]
    assert (batch.trace, batch.parent) == (waits[0].trace, waits[0].id)
    assert batch.attributes["iredapi.batch.items"] == 3
    assert found["SELECT"].parent == batch.id
