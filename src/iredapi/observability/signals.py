"""What happens in many places and is counted by metrics, if there are any.

The places need not know ``observability.metrics``, whose library is loaded only when metrics are
served. Without a listener a call is one comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How a pool of connections or threads is used at this moment."""

    size: int
    in_use: int
    waiting: int
    """Requests that wait for one."""


class Listener(Protocol):
    """What is told of each event."""

    def audit_entries_lost(self, entries: int) -> None:
        """Entries could not be written to the panel's log."""

    def unit_retried(self) -> None:
        """A unit of work is run again after a deadlock, a collision or a lost connection."""

    def batch_ran(self, kind: str, items: int, waited: float) -> None:
        """A batch starts, whose first item has waited for some seconds."""

    def events_published(self, count: int) -> None:
        """Events of changes were published."""

    def webhook_called(self, reason: str) -> None:
        """An event was sent to a webhook; ``reason`` says why it was not taken, if it was not."""


_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Tell one listener of the process everything from now on; None: nobody."""
    global _listener  # noqa: PLW0603 (as for logging, there is one for the process)
    _listener = listener


def audit_entries_lost(entries: int) -> None:
    """See ``Listener``."""
    if _listener is not None:
        _listener.audit_entries_lost(entries)


def unit_retried() -> None:
    """See ``Listener``."""
    if _listener is not None:
        _listener.unit_retried()


def batch_ran(kind: str, items: int, waited: float) -> None:
    """See ``Listener``."""
    if _listener is not None:
        _listener.batch_ran(kind, items, waited)


def events_published(count: int) -> None:
    """See ``Listener``."""
    if _listener is not None:
        _listener.events_published(count)


def webhook_called(reason: str) -> None:
    """See ``Listener``."""
    if _listener is not None:
        _listener.webhook_called(reason)
