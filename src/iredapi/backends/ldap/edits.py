"""Changes of one entry, computed against what it holds, so that each can be taken back.

Values are compared as slapd compares them: without regard to case, but for mailbox paths,
passwords and DNs as they are. What is not touched is never in a change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from iredapi.backends.ldap.client import Change, Entry, Op

_EXACT = frozenset({"homedirectory", "storagebasedirectory", "mailmessagestore", "userpassword"})
_TEXTS = frozenset(
    {"cn", "sn", "givenname", "title", "description", "employeenumber"}
    | {"mailboxfolder", "mtatransport"}
)
"""What people read, and what names files: another spelling is another value, although slapd finds
it equal."""


def _key(name: str, value: bytes) -> bytes:
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
            self._after[low] = {_key(low, value): value for value in self._before.get(low, ())}
        return self._after[low]

    def now(self, name: str) -> list[str]:
        """Return the values as they are to be."""
        return [value.decode(errors="replace") for value in self._values(name).values()]

    def has(self, name: str, value: str) -> bool:
        """Tell whether a value is among them."""
        return _key(name.lower(), value.encode()) in self._values(name)

    def put(self, name: str, value: str) -> None:
        """Make this the only value; an empty text leaves none."""
        self.put_all(name, [value] if value else [])

    def put_all(self, name: str, values: Iterable[str | bytes]) -> None:
        """Make these the only values."""
        low, there = name.lower(), self._values(name)
        wanted = {_key(low, _bytes(value)): _bytes(value) for value in values}
        kept = {} if low in _TEXTS else there
        self._after[low] = {key: kept.get(key, value) for key, value in wanted.items()}

    def add(self, name: str, values: Collection[str | bytes]) -> None:
        """Add values; those that are there do not matter."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.setdefault(_key(low, value), value)

    def discard(self, name: str, values: Collection[str | bytes]) -> None:
        """Remove values; those that are not there do not matter."""
        there, low = self._values(name), name.lower()
        for value in map(_bytes, values):
            there.pop(_key(low, value), None)

    def swap(self, name: str, old: str, new: str) -> None:
        """Replace a value by another one, if it is there."""
        if self.has(name, old):
            self.discard(name, [old])
            self.add(name, [new])

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
