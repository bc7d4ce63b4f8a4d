"""The difference between a stored entry and the wanted one, as values to delete and to add.

Such a difference can be undone. Values are compared as slapd compares them: regardless of case,
except mailbox paths and passwords; DNs as DNs. Attributes that no method names are not changed.
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
"""Texts for people, and names of files: a new spelling is written, although slapd treats it as
equal."""


_DNS = frozenset({"member", "uniquemember"})


def key_of_value(name: str, value: bytes) -> bytes:
    """Return a value of an attribute (its name in lower case) as slapd compares it."""
    if name in _DNS:
        return key_of(value.decode(errors="replace")).encode()
    return value if name in _EXACT else b" ".join(value.lower().split())


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


class Edit:
    """The wanted values of an entry, collected attribute by attribute."""

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
        """Return the wanted values of an attribute."""
        return [value.decode(errors="replace") for value in self._values(name).values()]

    def has(self, name: str, value: str) -> bool:
        """Tell whether a value is among the wanted ones."""
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
        """Add values; existing ones are ignored."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.setdefault(key_of_value(low, value), value)

    def discard(self, name: str, values: Collection[str | bytes]) -> None:
        """Remove values; missing ones are ignored."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.pop(key_of_value(low, value), None)

    def swap(self, name: str, old: str, new: str) -> None:
        """Replace a value by another one, if the attribute has it."""
        if self.has(name, old):
            self.discard(name, [old])
            self.add(name, [new])

    def fit(self, schema: Schema) -> list[str]:
        """Drop attributes that the entry's object classes do not allow; return their names.

        If an auxiliary class of iRedMail's accounts allows the attribute, it is added instead.
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
        """Return the difference for one modify operation: deleted values, then added ones."""
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
