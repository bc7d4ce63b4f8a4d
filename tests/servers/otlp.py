"""A receiver of traces: OTLP over HTTP, read with OpenTelemetry's own protobuf messages.

OpenTelemetry's Collector is in no release of Debian.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

_messages: Final[Any] = trace_service_pb2


class ReceivedSpan:
    """One span, with readable ids."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.trace: str = span.trace_id.hex()
        self.id: str = span.span_id.hex()
        self.parent: str = span.parent_span_id.hex()
        self.kind: int = span.kind
        self.start: int = span.start_time_unix_nano
        self.end: int = span.end_time_unix_nano
        self.failed: bool = span.status.code == 2
        self.message: str = span.status.message
        self.attributes = _values(span.attributes)
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.events = [event.name for event in span.events]
        self.resource = resource

    def __repr__(self) -> str:
        return f"<{self.name} {self.attributes}>"


def _values(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found}


class OtlpReceiver:
    """Listens on a free port of loopback, and keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.bodies: list[bytes] = []
        self.others: list[str] = []
        """Paths that are not of traces."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                if self.path == "/v1/traces":
                    owner.take(body)
                else:
                    owner.others.append(self.path)
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, body: bytes) -> None:
        """Read one request."""
        request = _messages.ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [ReceivedSpan(span, resource) for span in scope.spans]

    def until(
        self, wanted: Callable[[list[ReceivedSpan]], bool], seconds: float = 20
    ) -> list[ReceivedSpan]:
        """Wait until the spans are as wanted, and return them."""
        deadline = time.monotonic() + seconds
        while not wanted(self.spans) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert wanted(self.spans), self.spans
        return list(self.spans)

    def of(self, trace: str, name: str) -> list[ReceivedSpan]:
        """Wait for a span of a trace, and return all of the trace."""
        every = self.until(
            lambda spans: any(span.trace == trace and span.name == name for span in spans)
        )
        return [span for span in every if span.trace == trace]

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()
