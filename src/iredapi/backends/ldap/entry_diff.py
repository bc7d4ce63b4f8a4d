"""Changes of one entry, computed against what it holds, so that each can be taken back.

Values are compared as slapd compares them: without regard to case, but for mailbox paths,
passwords as they are; DNs as such. What is not touched is never in a change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from iredapi.backends.ldap.escaping import key_of
from iredapi.backends.ldap.model import Change, Entry, Op
from iredapi.backends.ldap.object_classes import Schema

_EXACT = frozenset({"homedirectory", "storagebasedirectory", "mailmessagestore", "userpassword"})
_TEXTS = frozenset(
    {"cn", "sn", "givenname", "title", "description", "employeenumber"}
    | {"mailboxfolder", "mtatransport"}
)
"""What people read, and what names files: another spelling is another value, although slapd finds
it equal."""


_DNS = frozenset({"member", "uniquemember"})


def key_of_value(name: str, value: bytes) -> bytes:
    """Return a value of an attribute (its name in lower case) as slapd compares it."""
    if name in _DNS:
        return key_of(value.decode(errors="replace")).encode()
    return value if name in _EXACT else b" ".join(value.lower().split())


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


class Edit:
    """What an entry is to hold in the end."""

    def __init__(self, entry: Entry) -> None:
        self.dn = entry.dn
        self._names = {name.lower(): name for name in entry.attributes}
        self._before = {name.lower(): tuple(entry.attributes[name]) for name in entry.attributes}
        self._after: dict[str, dict[bytes, bytes]] = {}

    def _values(self, name: str) -> dict[bytes, bytes]:
        low = name.lower()
        self._names.setdefault(low, name)
        if low not in self._after:
            self._after[low] = {
                key_of_value(low, value): value for value in self._before.get(low, ())
            }
        return self._after[low]

    def now(self, name: str) -> list[str]:
        """Return the values as they are to be."""
        return [value.decode(errors="replace") for value in self._values(name).values()]

    def has(self, name: str, value: str) -> bool:
        """Tell whether a value is among them."""
        return key_of_value(name.lower(), value.encode()) in self._values(name)

    def put(self, name: str, value: str) -> None:
        """Make this the only value; an empty text leaves none."""
        self.put_all(name, [value] if value else [])

    def put_all(self, name: str, values: Iterable[str | bytes]) -> None:
        """Make these the only values."""
        low, there = name.lower(), self._values(name)
        wanted = {key_of_value(low, _bytes(value)): _bytes(value) for value in values}
        kept = {} if low in _TEXTS else there
        self._after[low] = {key: kept.get(key, value) for key, value in wanted.items()}

    def add(self, name: str, values: Collection[str | bytes]) -> None:
        """Add values; those that are there do not matter."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.setdefault(key_of_value(low, value), value)

    def discard(self, name: str, values: Collection[str | bytes]) -> None:
        """Remove values; those that are not there do not matter."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.pop(key_of_value(low, value), None)

    def swap(self, name: str, old: str, new: str) -> None:
        """Replace a value by another one, if it is there."""
        if self.has(name, old):
            self.discard(name, [old])
            self.add(name, [new])

    def fit(self, schema: Schema) -> list[str]:
        """Leave out attributes that the entry's object classes do not allow, and return them.

        A class of iRedMail's accounts that brings one is added instead, where one can be.
        """
        classes = self.now("objectClass")
        left_out = []
        for low, after in list(self._after.items()):
            before = self._before.get(low, ())
            if not classes or all(value in before for value in after.values()):
                continue
            if schema.allows(classes, low):
                continue
            present = {*self._before, *(name for name, values in self._after.items() if values)}
            if more := schema.class_for(low, present):
                classes.append(more)
                self.add("objectClass", [more])
            else:
                left_out.append(self._names[low])
                del self._after[low]
        return left_out

    def changes(self) -> tuple[Change, ...]:
        """Return the difference: what goes by value, then what comes, in one modification."""
        found: list[Change] = []
        for low, after in self._after.items():
            before = self._before.get(low, ())
            name, wanted = self._names[low], list(after.values())
            gone = tuple(value for value in before if value not in wanted)
            come = tuple(value for value in wanted if value not in before)
            if gone:
                found.append(Change(Op.DELETE, name, gone))
            if come:
                found.append(Change(Op.ADD, name, come))
        return tuple(found)
