"""How a change of one entry is sent: so that overlays of slapd, and other programs, may take part.

A modification names the values that go and those that come; slapd refuses it as a whole when one of
them is gone already, or there already. Where somebody else (the overlays refint and memberof, a
panel) has done what was wanted, that is no conflict: what is left is sent. What was changed to
something else stays a conflict.

Passwords are replaced as a whole. The overlay ppolicy takes a value that is deleted for the clear
text of the old password, and refuses every hash.
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
"""Attributes whose values have nothing to do with each other."""


class Modifying(Protocol):
    """Who sends a modification: a directory, or what stands in front of it."""

    async def get(self, dn: str, names: Sequence[str] = ("*",)) -> Entry | None:
        """See ``Directory``, as for the other."""
        ...

    async def modify(self, dn: str, changes: Sequence[Change]) -> None: ...


async def send(directory: Modifying, dn: str, changes: Sequence[Change]) -> None:
    """Change an entry, as far as it is not as wanted already.

    Raises what the directory does: NoSuchValue and ValueExists only when somebody else has given an
    attribute other values, NoSuchEntry only when values were to come.
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

    Raises NoSuchValue when a password that goes is another one meanwhile.
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
    """Return what is left to do of changes; None when somebody else wanted something else."""
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
    # A value that only changes its spelling is in both.
    staying = [value for value in gone if key_of_value(low, value) not in keys and
               key_of_value(low, value) in now]  # fmt: skip
    missing = [value for value in come if key_of_value(low, value) not in now]
    if low not in SETS:
        if now == keys and not staying:
            return []
        return own if len(staying) == len(gone) and missing == come else None
    if gone and missing and len(staying) < len(gone) and low not in _DNS:
        # A value was to be replaced by another one, and is gone: whoever took it away meant it.
        return None
    steps = [Change(Op.DELETE, name, tuple(staying)), Change(Op.ADD, name, tuple(missing))]
    return [step for step in steps if step.values]


def _values(changes: Collection[Change], op: Op) -> list[bytes]:
    return [_bytes(value) for change in changes if change.op is op for value in change.values]


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
