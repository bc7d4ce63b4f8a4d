"""One LDAP connection, by bonsai with ``bonsai_patches`` (see docs/adr/0007).

All methods block, so they run in worker threads. A connection runs one operation at a time. The
entry of an add or modify stays in a local variable until the answer: bonsai's C layer keeps only a
borrowed reference to it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import bonsai
from bonsai import LDAPClient

from iredapi.backends.ldap.bonsai_patches import Changed, Socket
from iredapi.backends.ldap.connectivity import Target, default_ca_file
from iredapi.backends.ldap.errors import (
    InvalidData,
    LdapError,
    NoSuchEntry,
    ReadsOnly,
    Refused,
    Unavailable,
    error_of,
)
from iredapi.backends.ldap.escaping import key_of
from iredapi.backends.ldap.model import Change, DirectoryOptions, Entry, Op, Scope
from iredapi.observability import spans

_TRANSPORT: Final = frozenset({-1, -2, -5, -11, -100, -101, 0x51})
"""Codes of libldap and bonsai for errors of the connection, not of the operation."""
_INVALID_SYNTAX: Final = 21
_INVALID_DN: Final = 34
_READINGS: Final = 4
_PAGE: Final = 100
_ANY: Final = "(objectClass=*)"
_REFERRAL: Final = 10
_NOBODY: Final = "iredapi-probe.invalid"


class RawNames:
    """Names of attributes whose values bonsai must not convert; shared by all connections.

    bonsai converts values that look like numbers or booleans ("0x10" becomes 16). Other values are
    not changed, so only attributes that had such a value are listed, and a long list is slow. When
    a converted value is found, its attribute is added and the entry is read again.
    """

    _LIMIT: Final = 400
    _USUAL: Final = (
        "mailQuota", "shadowLastChange", "amavisLocal", "userPassword", "employeeNumber", "uid",
        "cn", "sn", "givenName", "telephoneNumber", "mobile", "homeDirectory", "maxMessageSize",
        "domainCurrentUserNumber", "domainCurrentAliasNumber", "domainCurrentListNumber",
        "domainCurrentQuotaSize",
    )  # fmt: skip

    def __init__(self) -> None:
        self.names = list(self._USUAL)

    def learn(self, names: Iterable[str]) -> None:
        new = sorted(set(names) - set(self.names))
        # Attribute options (cn;lang-de) make the number of names unlimited.
        kept = self.names if len(self.names) + len(new) <= self._LIMIT else list(self._USUAL)
        self.names = [*kept, *new]


class _Client(LDAPClient):
    """bonsai's client, whose ``raw_attributes`` are those of ``RawNames``."""

    def __init__(self, url: str, *, starttls: bool, raw: RawNames) -> None:
        super().__init__(url, starttls)
        self._raw = raw

    def __getattribute__(self, name: str) -> Any:
        # The C layer reads it for every entry; an assignment from another thread would be a race.
        if name == "raw_attributes":
            return super().__getattribute__("_raw").names
        return super().__getattribute__(name)


