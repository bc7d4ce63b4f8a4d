"""What is done differently from bonsai 1.5.5 (see docs/adr/0007).

Three pieces of bonsai are replaced when this module is imported, because each of them loses data:

- result codes: a plain ``LDAPError`` has its code on the *class*, where the next error of any
  thread overwrites it. Every code gets a class of its own;
- DNs of answers: ``LDAPDN`` rewrites escapes in a way that turns ``\\5C2C`` (a backslash before
  "2C") into a separator, and refuses names that the server accepts. Ours keep the text;
- changes: ``LDAPValueList`` cannot hold "delete x, then add X" in this order. ``_Steps`` can.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import bonsai.errors
import bonsai.ldapentry
from bonsai import LDAPClient
from bonsai.ldapconnection import BaseLDAPConnection
from bonsai.ldapdn import LDAPDN
from bonsai.ldapentry import LDAPEntry

from iredapi.backends.ldap.escaping import split_rdn
from iredapi.backends.ldap.model import Op

_TICK: Final = 0.005
_errors: dict[int, type[bonsai.LDAPError]] = {}


_stock_class = bonsai.errors._get_error


def _error_class(code: int) -> type[bonsai.LDAPError]:
    """Stand in for ``bonsai.errors._get_error``, which the C layer calls with each code."""
    if code not in _errors:
        _errors[code] = type(f"LDAPError{code}", (_stock_class(code),), {"code": code})
    return _errors[code]


class _Name(LDAPDN):
    """A DN whose text is exactly what it was made of."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __getitem__(self, index: int | slice) -> str:
        """Return the first component (index 0) or the parent (any slice), as a rename asks."""
        return split_rdn(self.text)[0 if isinstance(index, int) else 1]

    def __len__(self) -> int:
        return 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Name) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Found(LDAPEntry):
    """An entry that bonsai makes of an answer."""

    def __init__(self, dn: str | LDAPDN, connection: Any = None) -> None:
        super().__init__(_Name(dn) if isinstance(dn, str) else dn, connection)


class _Cleared(list[bytes]):
    """A list of values that tells its attribute when the C layer is done with it."""

    def __init__(self, steps: _Steps, values: Iterable[bytes] = ()) -> None:
        super().__init__(values)
        self._steps = steps

    def clear(self) -> None:
        self._steps.advance()


class _Steps(list[bytes]):
    """The changes of one attribute, one after the other.

    The C layer visits an attribute once for each time that the entry's ``keys()`` names it. Each
    time it reads ``status`` (1: add and delete, 2: replace by the list's own items), ``added``
    and ``deleted``, and ends with ``deleted.clear()``. After the last one ``status`` is 2, which
    keeps bonsai from working out what a failed operation would have to be undone to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Op, list[bytes]]] = []
        self._next = 0
        self.status = 2
        self.added: list[bytes] = []
        self.deleted: list[bytes] = []

    def advance(self) -> None:
        self.status = 2
        self.added = []
        self.deleted = _Cleared(self)
        self[:] = []
        if self._next == len(self.steps):
            return
        op, values = self.steps[self._next]
        self._next += 1
        match op:
            case Op.REPLACE:
                self[:] = values
            case Op.ADD:
                self.status, self.added = 1, values
            case Op.DELETE:
                self.status, self.deleted = 1, _Deleted(self, values)


class _Deleted(_Cleared):
    """Values to delete; without values the whole attribute."""

    def __init__(self, steps: _Steps, values: Sequence[bytes]) -> None:
        super().__init__(steps, values or [b""])
        self._whole = not values

    def __iter__(self) -> Iterator[bytes]:
        return iter(()) if self._whole else super().__iter__()


class Changed(LDAPEntry):
    """An entry to add or modify, with its changes in their order."""

    def __init__(self, dn: str, changes: Iterable[tuple[Op, str, list[bytes]]]) -> None:
        super().__init__(_Name(dn))
        self._order: list[str] = []
        attributes: dict[str, _Steps] = {}
        for op, name, values in changes:
            steps = attributes.setdefault(name.lower(), _Steps())
            steps.steps.append((op, values))
            self._order.append(name)
            # The C layer reserves two places for each item of the dictionary.
            dict.__setitem__(self, f"\0{len(self._order)}", steps)
        for name, steps in attributes.items():
            steps.advance()
            dict.__setitem__(self, name, steps)

    def keys(self, **_: Any) -> Any:
        return self._order

    def start_rename(self, new_dn: str) -> int:
        """Send a rename that deletes the old RDN value; returns the message id."""
        # The method of LDAPEntry would turn the name into text and parse that.
        message_id: int = super(LDAPEntry, self).rename(_Name(new_dn), True)
        return message_id


bonsai.errors._get_error = _error_class
setattr(bonsai.ldapentry, "LDAPEntry", _Found)  # noqa: B010 - mypy takes it for a type


class Socket(BaseLDAPConnection):
    """A connection that opens without holding the interpreter's lock, and then waits without it.

    The C layer holds the lock while a synchronous connection binds, so a server that accepts and
    never answers would stop every thread. It is opened as an asynchronous one, whose steps do not
    wait, and turned into a synchronous one (whose waiting releases the lock) once it is bound.
    """

    def __init__(self, client: LDAPClient) -> None:
        super().__init__(client, True)
        self._client = client

    def _evaluate(self, msg_id: int, timeout: float | None = None) -> Any:
        if self.is_async:
            return self._finish_opening(msg_id, time.monotonic() + (timeout or 0))
        return self.result_of(msg_id, timeout or 0)

    def result_of(self, message_id: int, timeout: float) -> Any:
        """Wait for an answer. Raises TimeoutError, after which the connection is of no use."""
        # When an add or modify times out in the C layer, it loses its own exception.
        if not self._wait(timeout):
            raise TimeoutError
        return self.get_result(message_id, timeout)

    def _finish_opening(self, msg_id: int, deadline: float) -> Socket:
        while True:
            # Some steps have no socket of their own to wait for: never wait long.
            self._wait(_TICK)
            if self.get_result(msg_id) is not None:
                break
            if time.monotonic() > deadline:
                self._give_up(msg_id)
                raise TimeoutError
        # An answer that stops in the middle of a TLS record must not block either.
        os.set_blocking(self.fileno(), False)
        super().__init__(self._client, False)
        return self

    def _wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _give_up(self, msg_id: int) -> None:
        """Let the C layer see a broken connection: that is the only way in which it frees it."""
        self.interrupt()
        with suppress(bonsai.LDAPError):
            for _ in range(20):
                self._wait(_TICK)
                self.get_result(msg_id)
            self.abandon(msg_id)

    def interrupt(self) -> None:
        """Make whoever waits for this connection see its end. Safe from any thread."""
        with (
            suppress(OSError, bonsai.LDAPError),
            socket.socket(fileno=os.dup(self.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Say whether an idle connection is still good: a server does not speak unasked."""
        return not self._wait(0)
