"""A list server that is read and not changed: the changes of a dry run are kept beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from iredapi.backends.protocols.mailing_lists import ListServer
from iredapi.domain import canonical
from iredapi.domain.lists import Control, MailingList, Subscriber
from iredapi.runtime.dry_run import Change, DryRun

_KIND: Final = "ml"


class DryListServer:
    """See ``protocols.mailing_lists.ListServer``."""

    def __init__(self, server: ListServer, dry: DryRun) -> None:
        self._server = server
        self._dry = dry
        self._controls: dict[str, Control | None] = {}
        """By list, what is different by now; None: removed."""
        self._emptied: set[str] = set()
        """Lists that have none of the subscribers that the server knows."""
        self._people: dict[str, dict[str, str | None]] = {}
        """By list: subscribers with their kind; None: unsubscribed."""

    def accepts(self, mail: str) -> bool:
        return self._server.accepts(mail)

    def can_drop(self, mail: str) -> bool:
        return self._server.can_drop(mail)

    async def subscribers(self, address: str) -> list[Subscriber]:
        return await self._server.subscribers(address)

    async def subscriptions(self, address: str, mails: Collection[str]) -> dict[str, str]:
        found: dict[str, str | None] = {}
        if address not in self._emptied:
            found |= await self._server.subscriptions(address, mails)
        own = self._people.get(address, {})
        found |= {mail: own[mail] for mail in mails if mail in own}
        return {mail: kind for mail, kind in found.items() if kind is not None}

    async def add(self, address: str, mails: Sequence[str], version: str) -> None:
        await self._note(address, mails, version)
        self._people.setdefault(address, {}).update(dict.fromkeys(mails, version))

    async def drop(self, address: str, mails: Sequence[str]) -> None:
        await self._note(address, mails, None)
        self._people.setdefault(address, {}).update(dict.fromkeys(mails))

    async def invite(self, address: str, mails: Sequence[str], version: str) -> None:
        # They are asked by mail, and are no subscribers yet.
        await self._note(address, mails, f"invited ({version})")

    async def _note(self, address: str, mails: Sequence[str], new: str | None) -> None:
        old = await self.subscriptions(address, mails)
        for mail in mails:
            key = (_KIND, address, f"subscriber {mail}")
            self._dry.keep(key, Change(old.get(mail), new))

    async def lists_of(self, mail: str) -> dict[str, str]:
        return await self._server.lists_of(mail)

    async def ping(self) -> None:
        await self._server.ping()

    async def exists(self, address: str) -> bool:
        if address in self._controls:
            return self._controls[address] is not None
        return await self._server.exists(address)

    async def get(self, address: str) -> Control | None:
        if address in self._controls:
            return self._controls[address]
        return await self._server.get(address)

    async def create(self, address: str, control: Control) -> None:
        self._controls[address] = control
        self._emptied.add(address)
        self._note_control(address, {}, _view(address, control), whole=True)

    async def save(self, address: str, before: Control, after: Control) -> None:
        self._controls[address] = after
        self._note_control(address, _view(address, before), _view(address, after))

    async def remove(self, address: str, *, archive: bool) -> None:
        del archive
        control = await self.get(address)
        if control is not None and address not in self._emptied:
            for one in await self._server.subscribers(address):
                self._dry.keep(
                    (_KIND, address, f"subscriber {one.mail}"), Change(one.version, None)
                )
        self._controls[address] = None
        self._emptied.add(address)
        self._people.pop(address, None)
        if control is not None:
            self._note_control(address, _view(address, control), {}, whole=True)

    def _note_control(
        self,
        address: str,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        *,
        whole: bool = False,
    ) -> None:
        for name in old or new:
            change = Change(old.get(name), new.get(name), whole)
            self._dry.keep((_KIND, address, name), change)

    async def close(self) -> None:
        """Do nothing: the server belongs to the process."""


def _view(address: str, control: Control) -> Mapping[str, Any]:
    """Return the fields of ``view=canonical`` that the list server decides."""
    item = MailingList(address)
    stored = canonical.mailing_list(item)
    shared = {"max_message_size", "owner", "moderators", "extra_addresses"}
    return {
        name: value
        for name, value in canonical.mailing_list(item, control).items()
        if name in shared or name not in stored
    }
