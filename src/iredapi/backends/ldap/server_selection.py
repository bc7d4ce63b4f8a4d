"""Which of several servers is asked: in the order of their URIs, but for what is known of them.

One that takes writes comes before replicas that do not, so that everything is read where it was
written; while there is none, replicas are read. A server that was away is believed again when it
has what the one in use has: until it has caught up it would answer with old data, and let an
address be taken twice. Nobody is asked but the servers of the configuration: referrals to others
are not followed, so the password of our login goes nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from iredapi.backends.ldap.connection import Connection, RawNames, connect
from iredapi.backends.ldap.connectivity import Target
from iredapi.backends.ldap.errors import LdapError, Refused, Unavailable
from iredapi.backends.ldap.model import DirectoryOptions

_log = structlog.get_logger(__name__)
_DOWN: Final = 15.0
"""Seconds after which a server that is away, behind or without writes is looked at again."""
_LOOKS: Final = 5
_PAUSE: Final = 0.1
"""How often, and with which pause in seconds, a server is asked that is a moment behind."""


class Servers:
    """The servers in the order of preference, and what is believed of them."""

    def __init__(self, options: DirectoryOptions) -> None:
        self._options = options
        self._targets = [Target.parse(uri) for uri in options.uris]
        self._down = [0.0] * len(self._targets)
        """When each is looked at again; 0: it is not believed to be away or behind."""
        self._writes: list[bool | None] = [None] * len(self._targets)
        """Whether each takes writes; None: not known."""
        self._asked = [0.0] * len(self._targets)
        """When that was seen."""
        self._raw = RawNames()
        self._lock = threading.Lock()
        self._doubtful = len(self._targets) > 1

    # -- the order ---------------------------------------------------------------------------------

    def rank(self, place: int) -> tuple[bool, bool, int]:
        """Return what servers are sorted by."""
        return bool(self._down[place]), self._writes[place] is False, place

    def best(self) -> int:
        """Return the place of the server that is asked first."""
        return min(range(len(self._targets)), key=self.rank)

    def connect(self) -> Connection:
        """Return a connection to the first server that gives one. Raises Unavailable, Refused."""
        failure: LdapError = Unavailable("no server", uncertain=False)
        reader: Connection | None = None
        for place in sorted(range(len(self._targets)), key=self.rank):
            if reader is not None and self._down[place]:
                break
            try:
                connection = self._opened(place)
            except Refused:
                # A wrong password is wrong everywhere, and asking on would only hide it.
                if reader is None:
                    raise
                continue
            except LdapError as error:
                failure = error
                continue
            if self._writes[place] is not False:
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
            del failure  # it holds this frame, which would hold it

    def _opened(self, place: int) -> Connection:
        """Connect to a server, and learn what it is for when there are others."""
        try:
            connection = connect(place, self._targets[place], self._options, self._raw)
        except Refused:
            raise
        except LdapError as error:
            self._set_down(place, str(error))
            raise
        self._set_up(place)
        if len(self._targets) > 1 and self._writes[place] is None:
            with suppress(LdapError):
                self.takes_writes(connection)
        return connection

    # -- who takes writes --------------------------------------------------------------------------

    @property
    def some_may_write(self) -> bool:
        """Whether a server that is not away may take writes, as far as is known."""
        return any(
            writes is not False and not down
            for writes, down in zip(self._writes, self._down, strict=True)
        )

    def takes_writes(self, connection: Connection) -> bool:
        """Tell whether the server of a connection takes writes, as was seen lately."""
        place = connection.server
        known = self._writes[place]
        if not known or time.monotonic() - self._asked[place] > _DOWN:
            known = not self._options.base or connection.takes_writes(self._options.base)
            self.set_role(place, writes=known)
        return known

    def set_role(self, place: int, *, writes: bool) -> None:
        """Note whether a server takes writes."""
        with self._lock:
            before, self._writes[place] = self._writes[place], writes
            self._asked[place] = time.monotonic()
        if before is not writes and (before is not None or not writes):
            what = "ldap_server_takes_writes" if writes else "ldap_server_reads_only"
            _log.warning(what, server=str(self._targets[place]))

    # -- servers that come back --------------------------------------------------------------------

    def doubt(self) -> None:
        """A connection broke: its server may have been away, and come back with old data."""
        self._doubtful = len(self._targets) > 1

    def _compared(self, connection: Connection) -> Connection:
        """Return a connection to a server that is not behind the others, if there is one."""
        with self._lock:
            doubtful, self._doubtful = self._doubtful, False
        if not doubtful or not self._options.base:
            return connection
        for place in range(len(self._targets)):
            if place == connection.server or self._down[place] or self._writes[place] is False:
                continue
            with suppress(LdapError):
                other = self._opened(place)
                if self._is_behind(connection, other):
                    self._set_down(connection.server, "it has not caught up")
                    connection.close()
                    return other
                other.close()
        return connection

    def _is_behind(self, connection: Connection, other: Connection) -> bool:
        """Tell whether a server lacks what another one has now, after a moment of patience."""
        base = self._options.base
        if not base:
            return False
        wanted = other.state_of_replication(base)
        for attempt in range(_LOOKS):
            if covers(connection.state_of_replication(base), wanted):
                return False
            if attempt < _LOOKS - 1:
                time.sleep(_PAUSE)  # in a thread of its own
        return True

    def is_recovery_due(self) -> bool:
        """Say whether servers that are not in use should be looked at (once per period)."""
        now = time.monotonic()
        due = False
        with self._lock:
            for place, until in enumerate(self._down):
                if until and until <= now:
                    self._down[place] = now + _DOWN
                    due = True
                elif (
                    not until
                    and len(self._targets) > 1
                    and self._writes[place] is False
                    and now - self._asked[place] > _DOWN
                ):
                    self._asked[place] = now
                    due = True
        return due

    def look(self) -> None:
        """Find out whether servers that are away, behind or without writes may be used again."""
        for place in range(len(self._targets)):
            if self._down[place] or self._writes[place] is False:
                with suppress(LdapError):
                    self._look_at(place)

    def _look_at(self, place: int) -> None:
        connection = connect(place, self._targets[place], self._options, self._raw)
        try:
            if self._options.base:
                writes = connection.takes_writes(self._options.base)
                self.set_role(place, writes=writes)
            if self._down[place] and not self._is_behind_best(connection):
                self._set_up(place)
        finally:
            connection.close()

    def _is_behind_best(self, connection: Connection) -> bool:
        """Compare with the server in use; without one there is nothing to compare with."""
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

    def _set_down(self, place: int, reason: str) -> None:
        with self._lock:
            was_down = bool(self._down[place])
            self._down[place] = time.monotonic() + _DOWN
        if not was_down:
            _log.warning("ldap_server_down", server=str(self._targets[place]), reason=reason)

    def _set_up(self, place: int) -> None:
        with self._lock:
            was_down = bool(self._down[place])
            self._down[place] = 0.0
        if was_down:
            _log.info("ldap_server_up", server=str(self._targets[place]))


def covers(state: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether a server has all changes that another one has."""
    return all(state.get(number, "") >= last for number, last in wanted.items())