class Connection:
    """One bound connection, used by one thread at a time; it must be closed once ``broken``."""

    def __init__(self, sock: Socket, raw: RawNames, server: int, timeout: float) -> None:
        """``server`` is the index of its URI; ``timeout`` in seconds limits each operation."""
        self._socket = sock
        self._raw = raw
        self._timeout = timeout
        self.server = server
        self.opened = time.monotonic()
        self.failures = 0
        self.broken = False
        self._suffix: str | None = None
        """The naming context of the base, once it was read."""

    def search(
        self, base: str, scope: Scope, filter_text: str, names: Sequence[str]
    ) -> list[Entry]:
        """Return the entries of a search; empty if there is no base.

        It reads in pages: the C layer holds the GIL while it builds the entries of an answer.
        """
        if scope is Scope.BASE:
            return self._read(base, filter_text, names)
        entries, more = self.first_page(base, scope, filter_text, names, _PAGE)
        while more is not None:
            page, more = self.next_page(more, names)
            entries += page
        return entries

    def _read(self, dn: str, filter_text: str, names: Sequence[str]) -> list[Entry]:
        _check_text(dn, filter_text, *names)
        for _ in range(_READINGS):
            with self._operation("search", dn, filter_text, reading=True):
                found = self._socket.search(dn, 0, filter_text, list(names), self._timeout)
            entries, changed = self._unconverted(found)
            if not changed:
                return entries
        raise LdapError(0, "bonsai converts values of this entry")

    def first_page(
        self, base: str, scope: Scope, filter_text: str, names: Sequence[str], size: int
    ) -> tuple[list[Entry], Any]:
        """Return the first page of a search, and the argument of ``next_page`` (None: no more)."""
        _check_text(base, filter_text, *names)
        try:
            with self._operation("search", base, filter_text, reading=True):
                found = self._socket.paged_search(
                    base, scope.value, filter_text, list(names), self._timeout, page_size=size
                )
        except NoSuchEntry:
            return [], None
        return self._page(found, names)

    def next_page(self, found: Any, names: Sequence[str]) -> tuple[list[Entry], Any]:
        """Return the next page, as ``first_page``."""
        with self._operation("next page"):
            message_id = found.acquire_next_page()
            if message_id is None:
                return [], None
            self._socket.result_of(message_id, self._timeout)
        return self._page(found, names)

    def add(self, dn: str, attributes: Mapping[str, Collection[str | bytes]]) -> None:
        """Add an entry; attributes without values are left out."""
        changes = [Change(Op.ADD, name, tuple(values)) for name, values in attributes.items()]
        entry = _changed(dn, changes)
        with self._operation("add", dn, sent=changes):
            self._socket.add(entry, self._timeout)

    def modify(self, dn: str, changes: Sequence[Change]) -> None:
        """Execute all changes in order, or none."""
        entry = _changed(dn, changes)
        entry.connection = self._socket
        with self._operation("modify", dn, sent=changes):
            entry.modify(self._timeout)

    def delete(self, dn: str) -> None:
        """Delete an entry without children."""
        _check_text(dn)
        with self._operation("delete", dn):
            self._socket.delete(dn, self._timeout)

    def rename(self, dn: str, new_dn: str) -> None:
        """Change the DN of an entry and all below it; the old RDN value is deleted."""
        _check_text(new_dn)
        entry = _changed(dn, ())
        entry.connection = self._socket
        with self._operation("rename", dn):
            self._socket.result_of(entry.start_rename(new_dn), self._timeout)

    def takes_writes(self, base: str) -> bool:
        """Tell whether the server accepts writes: it tries one that changes nothing.

        If the bind DN has no permission on ``base``, it tries an entry below.
        """
        try:
            return self._may_write(base)
        except Refused:
            entries, _ = self.first_page(base, Scope.ONE, _ANY, ("1.1",), 1)
        try:
            return all(self._may_write(entry.dn) for entry in entries)
        except Refused:
            return False

    def _may_write(self, dn: str) -> bool:
        try:
            self.modify(dn, [Change(Op.DELETE, "description", (_NOBODY,))])
        except ReadsOnly:
            return False
        except (Refused, Unavailable):
            raise
        except LdapError:
            return True  # the value does not exist
        return True

    def state_of_replication(self, base: str) -> dict[str, str]:
        """Return ``contextCSN`` by server id: the last change of each server that accepts writes.

        Empty without replication.
        """
        if self._suffix is None:
            roots = self.search("", Scope.BASE, _ANY, ("namingContexts",))
            suffixes = [
                suffix
                for root in roots
                for suffix in root.values("namingContexts")
                if f",{key_of(base)}".endswith(f",{key_of(suffix)}")
            ]
            self._suffix = max(suffixes, key=len, default="")
        suffix = self._suffix
        found = self.search(suffix, Scope.BASE, _ANY, ("contextCSN",)) if suffix else []
        values = [value for entry in found for value in entry.values("contextCSN")]
        # time#count#server#modification
        return {value.split("#")[2]: value for value in values if value.count("#") == 3}

    def is_alive(self) -> bool:
        """Tell whether an idle connection is still open."""
        return not self.broken and self._socket.is_alive()

    def interrupt(self) -> None:
        """Interrupt the operation that another thread runs on this connection."""
        self._socket.interrupt()

    def close(self) -> None:
        """Unbind and close."""
        self.broken = True
        with suppress(bonsai.LDAPError):
            self._socket.close()

    def _page(self, found: Any, names: Sequence[str]) -> tuple[list[Entry], Any]:
        entries, changed = self._unconverted(list(found))
        for index in reversed(changed):
            # The attribute is in RawNames now. LDAP allows other operations between two pages.
            converted = self._read(entries[index].dn, "(objectClass=*)", names)
            entries[index : index + 1] = converted
        return entries, found

    def _unconverted(self, found: Iterable[Any]) -> tuple[list[Entry], list[int]]:
        """Return entries, and the indexes of those with values that bonsai has converted."""
        entries: list[Entry] = []
        changed: list[int] = []
        learned: set[str] = set()
        for index, entry in enumerate(found):
            attributes: dict[str, tuple[bytes, ...]] = {}
            for name, values in entry.items(exclude_dn=True):
                kinds = set(map(type, values))
                if not kinds <= {bytes, str}:
                    learned.add(name)
                    if not changed or changed[-1] != index:
                        changed.append(index)
                attributes[name] = tuple(
                    value if type(value) is bytes else str(value).encode() for value in values
                )
            entries.append(Entry(str(entry.dn), attributes))
        if learned:
            self._raw.learn(learned)
        return entries, changed

    @contextmanager
    def _operation(
        self,
        name: str,
        dn: str = "",
        filter_text: str = "",
        *,
        sent: Sequence[Change] = (),
        reading: bool = False,
    ) -> Iterator[None]:
        try:
            if spans.tracer is None:
                yield
            else:
                with spans.tracer.span(*spans.directory(name, dn, filter_text), client=True):
                    yield
        except bonsai.LDAPError as error:
            self.failures += 1
            if error.code in _TRANSPORT:
                self.broken = True
                raise Unavailable("no answer", uncertain=True, code=error.code) from None
            if reading and error.code == _REFERRAL:
                # A referral for a read says nothing about writes.
                raise LdapError(error.code) from None
            values = (_encode(value) for change in sent for value in change.values)
            password = any(change.name.lower() == "userpassword" for change in sent)
            raise error_of(error.code, _text_of(error), values, of_password=password) from None
        except (TimeoutError, SystemError):
            # SystemError: the C layer failed without setting an exception, as after a time-out.
            self.broken = True
            raise Unavailable("no answer in time", uncertain=True, code=-5) from None
        except LdapError:
            raise
        except BaseException:
            # The state of the connection is unknown.
            self.broken = True
            raise


