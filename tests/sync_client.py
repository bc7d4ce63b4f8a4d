"""A client that keeps a copy of everything, by one full export and then by events alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from iredapi.domain.account_records import FORMATS, RecordType

Get = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, dict[str, Any]]]]
"""Sends a GET; returns the status and the answer, with records in ``_data``."""
Key = tuple[str, ...]
"""Type of a record, and the names of what it is about."""
ACCOUNTS = {"domain": "domain", "admin": "admin", "user": "user", "alias": "alias", "list": "ml"}
ACCOUNTS |= {"maillist": "maillist"}
"""First word of the kind of an event → type of the record, which is also that of the path."""
_TRIES = 100
POLICIES = ("throttle", "greylisting", "wblist", "spampolicy")


def keyed(lines: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """The records of an export. Some are told in parts."""
    found: dict[Key, dict[str, Any]] = {}
    for line in lines:
        names = FORMATS[RecordType(line["type"])].names
        key = (line["type"], *(str(line[name]) for name in names))
        found.setdefault(key, {}).update(plain(line))
    return found


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: sorted(value, key=str) if isinstance(value, list) else value
        for name, value in record.items()
    }


class SyncClient:
    """``copy`` is what it knows; ``seen`` are the events that it got, in their order.

    Accounts of ``more_in_exports`` are read from exports, which have more than canonical views:
    access policies of aliases, and on OpenLDAP services of users that SQL cannot store.
    """

    def __init__(self, get: Get, more_in_exports: Collection[str] = ("alias",)) -> None:
        self._get = get
        self._more_in_exports = more_in_exports
        self.copy: dict[Key, dict[str, Any]] = {}
        self.seen: list[dict[str, Any]] = []
        self._after = ""

    async def begin(self) -> None:
        """Read everything. Where the events end is asked for first."""
        _, answer = await self._get("events", {"after": "latest"})
        self._after = answer["_next"]
        self.copy = await self._export("export")

    async def follow(self, wait: int = 0) -> int:
        """Read the next events, and again what they name. Returns how many there were."""
        status, answer = await self._get(
            "events", {"after": self._after, "limit": "1000", "wait": str(wait)}
        )
        assert status == 200, answer
        events = answer["_data"]
        self.seen += events
        again: set[tuple[str, str]] = set()
        gone: set[str] = set()
        for event in events:
            subject, _, verb = event["kind"].partition(".")
            names = [event["account"], *([event["new_account"]] if "new_account" in event else [])]
            again |= {(subject, name) for name in names}
            if verb in {"deleted", "renamed"} and subject in ACCOUNTS:
                gone.add(event["account"])
                again |= {("policy", name) for name in names if subject not in {"admin", "domain"}}
        for subject, name in sorted(again):
            await self._read(subject, name)
        await self._read_what_names(gone)
        self._after = answer["_next"]
        return len(events)

    async def _export(self, path: str) -> dict[Key, dict[str, Any]]:
        status, answer = await self._get(path, {})
        assert status in {200, 404}, answer
        return keyed(answer["_data"]) if status == 200 else {}

    def _forget(self, unwanted: Callable[[Key], bool]) -> None:
        self.copy = {key: value for key, value in self.copy.items() if not unwanted(key)}

    async def _read(self, subject: str, name: str) -> None:
        """Read something again; what is not there any more is forgotten."""
        if subject == "users":
            await self._read_domain(name)
        elif subject == "policy":
            domain = name.rpartition("@")[2]
            found = await self._export("export" if name == "global" else f"export/{domain}")
            self._forget(lambda key: key[0] in POLICIES and key[1] == name)
            self._keep(found, lambda key: key[0] in POLICIES and key[1] == name)
        elif subject == "domain":
            await self._read_domain(name)
            await self._read_admins_of(name)
        else:
            await self._read_account(ACCOUNTS[subject], name)

    def _keep(self, found: Mapping[Key, dict[str, Any]], wanted: Callable[[Key], bool]) -> None:
        self.copy |= {key: value for key, value in found.items() if wanted(key)}

    async def _read_domain(self, name: str) -> None:
        """Read a domain with its accounts again."""

        def inside(key: Key) -> bool:
            return key[0] != "admin" and key[1].rpartition("@")[2] == name

        found = await self._export(f"export/{name}")
        self._forget(inside)
        self._keep(found, inside)

    async def _read_admins_of(self, name: str) -> None:
        """Which domains an admin manages is told with the domain."""
        status, answer = await self._get(f"domain/{name}", {"view": "canonical"})
        now = set(answer["_data"]["admins"]) if status == 200 else set()
        for key in [*self.copy]:
            if key[0] in {"admin", "user"} and (
                key[1] in now or name in self.copy[key].get("managedDomains", ())
            ):
                await self._read_account(key[0], key[1])

    async def _read_account(self, kind: str, name: str) -> None:
        if kind in self._more_in_exports:
            found = await self._export(f"export/{name.rpartition('@')[2]}")
            self._forget(lambda key: key == (kind, name))
            self._keep(found, lambda key: key == (kind, name))
            return
        more = {"with_subscribers": "yes"} if kind == "ml" else {}
        for _ in range(_TRIES):
            status, answer = await self._get(f"{kind}/{name}", {"view": "canonical", **more})
            if status < 500:
                break
            # A list whose removal is going on.
            await asyncio.sleep(0.1)
        assert status in {200, 404}, (kind, name, answer)
        self._forget(lambda key: key[:2] in {(kind, name), ("membership", name)})
        if status != 200:
            return
        form = FORMATS[RecordType(kind)]
        view = {key: answer["_data"][key] for key in form.keys if key in answer["_data"]}
        self.copy[kind, name] = plain({"type": kind, "mail": name, **view})
        for one in answer["_data"].get("subscribers", ()) if kind == "ml" else ():
            record = {"type": "membership", "list": name, **one}
            self.copy["membership", name, one["mail"]] = record

    async def _read_what_names(self, gone: set[str]) -> None:
        """Read the accounts of the copy again that name something that is gone."""
        if not gone:
            return
        addresses = {name for name in gone if "@" in name}
        domains = gone - addresses

        def names(value: str) -> bool:
            return value in gone or value.rpartition("@")[2] in domains

        found: set[tuple[str, str]] = set()
        for key, record in self.copy.items():
            values = [item for value in record.values() for item in _texts(value)]
            if key[0] not in POLICIES and any(map(names, values)):
                found.add(("ml" if key[0] == "membership" else key[0], key[1]))
        for kind, name in sorted(found):
            if kind == "domain":
                await self._read_domain(name)
            else:
                await self._read_account(kind, name)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def different(copy: Mapping[Key, Any], whole: Mapping[Key, Any]) -> list[str]:
    """What differs, in words."""
    told = []
    for key in sorted({*copy, *whole}):
        one, other = copy.get(key), whole.get(key)
        if one != other:
            told.append(f"{key}: copy {json.dumps(one)}, export {json.dumps(other)}")
    return told
