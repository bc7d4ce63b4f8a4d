"""Lists on both kinds of list server, over each kind of account storage."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import Client, Service, serving
from tests.servers.mlmmjadmin import TOKEN, MlmmjAdminServer
from tests.servers.openldap import account_dn
from tests.servers.process import find_program, remove_directory, temporary_directory
from tests.servers.sink import Sink
from tests.servers.store import Store

DOMAIN = "list.test"
TEAM = f"team@{DOMAIN}"
KINDS = ("spool", "mlmmjadmin")


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    found = Sink()
    yield found
    found.stop()


@dataclass
class Lists:
    """A service with a list server, and that server's disk."""

    service: Service
    root: Client
    kind: str
    spool: Path
    archive: Path
    admin: MlmmjAdminServer
    sink: Sink

    @property
    def store(self) -> Store:
        return self.service.store

    def directory(self, address: str = TEAM) -> Path:
        name, _, domain = address.rpartition("@")
        return self.spool / domain / name

    def control(self, name: str, address: str = TEAM) -> str | None:
        """Return the content of a control file, or None."""
        path = self.directory(address) / "control" / name
        return path.read_text() if path.exists() else None

    def subscribers(self, option: str = "-s", address: str = TEAM) -> list[str]:
        """Subscribers as listed by mlmmj: -s normal, -d digest, -n nomail."""
        program = find_program("mlmmj-list")
        assert program is not None
        command = [program, "-L", str(self.directory(address)), option]
        return sorted(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        )

    async def create(self, address: str = TEAM, **form: Any) -> Any:
        return await self.root.ok("POST", f"ml/{address}", **form)

    async def update(self, address: str = TEAM, **form: Any) -> Any:
        return await self.root.ok("PUT", f"ml/{address}", **form)

    async def get(self, address: str = TEAM, **params: Any) -> Any:
        return await self.root.ok("GET", f"ml/{address}", **params)

    async def user(self, *names: str) -> None:
        for name in names:
            await self.root.ok("POST", f"user/{name}@{DOMAIN}", password="Corr3ct-Horse")

    def _entry(self, address: str) -> dict[str, list[str]] | None:
        entry = self.store.directory.entry(account_dn(address, "Groups"))
        return None if entry is None else {name.lower(): v for name, v in entry.items()}

    async def row(self, address: str = TEAM) -> dict[str, Any] | None:
        """Return a list in the account storage, by the names of SQL's columns."""
        if self.store.name != "openldap":
            rows = await self.store.rows("SELECT * FROM maillists WHERE address = :a", a=address)
            return rows[0] if rows else None
        entry = self._entry(address)
        if entry is None:
            return None
        assert entry["objectclass"] == ["mailList"]
        assert set(entry["enabledservice"]) == {"mail", "deliver", "mlmmj"}
        people = {*entry.get("listowner", []), *entry.get("listmoderator", [])}
        assert set(entry.get("listalloweduser", [])) == people

        def one(name: str) -> str:
            values = entry.get(name, [""])
            assert len(values) == 1
            return values[0]

        return {
            "address": one("mail"),
            "domain": address.rpartition("@")[2],
            "name": one("cn"),
            "description": one("description"),
            "accesspolicy": one("accesspolicy"),
            "transport": one("mtatransport"),
            "mlid": one("mailinglistid"),
            "maxmsgsize": int(one("maxmessagesize") or 0),
            "active": int(one("accountstatus") == "active"),
            "is_newsletter": int("is_newsletter:yes" in entry.get("accountsetting", [])),
            "modified": "",
        }

    async def routes(self, address: str = TEAM) -> list[tuple[str, int, int, int]]:
        """address, is_maillist, is_alias, active of all addresses that lead to a list."""
        if self.store.name == "openldap":
            entry = self._entry(address)
            if entry is None:
                return []
            active = int(entry["accountstatus"] == ["active"])
            return sorted(
                [(address, 1, 0, active)]
                + [(extra, 0, 1, active) for extra in entry.get("shadowaddress", [])]
            )
        rows = await self.store.rows(
            "SELECT address, is_maillist, is_alias, active FROM forwardings"
            " WHERE forwarding = :a ORDER BY address",
            a=address,
        )
        return [tuple(row.values()) for row in rows]

    async def people(self, table: str, column: str, address: str = TEAM) -> list[str]:
        """The owners or moderators of a list in the account storage."""
        if self.store.name == "openldap":
            return sorted((self._entry(address) or {}).get(f"list{column}", []))
        rows = await self.store.rows(
            f"SELECT {column} AS person FROM {table} WHERE address = :a ORDER BY {column}",
            a=address,
        )
        return [row["person"] for row in rows]

    async def rename_row(self, name: str, address: str = TEAM) -> None:
        """Change a list's name in the account storage only, as another program might."""
        if self.store.name == "openldap":
            self.store.directory.modify(account_dn(address, "Groups"), replace={"cn": [name]})
            return
        await self.store.execute(
            "UPDATE maillists SET name = :n WHERE address = :a", n=name, a=address
        )

    async def forget(self, address: str = TEAM) -> None:
        """Remove a list from the account storage only, as a broken tool might."""
        if self.store.name == "openldap":
            self.store.directory.delete(account_dn(address, "Groups"))
            return
        for table in ("maillists", "forwardings", "maillist_owners", "moderators"):
            await self.store.execute(f"DELETE FROM {table} WHERE address = :a", a=address)

    def stop(self) -> None:
        """Stop the list server."""
        if self.kind == "spool":
            self.spool.rename(self.spool.with_name("away"))
        else:
            self.admin.stop()

    def start(self) -> None:
        """Start the list server again."""
        if self.kind == "spool":
            self.spool.with_name("away").rename(self.spool)
        else:
            self.admin.start()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "list_server" in metafunc.fixturenames:
        names: tuple[str, ...] = KINDS
        for marker in metafunc.definition.iter_markers("list_servers"):
            names = marker.args
        metafunc.parametrize("list_server", names, ids=names)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "list_servers(*names): spool, mlmmjadmin")


@pytest_asyncio.fixture(loop_scope="session")
async def lists(store: Store, list_server: str, sink: Sink) -> AsyncIterator[Lists]:
    """A service with an empty list server and the domain ``DOMAIN``."""
    place = temporary_directory("lists")
    spool, archive = place / "mlmmj", place / "mlmmj-archive"
    spool.mkdir(mode=0o700)
    archive.mkdir(mode=0o700)
    sink.mails.clear()
    admin = MlmmjAdminServer(spool, archive, sink.port)
    given: dict[str, Any] = {"mlmmj_spool": str(spool), "mlmmj_smtp_port": sink.port}
    if list_server == "mlmmjadmin":
        admin.start()
        given = {
            "mlmmjadmin_url": admin.url,
            "mlmmjadmin_token": TOKEN,
            "mlmmjadmin_timeout": 1.0,
        }
    try:
        async with serving(store, **given) as service:
            root = await service.root()
            await root.ok("POST", f"domain/{DOMAIN}")
            yield Lists(service, root, list_server, spool, archive, admin, sink)
    finally:
        admin.clear()
        admin.stop()
        remove_directory(place)