def _text_of(error: bonsai.LDAPError) -> str:
    """Return the server's diagnostic text, without libldap's name of the code before it."""
    return str(error.args[0]).partition(". ")[2] if error.args else ""


def _check_text(*texts: str) -> None:
    """Refuse text with a NUL, where C would cut it, and text that cannot be UTF-8."""
    for text in texts:
        if "\0" in text:
            raise InvalidData(_INVALID_SYNTAX, "NUL in a name or filter")
        _encode(text)


def _encode(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidData(_INVALID_SYNTAX, "text that is not Unicode") from None


def _changed(dn: str, changes: Iterable[Change]) -> Changed:
    steps = []
    _check_text(dn)
    if not dn:
        raise InvalidData(_INVALID_DN, "no name")
    for change in changes:
        _check_text(change.name)
        if change.values or change.op is not Op.ADD:
            steps.append((change.op, change.name, [_encode(value) for value in change.values]))
    return Changed(dn, steps)


def connect(server: int, target: Target, options: DirectoryOptions, raw: RawNames) -> Connection:
    """Open and bind a connection. Raises Unavailable, or Refused by the bind."""
    failure: LdapError
    try:
        sock = _open(target, options, raw)
    except bonsai.LDAPError as error:
        if error.code in _TRANSPORT:
            failure = Unavailable(f"{target}: no connection", uncertain=False, code=error.code)
        else:
            failure = error_of(error.code)
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else str(error)
        failure = Unavailable(f"{target}: {reason}", uncertain=False)
    else:
        return Connection(sock, raw, server, options.timeout)
    # Raised outside of ``except``: as its context, the other exception would keep the socket open.
    try:
        raise failure
    finally:
        del failure


def _open(target: Target, options: DirectoryOptions, raw: RawNames) -> Socket:
    deadline = time.monotonic() + options.connect_timeout
    address = target.reach(deadline, starttls=options.starttls)
    encrypted = target.tls or options.starttls
    client = _Client(
        # A certificate is compared with the host name in the URI.
        target.uri if encrypted else address,
        starttls=options.starttls and not target.tls,
        raw=raw,
    )
    client.set_credentials("SIMPLE", user=options.bind_dn, password=options.password)
    client.set_auto_page_acquire(False)
    if encrypted:
        client.set_cert_policy("demand" if options.verify else "never")
        client.set_ca_cert(options.ca_file or default_ca_file())
    sock = Socket(client)
    sock.open(max(deadline - time.monotonic(), 0))
    return sock
