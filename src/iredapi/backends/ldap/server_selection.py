"""Server selection: which of several servers is used.

Servers are preferred in the order of their URIs, with these exceptions. A server that accepts
writes comes before replicas that do not, so that reads see what was written; without one, replicas
are read. A server that was down is used again only when its data are as new as those of the server
in use: with old data it could let an address be taken twice. Referrals are not followed, so the
password is sent to configured servers only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from iredapi.backends.ldap.connection import Connection, RawNames, connect
from iredapi.backends.ldap.connectivity import Target
from iredapi.backends.ldap.errors import LdapError, Refused, Unavailable
from iredapi.backends.ldap.model import DirectoryOptions

_log = structlog.get_logger(__name__)
_DOWN: Final = 15.0
"""Seconds until a server that is down, outdated or read-only is checked again."""
_SOON: Final = 2.0
"""The same for a server that is down, while no check is running."""
_LAG: Final = 1.5
"""Seconds that a write waits for a server that lags, before that server is not used any more."""
_SEARCH: Final = 1.0
"""Seconds between two searches for a server that accepts writes, when none is known."""
_CHECKS: Final = 5
_PAUSE: Final = 0.1
"""How often, and with which pause in seconds, an outdated server gets time to catch up."""


class Servers:
    """The configured servers and their last known states."""

    def __init__(self, options: DirectoryOptions) -> None:
        self._options = options
        self._quickly = replace(
            options,
            timeout=min(_LAG, options.timeout),
            connect_timeout=min(_LAG, options.connect_timeout),
        )
        """For connections that writes wait for."""
        self._targets = [Target.parse(uri) for uri in options.uris]
        self._down = [0.0] * len(self._targets)
        """Time of the next check of each (monotonic); 0: it is up and up to date."""
        self._writes: list[bool | None] = [None] * len(self._targets)
        """Whether each accepts writes; None: not known."""
        self._write_checked = [0.0] * len(self._targets)
        """Time of that check (monotonic)."""
        self._raw = RawNames()
        self._lock = threading.Lock()
        self._doubtful = len(self._targets) > 1
        self.changes = 0
        """How often a server has stopped, or was used again."""
        self._searched = 0.0
        """Time of the last search for a server that accepts writes (monotonic)."""
        self._looking = threading.Lock()
        self._observers: list[Connection] = []
        """Idle connections for comparing servers."""

    # -- the order ---------------------------------------------------------------------------------

    def rank(self, index: int) -> tuple[bool, bool, int]:
        """Return the sort key of a server: the smallest is preferred."""
        return bool(self._down[index]), self._writes[index] is False, index

    def best(self) -> int:
        """Return the index of the preferred server."""
        return min(range(len(self._targets)), key=self.rank)

    def connect(self) -> Connection:
        """Connect to the best server that can be reached. Raises Unavailable, or Refused."""
        failure: LdapError = Unavailable("no server", uncertain=False)
        reader: Connection | None = None
        for index in sorted(range(len(self._targets)), key=self.rank):
            if reader is not None and self._down[index]:
                break
            try:
                connection = self._opened(index)
            except Refused:
                # A wrong password is wrong on all servers; trying others would hide that.
                if reader is None:
                    raise
                continue
            except LdapError as error:
                failure = error
                continue
            if self._writes[index] is not False:
                if reader is not None:
                    reader.close()
                return self._compared(connection)
            if reader is None:
                reader = connection
            else:
                connection.close()
        if reader is not None:
            return reader
        try:
            if isinstance(failure, Unavailable):
                raise failure
            raise Unavailable(str(failure), uncertain=False, code=failure.code)
        finally:
            del failure  # breaks the reference cycle of exception and frame

    def _opened(self, index: int, options: DirectoryOptions | None = None) -> Connection:
        """Connect to a server; if there are several, find out whether it accepts writes."""
        try:
            connection = connect(index, self._targets[index], options or self._options, self._raw)
        except Refused:
            raise
        except LdapError as error:
            self._set_down(index, str(error))
            raise
        self._set_up(index)
        if len(self._targets) > 1 and self._writes[index] is None:
            with suppress(LdapError):
                self.takes_writes(connection)
        return connection

    # -- servers that accept writes ----------------------------------------------------------------

    @property
    def some_may_write(self) -> bool:
        """Whether any server that is up may accept writes, as far as is known."""
        return any(
            writes is not False and not down
            for writes, down in zip(self._writes, self._down, strict=True)
        )

    def takes_writes(self, connection: Connection) -> bool:
        """Tell whether the server of a connection accepts writes (cached for ``_DOWN`` seconds)."""
        index = connection.server
        known = self._writes[index]
        if not known or time.monotonic() - self._write_checked[index] > _DOWN:
            known = not self._options.base or connection.takes_writes(self._options.base)
            self.set_role(index, writes=known)
        if not known:
            self.search()
        return known

    def search(self) -> None:
        """When no server is known to accept writes, look at those left out. Call it in a thread.

        At most once a second, since a server may not answer.
        """
        with self._lock:
            now = time.monotonic()
            if not any(self._down) or self.some_may_write or now - self._searched < _SEARCH:
                return
            self._searched = now
        self.look()

    def is_known_to_take_writes(self) -> bool:
        """Tell whether the only server was found to accept writes in the last ``_DOWN`` seconds."""
        age = time.monotonic() - self._write_checked[0]
        return len(self._targets) == 1 and bool(self._writes[0]) and age <= _DOWN

    def set_role(self, index: int, *, writes: bool) -> None:
        """Record whether a server accepts writes."""
        with self._lock:
            before, self._writes[index] = self._writes[index], writes
            self._write_checked[index] = time.monotonic()
        if before is not writes and (before is not None or not writes):
            what = "ldap_server_takes_writes" if writes else "ldap_server_reads_only"
            _log.warning(what, server=str(self._targets[index]))

    # -- servers that follow each other ------------------------------------------------------------

    def wait_for_others(self, connection: Connection) -> None:
        """Wait until all servers that are up and accept writes have the changes of all of them.

        Raises Unavailable when one of them stops meanwhile. One that lags is not used any more,
        until it has caught up.
        """
        base = self._options.base
        if not base:
            return
        others = [
            index
            for index in range(len(self._targets))
            if index != connection.server and not self._down[index]
            and self._writes[index] is not False
        ]  # fmt: skip
        observed = [connection]
        try:
            # Those that were opened before another one fails are kept.
            observed.extend(filter(None, map(self._observer, others)))
            if len(observed) > 1:
                self._wait(observed, base)
        finally:
            with self._lock:
                self._observers += [each for each in observed[1:] if not each.broken]

    def _wait(self, observed: list[Connection], base: str) -> None:
        deadline, pause = time.monotonic() + _LAG, 0.001
        states = {each: self._state(each, base) for each in observed}
        wanted: dict[str, str] = {}
        for state in states.values():
            for number, last in state.items():
                wanted[number] = max(last, wanted.get(number, ""))
        while behind := [each for each, state in states.items() if not covers(state, wanted)]:
            if time.monotonic() > deadline:
                for each in behind:
                    self._set_down(each.server, "its data are outdated")
                return
            time.sleep(pause)  # runs in a worker thread
            pause = min(2 * pause, 0.05)
            states = {each: self._state(each, base) for each in behind}

    def _state(self, connection: Connection, base: str) -> dict[str, str]:
        try:
            return connection.state_of_replication(base)
        except Unavailable as error:
            self._set_down(connection.server, str(error))
            raise

    def _observer(self, index: int) -> Connection | None:
        """Return a connection to a server that accepts writes; None if it does not.

        Raises Unavailable: it has just stopped.
        """
        with self._lock:
            for each in self._observers:
                if each.server == index:
                    self._observers.remove(each)
                    if each.is_alive():
                        return each
                    each.close()
                    break
        try:
            connection = self._opened(index, self._quickly)
        except Refused:
            return None
        if self._writes[index] is not False:
            return connection
        connection.close()
        return None

    def close(self) -> None:
        """Close the connections for comparing servers."""
        with self._lock:
            observers, self._observers = self._observers, []
        for each in observers:
            each.close()

    # -- servers that were down --------------------------------------------------------------------

    def doubt(self) -> None:
        """Record that a connection broke: its server may have restarted with old data."""
        self._doubtful = len(self._targets) > 1

    def _compared(self, connection: Connection) -> Connection:
        """Return this connection, or one to another server if this server has older data."""
        with self._lock:
            doubtful, self._doubtful = self._doubtful, False
        if not doubtful or not self._options.base:
            return connection
        for index in range(len(self._targets)):
            if index == connection.server or self._down[index] or self._writes[index] is False:
                continue
            with suppress(LdapError):
                other = self._opened(index)
                if self._is_behind(connection, other):
                    self._set_down(connection.server, "its data are outdated")
                    connection.close()
                    return other
                other.close()
        return connection

    def _is_behind(self, connection: Connection, other: Connection) -> bool:
        """Tell whether a server has older data than another one, after some retries."""
        base = self._options.base
        if not base:
            return False
        wanted = other.state_of_replication(base)
        for attempt in range(_CHECKS):
            if covers(connection.state_of_replication(base), wanted):
                return False
            if attempt < _CHECKS - 1:
                time.sleep(_PAUSE)  # runs in a worker thread
        return True

    def is_recovery_due(self) -> bool:
        """Tell whether unused servers are due for a check (once per period)."""
        now = time.monotonic()
        due = False
        with self._lock:
            for index, until in enumerate(self._down):
                if until and until <= now:
                    self._down[index] = now + min(_SOON, _DOWN)
                    due = True
                elif (
                    not until
                    and len(self._targets) > 1
                    and self._writes[index] is False
                    and now - self._write_checked[index] > _DOWN
                ):
                    self._write_checked[index] = now
                    due = True
        return due

    def look(self) -> None:
        """Check whether servers that are down, outdated or read-only may be used again."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            for index in range(len(self._targets)):
                if self._down[index] or self._writes[index] is False:
                    with suppress(LdapError):
                        self._look_at(index)
        finally:
            self._looking.release()

    def _look_at(self, index: int) -> None:
        connection = connect(index, self._targets[index], self._options, self._raw)
        try:
            if self._options.base:
                writes = connection.takes_writes(self._options.base)
                self.set_role(index, writes=writes)
            if self._down[index] and not self._is_behind_best(connection):
                self._set_up(index)
        finally:
            connection.close()

    def _is_behind_best(self, connection: Connection) -> bool:
        """Tell whether a server has older data than the one in use; False without one."""
        best = self.best()
        if best == connection.server or self._down[best]:
            return False
        try:
            other = connect(best, self._targets[best], self._options, self._raw)
        except LdapError:
            return False
        try:
            behind = self._is_behind(connection, other)
        finally:
            other.close()
        if behind:
            _log.info("ldap_server_behind", server=str(self._targets[connection.server]))
        return behind

    def _set_down(self, index: int, reason: str) -> None:
        with self._lock:
            was_down = bool(self._down[index])
            self._down[index] = time.monotonic() + min(_SOON, _DOWN)
            self.changes += not was_down
        if not was_down:
            _log.warning("ldap_server_down", server=str(self._targets[index]), reason=reason)

    def _set_up(self, index: int) -> None:
        with self._lock:
            was_down = bool(self._down[index])
            self._down[index] = 0.0
            self.changes += was_down
        if was_down:
            _log.info("ldap_server_up", server=str(self._targets[index]))


def covers(state: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether a server has all changes of another one (``contextCSN`` by server id)."""
    return all(state.get(number, "") >= last for number, last in wanted.items())
