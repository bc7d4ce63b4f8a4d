"""Requests that are sent as dry runs first, and then for real."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.clients import PASSWORD, Client, Service
from tests.contract.histories import Step
from tests.servers.snapshot import dump
from tests.servers.store import Store

DRY = {"dry_run": "yes"}
STATE = {
    table: f"SELECT * FROM {table}"
    for table in ("tokens", "journal", "renames", "locks", "idempotency_keys", "guarded_mailboxes",
                  "log_detail_blocks")
} | {"sessions": "SELECT id_hash FROM sessions"}  # fmt: skip
NOT_COMPARED = {"password"}
NOT_SHOWN: dict[str, Any] = {"": "nobody can read it"}


def files(service: Service) -> dict[str, bytes]:
    """Everything that the list server has."""
    spool = service.settings.spool
    assert spool is not None
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in sorted(Path(spool).parent.rglob("*"))
    }


async def everything(store: Store, service: Service) -> tuple[Any, ...]:
    """All rows, entries and files; of sessions not the moment at which they were seen."""
    await service.context.write_details()
    log = await store.rows("SELECT count(*) AS n FROM log", "iredadmin")
    async with store.connect("state") as connection:
        state = {
            table: sorted(str(row) for row in await connection.execute(text(statement)))
            for table, statement in STATE.items()
        }
    return await dump(store), log, state, files(service)


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """What both answers have."""
    return {
        name: value
        for name, value in answer.items()
        if name not in {"_request_id", "_changes", "_dry_run"}
    }


@dataclass
class Twice:
    """Sends requests as dry runs and then for real; ``root`` looks what is different."""

    root: Client
    service: Service
    _known: tuple[Any, ...] | None = None
    """Everything, as it was after the last request."""

    async def send(self, item: Step, client: Client | None = None) -> int:
        """Send a request twice, and compare; return the status. None: ``root`` sends it."""
        store, sender = self.service.store, client or self.root
        before = self._known or await everything(store, self.service)
        dry_status, dry = await sender.call(item.method, item.path, data=item.form | DRY)
        assert await everything(store, self.service) == before, item
        views = await Views.of(self.root, dry.get("_changes", ()))
        status, real = await sender.call(item.method, item.path, data=item.form or None)
        assert (dry_status, told(dry)) == (status, told(real)), item
        self._known = await everything(store, self.service)
        if status != 200:
            assert "_changes" not in dry, item
            return status
        assert dry["_dry_run"] is True, item
        # What nobody can read may change as well: an account of Amavisd that has no policy, say.
        differs = self._known != before and real.get("_changed") != []
        assert bool(dry["_changes"]) == differs, (item, dry)
        assert PASSWORD not in str(dry), item
        assert "{" not in str([c["new"] for c in dry["_changes"] if c["field"] == "password"])
        await views.check(item)
        return status

    async def once(self, item: Step) -> None:
        """Send a request for real only; it may fail."""
        self._known = None
        await self.root.call(item.method, item.path, data=item.form)


@dataclass
class Views:
    """The accounts that a dry run names, as they are before the real call."""

    root: Client
    changes: list[dict[str, Any]]
    before: dict[tuple[str, str], dict[str, Any]]

    @classmethod
    async def of(cls, root: Client, changes: Sequence[dict[str, Any]]) -> Views:
        named = {(item["kind"], item["account"]) for item in changes}
        return cls(root, list(changes), {key: await view(root, *key) for key in sorted(named)})

    async def check(self, item: Step) -> None:
        """Compare what the dry run has told with what is different now."""
        for (kind, account), old in self.before.items():
            if old is NOT_SHOWN:
                continue
            dry = {
                change["field"]: (without_time(change["old"]), without_time(change["new"]))
                for change in self.changes
                if (change["kind"], change["account"]) == (kind, account)
                and change["field"] not in NOT_COMPARED
                # Who is asked by mail is no subscriber yet.
                and not str(change["new"]).startswith("invited")
            }
            new = await view(self.root, kind, account)
            if None not in dry.get("mail", (None,)):
                # It has another address now.
                new = await view(self.root, kind, dry["mail"][1])
            really = {
                name: (old.get(name), new.get(name))
                for name in (*old, *(name for name in new if name not in old))
                if not old or not new or old.get(name) != new.get(name)
                if name not in NOT_COMPARED
            }
            assert dry == really, (item, kind, account)


async def view(root: Client, kind: str, account: str) -> dict[str, Any]:
    """What is stored about something that a dry run names; empty: it does not exist."""
    word, _, rest = kind.partition(" ")
    if word in {"domain", "user", "alias", "ml", "maillist", "admin"}:
        params = {"view": "canonical"} | ({"with_subscribers": "yes"} if word == "ml" else {})
        status, answer = await root.call("GET", f"{word}/{account}", params=params)
        found = dict(answer["_data"]) if status == 200 else {}
        people = found.pop("subscribers", ())
        if "maildir" in found:
            found["maildir"] = without_time(found["maildir"])
        return found | {f"subscriber {one['mail']}": one["subscription"] for one in people}
    if word == "wblist":
        path = f"wblist/{rest}/%s/{named(account)}"
        return {
            address: name
            for name in ("whitelist", "blacklist")
            for address in await root.ok("GET", path % name)
        }
    if kind == "greylisting":
        found = await root.ok("GET", "greylisting/all")
        own = [one for one in found if (one["account"], one["sender"]) == (account, "@.")]
        return {name: one[name] for one in own for name in ("status", "priority")}
    return NOT_SHOWN


def without_time(value: Any) -> Any:
    """The path of a new mailbox has the second in which it is made."""
    return re.sub(r"-\d{4}(\.\d\d){5}$", "", value) if isinstance(value, str) else value


def named(account: str) -> str:
    return "global" if account == "@." else account.removeprefix("@.").removeprefix("@")
