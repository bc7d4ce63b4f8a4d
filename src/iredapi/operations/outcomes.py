"""What tells whether a write was made: its account, before and after (ADR 16)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import lists
from iredapi.errors import NotFound
from iredapi.operations import versions
from iredapi.operations.preconditions import claim_domain_of, state_of

Reading = Callable[[ReadUnit, str], Awaitable[Any]]
Claiming = Callable[[UnitOfWork, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """What a write is about. The name of an account that is not there has an empty state."""

    views: Collection[Reading]
    """Each sets ``ReadUnit.state``, and raises NotFound."""
    lock: Claiming
    names: tuple[str, ...]
    """The name of the account, and the new one of a rename."""
    deletes: bool = False
    in_parts: bool = False
    """Whether parts of it are committed before the write that decides it."""
    invites: bool = False
    """Whether people are invited after the write that decides it."""

    async def claim(self, unit: UnitOfWork) -> None:
        """Lock the account: it is then as the last write has left it."""
        await self.lock(unit, self.names[0])

    async def states(self, unit: ReadUnit) -> list[bytes]:
        """Return what is stored for each name."""
        return [await self._state(unit, name) for name in self.names]

    async def _state(self, unit: ReadUnit, name: str) -> bytes:
        parts = []
        try:
            for view in self.views:
                await view(unit, name)
                parts.append(unit.state)
        except NotFound:
            return b""
        return b"\0".join(parts)


async def _list(unit: ReadUnit, address: str) -> None:
    found = await unit.lists.get(address)
    if found is None:
        raise NotFound
    unit.state = state_of(lists.stored_to_response(found))


async def _list_identity(unit: ReadUnit, address: str) -> None:
    found = await unit.lists.get(address)
    if found is None:
        raise NotFound
    # A removal disables the list first.
    unit.state = state_of({"mlid": found.mlid})


async def _claim_list(unit: UnitOfWork, address: str) -> None:
    await claim_domain_of(unit, address)
    await unit.lists.claim(address)


async def _claim_nothing(_unit: UnitOfWork, _name: str) -> None:
    """The name is new, and no row of it can be locked."""


_VERSIONS: Final = {
    "domain": versions.DOMAIN,
    "admin": versions.ADMIN,
    "user": versions.USER,
    "alias": versions.ALIAS,
    "maillist": versions.MAILLIST,
}
_VIEWS: Final[Mapping[str, Collection[Reading]]] = {
    **{kind: tuple(found.views.values()) for kind, found in _VERSIONS.items()},
    "ml": (_list,),
}
_LOCKS: Final[Mapping[str, Claiming]] = {
    **{kind: found.claim for kind, found in _VERSIONS.items() if found.claim is not None},
    "ml": _claim_list,
}
_IN_PARTS: Final = frozenset({"domain.delete", "ml.delete"})


def look(
    action: str, name: str, new_name: str = "", changes: Mapping[str, Any] | None = None
) -> Look | None:
    """Return what an action is about; None: no single account."""
    kind, _, verb = action.partition(".")
    if kind not in _VIEWS:
        return None
    lock = _LOCKS[kind]
    if verb == "create":
        # A lock of a row that is not there would stop others on some databases.
        lock = _claim_nothing if kind in {"domain", "admin"} else claim_domain_of
    sent = changes or {}
    views = (_list_identity,) if action == "ml.delete" else _VIEWS[kind]
    invited = sent.keys() & {"subscribers", "add_subscribers"}
    return Look(
        views,
        lock,
        (name, new_name) if new_name else (name,),
        deletes=verb == "delete",
        in_parts=action in _IN_PARTS,
        invites=kind == "ml" and bool(invited) and bool(sent.get("require_confirm", True)),
    )
