"""Modify requests that tolerate the same change by overlays of slapd and by other programs.

A modify request lists values to delete and to add. slapd refuses the whole request if one of them
is missing, or exists already. If another writer (the overlays refint and memberof, iRedAdmin) has
made the same change, the rest is sent. If it made a different change, that is a conflict.

Passwords are replaced as a whole: the overlay ppolicy expects a deleted value to be the clear text
of the old password, so it refuses to delete a hash.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from iredapi.backends.ldap.entry_diff import key_of_value
from iredapi.backends.ldap.errors import NoSuchEntry, NoSuchValue, ValueExists
from iredapi.backends.ldap.model import Change, Entry, Op

_PASSWORD: Final = "userpassword"  # noqa: S105 (a name)
_TRIES: Final = 4
_NO_SUCH_VALUE: Final = 16
_NO_SUCH_ENTRY: Final = 32
_DNS: Final = frozenset({"member", "uniquemember"})
SETS: Final = _DNS | {
    "memberofgroup", "mailforwardingaddress", "shadowaddress", "domainadmin", "listalloweduser",
    "listmoderator", "listowner", "enabledservice", "disabledservice", "domainaliasname",
    "domainpendingaliasname", "mail",
}  # fmt: skip
"""Attributes that are sets: their values are independent of each other."""


class Modifying(Protocol):
    """The methods of a directory that ``send`` calls."""

    async def get(self, dn: str, names: Sequence[str] = ("*",)) -> Entry | None:
        """See ``Directory``, as for the other."""
        ...

    async def modify(self, dn: str, changes: Sequence[Change]) -> None: ...


async def send(directory: Modifying, dn: str, changes: Sequence[Change]) -> None:
    """Send the changes that an entry does not have yet.

    Raises LdapError; NoSuchValue and ValueExists only if another writer has set different values,
    NoSuchEntry only if values were to be added.
    """
    left = list(changes)
    for attempt in range(_TRIES):
        if not left:
            return
        try:
            await directory.modify(dn, await _with_password(directory, dn, left))
        except (NoSuchValue, ValueExists):
            there = await directory.get(dn)
            rest = None if there is None else outstanding(there, left)
            if rest is None or rest == left or attempt == _TRIES - 1:
                raise
            left = rest
        except NoSuchEntry:
            if any(change.op is not Op.DELETE for change in left):
                raise
            return
        else:
            return


async def _with_password(
    directory: Modifying, dn: str, changes: Sequence[Change]
) -> Sequence[Change]:
    """Return changes with all values of the password in one REPLACE."""
    if not any(change.name.lower() == _PASSWORD for change in changes):
        return changes
    there = await directory.get(dn, ["userPassword"])
    if there is None:
        raise NoSuchEntry(_NO_SUCH_ENTRY)
    return replacing(there, changes)


def replacing(there: Entry, changes: Sequence[Change]) -> Sequence[Change]:
    """Return changes of an entry with all values of the password in one REPLACE.

    Raises NoSuchValue if a password to delete was changed since.
    """
    own = [change for change in changes if change.name.lower() == _PASSWORD]
    if not own or any(change.op is Op.REPLACE for change in own):
        return changes
    values = list(there.raw("userPassword"))
    for change in own:
        for value in map(_bytes, change.values):
            if change.op is Op.ADD and value not in values:
                values.append(value)
            elif change.op is Op.DELETE and value not in values:
                raise NoSuchValue(_NO_SUCH_VALUE)
            elif change.op is Op.DELETE:
                values.remove(value)
    others = [change for change in changes if change not in own]
    return [*others, Change(Op.REPLACE, own[0].name, tuple(values))]


def outstanding(there: Entry, changes: Sequence[Change]) -> list[Change] | None:
    """Return the changes that are still to be sent; None: another writer made different ones."""
    found: list[Change] = []
    for name in dict.fromkeys(change.name for change in changes):
        own = [change for change in changes if change.name == name]
        left = _left(there, name, own)
        if left is None:
            return None
        found += left
    return found


def _left(there: Entry, name: str, own: Sequence[Change]) -> Sequence[Change] | None:
    if any(change.op is Op.REPLACE for change in own):
        return own
    low = name.lower()
    now = {key_of_value(low, value) for value in there.raw(name)}
    gone = _values(own, Op.DELETE)
    come = _values(own, Op.ADD)
    keys = {key_of_value(low, value) for value in come}
    # A value whose case changes is in both lists.
    staying = [value for value in gone if key_of_value(low, value) not in keys and
               key_of_value(low, value) in now]  # fmt: skip
    missing = [value for value in come if key_of_value(low, value) not in now]
    if low not in SETS:
        if now == keys and not staying:
            return []
        return own if len(staying) == len(gone) and missing == come else None
    if gone and missing and len(staying) < len(gone) and low not in _DNS:
        # A value to be replaced was deleted by another writer: that is a conflict.
        return None
    steps = [Change(Op.DELETE, name, tuple(staying)), Change(Op.ADD, name, tuple(missing))]
    return [step for step in steps if step.values]


def _values(changes: Collection[Change], op: Op) -> list[bytes]:
    return [_bytes(value) for change in changes if change.op is op for value in change.values]


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
