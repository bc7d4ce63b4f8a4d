"""A dry run: a write with all its checks and locks, of which nothing stays (ADR 18)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.backends.protocols.mailing_lists import ListServer

MAX_CHANGES: Final = 10_000
"""Maximum number of changes that an answer tells."""
View = Mapping[str, Any]
Key = tuple[str, str, str]
"""Kind, account, field."""


@dataclass(frozen=True, slots=True)
class Change:
    """The values of a field before and after; None: it does not exist."""

    old: Any
    new: Any
    told_anyway: bool = False
    """Told even if both values are the same: masked ones, and those of what is new or gone."""

    def then(self, later: Change) -> Change:
        """Return this change and a later one of the same field as one."""
        return Change(self.old, later.new, self.told_anyway or later.told_anyway)


@dataclass(slots=True)
class DryRun:
    """What the dry run of one request has noted."""

    list_server: ListServer | None = None
    """What stands for the list server."""
    more: bool = False
    """Whether there are more changes than are told."""
    _done: dict[Key, Change] = field(default_factory=dict)
    _current: dict[Key, Change] = field(default_factory=dict)
    """Of the write that is going on: it may be repeated."""

    def begin(self) -> None:
        """Begin a write: forget what an attempt that is repeated has noted."""
        self._current.clear()

    def end(self) -> None:
        """Keep what a write has noted, when it has ended."""
        current, self._current = self._current, {}
        for key, change in current.items():
            self.keep(key, change)

    def keep(self, key: Key, change: Change) -> None:
        """Note a change outside of any write of the account storage."""
        self._put(self._done, key, change)

    def note(self, kind: str, account: str, old: View | None, new: View | None) -> None:
        """Note the difference of two views of an account; None: it does not exist."""
        before, after = old or {}, new or {}
        is_whole = old is None or new is None
        for name in dict.fromkeys((*before, *after)):
            was, will = before.get(name), after.get(name)
            if is_whole or was != will:
                self.note_field(kind, account, name, Change(was, will, is_whole))

    def note_field(self, kind: str, account: str, name: str, change: Change) -> None:
        """Note the change of one field."""
        self._put(self._current, (kind, account, name), change)

    def _put(self, changes: dict[Key, Change], key: Key, change: Change) -> None:
        earlier = changes.get(key)
        if earlier is not None:
            changes[key] = earlier.then(change)
        elif len(self._done) + len(self._current) < MAX_CHANGES:
            changes[key] = change
        else:
            self.more = True

    def noted(self, kind: str, account: str, name: str) -> Change | None:
        """Return what the current write has noted of a field."""
        return self._current.get((kind, account, name))

    def to_response(self, is_visible: Callable[[str], bool]) -> dict[str, Any]:
        """Return what the answer has beside that of the real call, of visible accounts."""
        told = [
            {"kind": kind, "account": account, "field": name, "old": change.old, "new": change.new}
            for (kind, account, name), change in self._done.items()
            if (change.told_anyway or change.old != change.new) and is_visible(account)
        ]
        return {"_dry_run": True, "_changes": told} | ({"_more_changes": True} if self.more else {})


DRY_RUN: ContextVar[DryRun | None] = ContextVar("dry_run", default=None)
"""The dry run of the current request; None: it is carried out."""
