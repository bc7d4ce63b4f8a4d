"""Patches of bonsai 1.5.5 (see docs/adr/0007).

Importing this module replaces three parts of bonsai, because each of them loses data:

- result codes: ``LDAPError`` has its code in the *class*, where the next error of any thread
  overwrites it. Here each code has a class;
- DNs of answers: ``LDAPDN`` rewrites escapes in a way that turns ``\\5C2C`` (a backslash before
  "2C") into a separator, and refuses DNs that the server accepts. ``_Name`` keeps the text;
- changes: ``LDAPValueList`` has no "delete x, then add X" in this order. ``_Steps`` has.
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

_POLL_SECONDS: Final = 0.005
"""Seconds between two looks for the end of an operation."""
_errors: dict[int, type[bonsai.LDAPError]] = {}


_stock_class = bonsai.errors._get_error


def _error_class(code: int) -> type[bonsai.LDAPError]:
    """Replacement of ``bonsai.errors._get_error``, which the C layer calls with each code."""
    if code not in _errors:
        _errors[code] = type(f"LDAPError{code}", (_stock_class(code),), {"code": code})
    return _errors[code]


class _Name(LDAPDN):
    """A DN that keeps its text unchanged."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __getitem__(self, index: int | slice) -> str:
        """Return the RDN (index 0) or the parent (any slice), as needed by a rename."""
        return split_rdn(self.text)[0 if isinstance(index, int) else 1]

    def __len__(self) -> int:
        return 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Name) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Found(LDAPEntry):
    """An entry of a search result, made by bonsai."""

    def __init__(self, dn: str | LDAPDN, connection: Any = None) -> None:
        super().__init__(_Name(dn) if isinstance(dn, str) else dn, connection)


class _Cleared(list[bytes]):
    """A list of values; ``clear()`` by the C layer moves its attribute to the next step."""

    def __init__(self, steps: _Steps, values: Iterable[bytes] = ()) -> None:
        super().__init__(values)
        self._steps = steps

    def clear(self) -> None:
        self._steps.advance()


class _Steps(list[bytes]):
    """The changes of one attribute, in order.

    The C layer visits an attribute once for each time that ``keys()`` of the entry returns it. Each
    time it reads ``status`` (1: add and delete, 2: replace by the items of the list), ``added`` and
    ``deleted``, then calls ``deleted.clear()``. After the last step ``status`` is 2, so that bonsai
    does not compute how to undo a failed operation.
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
    """Values to delete; without values, the whole attribute is deleted."""

    def __init__(self, steps: _Steps, values: Sequence[bytes]) -> None:
        super().__init__(steps, values or [b""])
        self._whole = not values

    def __iter__(self) -> Iterator[bytes]:
        return iter(()) if self._whole else super().__iter__()


class Changed(LDAPEntry):
    """An entry to add or modify, with ordered changes."""

    def __init__(self, dn: str, changes: Iterable[tuple[Op, str, list[bytes]]]) -> None:
        super().__init__(_Name(dn))
        self._order: list[str] = []
        attributes: dict[str, _Steps] = {}
        for op, name, values in changes:
            steps = attributes.setdefault(name.lower(), _Steps())
            steps.steps.append((op, values))
            self._order.append(name)
            # The C layer allocates two slots per item of the dictionary.
            dict.__setitem__(self, f"\0{len(self._order)}", steps)
        for name, steps in attributes.items():
            steps.advance()
            dict.__setitem__(self, name, steps)

    def keys(self, **_: Any) -> Any:
        return self._order

    def start_rename(self, new_dn: str) -> int:
        """Send a rename that deletes the old RDN value; return the message id."""
        # LDAPEntry.rename would parse the text of the DN.
        message_id: int = super(LDAPEntry, self).rename(_Name(new_dn), True)
        return message_id


bonsai.errors._get_error = _error_class
setattr(bonsai.ldapentry, "LDAPEntry", _Found)  # noqa: B010 - mypy takes it for a type


class Socket(BaseLDAPConnection):
    """A synchronous connection that never waits while it holds the GIL.

    The C layer holds the GIL while a synchronous connection binds: a server that accepts and does
    not answer would stop every thread. So it is opened as an asynchronous one, whose steps do not
    wait, and made synchronous (waits release the GIL) after the bind.
    """

    def __init__(self, client: LDAPClient) -> None:
        super().__init__(client, True)
        self._client = client

    def _evaluate(self, msg_id: int, timeout: float | None = None) -> Any:
        if self.is_async:
            return self._finish_opening(msg_id, time.monotonic() + (timeout or 0))
        return self.result_of(msg_id, timeout or 0)

    def result_of(self, message_id: int, timeout: float) -> Any:
        """Wait for an answer. Raises TimeoutError; then the connection must be closed."""
        # If an add or modify times out in the C layer, its exception is lost.
        if not self._wait(timeout):
            raise TimeoutError
        return self.get_result(message_id, timeout)

    def _finish_opening(self, msg_id: int, deadline: float) -> Socket:
        while True:
            # Some steps have no socket to wait for, so the wait is short.
            self._wait(_POLL_SECONDS)
            if self.get_result(msg_id) is not None:
                break
            if time.monotonic() > deadline:
                self._release(msg_id)
                raise TimeoutError
        # An incomplete TLS record must not block either.
        os.set_blocking(self.fileno(), False)
        super().__init__(self._client, False)
        return self

    def _wait(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _release(self, msg_id: int) -> None:
        """Shut the connection down and abandon the operation, so that the C layer frees it."""
        self.interrupt()
        with suppress(bonsai.LDAPError):
            for _ in range(20):
                self._wait(_POLL_SECONDS)
                self.get_result(msg_id)
            self.abandon(msg_id)

    def interrupt(self) -> None:
        """Shut the socket down, which ends any wait for it. Safe from any thread."""
        with (
            suppress(OSError, bonsai.LDAPError),
            socket.socket(fileno=os.dup(self.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Tell whether an idle connection is open: a readable socket means that it was closed."""
        return not self._wait(0)
