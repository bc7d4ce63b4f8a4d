"""Metrics for Prometheus: counters and histograms of one process, or of all worker processes.

Worker processes share files in a directory (``prometheus_client``'s multiprocess mode), so that the
one that answers tells the numbers of all. No metric has the name of an account.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    multiprocess,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from iredapi.observability.exposition import END, Sample, SharedFiles, text_of
from iredapi.observability.signals import PoolUse

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of the library that names the directory of all worker processes."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITEMS: Final = (1, 2, 4, 8, 16)
# They have no types.
_generate: Final[Any] = generate_latest
_mark_dead: Final[Any] = multiprocess.mark_process_dead
_without_created: Final[Any] = disable_created_metrics
_PID: Final = re.compile(r"_(\d+)\.db$")


class Metrics:
    """See ``signals.Listener`` for the events."""

    def __init__(self) -> None:
        # A series more for each counter and histogram, and worker processes have none.
        _without_created()
        self._registry = CollectorRegistry()
        self._directory = os.environ.get(DIRECTORY, "")
        self._files = SharedFiles(self._directory) if self._directory else None

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"iredapi_{name}", text, labels, registry=self._registry)

        def seconds(name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(
                f"iredapi_{name}", text, labels, registry=self._registry, buckets=buckets
            )

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(
                f"iredapi_{name}", text, ("pool",), registry=self._registry,
                multiprocess_mode="livesum",
            )  # fmt: skip

        self._requests = counter(
            "requests", "Requests that were answered.", "operation", "method", "status", "code"
        )
        self._duration = seconds(
            "request_duration_seconds", "From the request's head to the end of the answer.",
            "operation", buckets=_SECONDS,
        )  # fmt: skip
        self._backend_seconds = counter(
            "backend_seconds", "Time that requests waited for what is behind the API.",
            "operation", "backend",
        )  # fmt: skip
        self._backend_calls = counter(
            "backend_calls", "Statements, operations and calls of requests.",
            "operation", "backend",
        )  # fmt: skip
        self._lost = counter("audit_entries_lost", "Entries the panel's log did not take.")
        self._retries = counter("unit_retries", "Units of work that were run again.")
        self._events = counter("events_published", "Events of changes that can be read.")
        self._webhook_calls = counter(
            "webhook_calls", "Events that were sent to webhooks.", "outcome"
        )
        self._batch_items = seconds(
            "batch_items", "Requests that shared one statement or transaction.", "kind",
            buckets=_ITEMS,
        )  # fmt: skip
        self._batch_wait = seconds(
            "batch_wait_seconds", "How long the first request of a batch has waited for it.",
            "kind", buckets=_SECONDS,
        )  # fmt: skip
        self._known_requests: dict[tuple[str, str, int, str], tuple[Counter, Histogram]] = {}
        self._known_backends: dict[tuple[str, str], tuple[Counter, Counter]] = {}
        self._size = gauge("pool_size", "Connections or threads that there may be.")
        self._in_use = gauge("pool_in_use", "Connections or threads that are in use.")
        self._waiting = gauge("pool_waiting", "Requests that wait for one.")

    def request(
        self, operation: str, method: str, status: int, code: str, *, seconds: float
    ) -> None:
        """Count a request; ``code`` is empty after success."""
        key = (operation, method, status, code)
        known = self._known_requests.get(key)
        if known is None:  # looking labels up costs as much as counting
            counter = self._requests.labels(operation, method, str(status), code)
            known = self._known_requests[key] = (counter, self._duration.labels(operation))
        known[0].inc()
        known[1].observe(seconds)

    def waited(self, operation: str, backend: str, calls: int, seconds: float) -> None:
        """Count what a request has asked of something behind the API (``query_counter``)."""
        key = (operation, backend)
        known = self._known_backends.get(key)
        if known is None:
            known = self._known_backends[key] = (
                self._backend_seconds.labels(operation, backend),
                self._backend_calls.labels(operation, backend),
            )
        known[0].inc(seconds)
        known[1].inc(calls)

    def audit_entries_lost(self, entries: int) -> None:
        self._lost.inc(entries)

    def events_published(self, count: int) -> None:
        self._events.inc(count)

    def unit_retried(self) -> None:
        self._retries.inc()

    def batch_ran(self, kind: str, items: int, waited: float) -> None:
        self._batch_items.labels(kind).observe(items)
        self._batch_wait.labels(kind).observe(waited)

    def webhook_called(self, reason: str) -> None:
        self._webhook_calls.labels(reason or "taken").inc()

    def pool(self, name: str, use: PoolUse) -> None:
        """Set how a pool of this process is used."""
        self._size.labels(name).set(use.size)
        self._in_use.labels(name).set(use.in_use)
        self._waiting.labels(name).set(use.waiting)

    def rendered(self, samples: Sequence[Sample]) -> bytes:
        """Return everything as OpenMetrics text, with samples that were read just now."""
        if self._files is not None:
            _forget_dead_processes(self._directory)
            own = self._files.text()
        else:
            own = str(_generate(self._registry), "utf-8").removesuffix(END)
        return f"{own}{text_of(samples)}{END}".encode()


def _forget_dead_processes(directory: str) -> None:
    """Remove the gauges of worker processes that have ended; their counters stay."""
    for file in Path(directory).glob("gauge_live*_*.db"):
        found = _PID.search(file.name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            _mark_dead(int(found[1]), directory)


def service_samples(version: str, storage: str) -> list[Sample]:
    """Return which program runs on which storage."""
    labels = {"version": version, "storage": storage}
    return [Sample("build", "The running version and the storage of accounts.", labels, 1.0)]


def login_samples(sessions: int, tokens: int) -> list[Sample]:
    """Return the numbers of sessions and tokens of all replicas."""
    return [
        Sample("sessions", "Sessions that are alive, of all replicas.", {}, float(sessions)),
        Sample("tokens", "API tokens that are valid, of all replicas.", {}, float(tokens)),
    ]


def webhook_samples(counts: Mapping[str, tuple[int, int]]) -> list[Sample]:
    """Return how many webhooks are in each state, and how many events they have before them."""
    samples = []
    for state, (number, waiting) in counts.items():
        labels = {"state": state}
        samples += [
            Sample("webhooks", "Webhooks, of all replicas.", labels, float(number)),
            Sample(
                "webhook_events_waiting", "Events that webhooks have not looked at yet.", labels,
                float(waiting),
            ),
        ]  # fmt: skip
    return samples


def event_samples(pending: int, oldest: float) -> list[Sample]:
    """Return how many events are pending in all replicas, and since how many seconds the oldest."""
    text = "Seconds since the oldest pending event was written; 0: none is pending."
    return [
        Sample("events_pending", "Events that are not published yet.", {}, float(pending)),
        Sample("events_oldest_pending_seconds", text, {}, oldest),
    ]


def domain_samples(rows: Iterable[tuple[str, int, int, int]]) -> list[Sample]:
    """Return what domains use: name, users, bytes stored and MB allocated, of each."""
    samples = []
    for domain, users, stored, allocated in rows:
        own = {"domain": domain}
        whole = allocated * 1024 * 1024
        samples += [
            Sample("domain_users", "Mail users of a domain.", own, users),
            Sample("domain_stored_bytes", "Size of its mailboxes.", own, stored),
            Sample("domain_allocated_bytes", "Quotas of users; unlimited: 0.", own, whole),
        ]
    return samples


def server_samples(
    conditions: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]
) -> list[Sample]:
    """Return samples of the servers behind this process (``health_checks.Probes``)."""
    samples = []
    for name, found in sorted(conditions.items()):
        own = {"server": name}
        samples.append(Sample("server_up", "Whether the server answers.", own, float(found.ok)))
        writable = float(found.ok and not found.reads_only)
        samples.append(Sample("server_writable", "Whether it takes writes.", own, writable))
        more = described.get(name, {})
        if "node" in more:
            words = {**own, "node": str(more["node"]), "role": str(more.get("role", ""))}
            text = "The server that a new connection leads to."
            samples.append(Sample("server_node", text, words, 1.0))
        if "lag_seconds" in more:
            lag = float(more["lag_seconds"])
            samples.append(Sample("server_lag_seconds", "How far a standby is behind.", own, lag))
    return samples
