"""Databases of older iRedMail releases: missing columns and tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from iredapi.database.live_schema import is_optional
from tests.clients import PASSWORD, Client, Service, serving
from tests.conftest import need
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.snapshot import TABLES
from tests.servers.store import Store, create_sqlite

# The release, and on which database. "0.9.8" is the oldest one that we support.
SERVERS = [
    ("0.9.8", "sqlite"), ("1.3", "sqlite"), ("1.7.2", "sqlite"), ("0.9.8", "postgresql"),
    ("0.9.8", "mariadb"),
]  # fmt: skip
COLUMNS = (
    "first_name", "last_name", "mobile", "telephone", "recovery_email", "birthday",
    "enablesogowebmail", "enablesogocalendar", "enablesogoactivesync",
)  # fmt: skip


def _version(text: str) -> tuple[int, ...]:
    # An object of unknown age may be missing anywhere.
    return (999,) if text == "?" else tuple(int(part) for part in text.split("."))


async def _make_older(store: Store, release: str) -> None:
    """Take away what came after a release."""
    for (database, name), table in TABLES.items():
        assert database != "openldap"
        newer = [
            column.name
            for column in table.columns
            if is_optional(column) and _version(column.info["since"]) > _version(release)
        ]
        if is_optional(table) and _version(table.info["since"]) > _version(release):
            await store.execute(f"DROP TABLE {name}", database)
            continue
        if store.name == "sqlite":
            for index in table.indexes:
                if set(index.columns.keys()) & set(newer):
                    await store.execute(f'DROP INDEX "{index.name}"', database)
        async with store.connect(database) as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
        for column in newer:
            await store.execute(f"ALTER TABLE {name} DROP COLUMN {quote(column)}", database)


@pytest_asyncio.fixture(loop_scope="session")
async def old(
    request: pytest.FixtureRequest, tmp_path: Path, store_suffix: str
) -> AsyncIterator[Service]:
    release, kind = request.param
    server: PostgresqlServer | MariadbServer | None = None
    if kind == "sqlite":
        store = await create_sqlite(tmp_path)
    else:
        need(kind)
        server = request.getfixturevalue(f"{kind}_server")
        store = await server.create_store(f"old_{store_suffix}")
    try:
        await _make_older(store, release)
        async with serving(store) as service:
            yield service
    finally:
        await store.close()


async def _columns(store: Store, table: str) -> set[str]:
    rows = await store.rows(f"SELECT * FROM {table}")
    return set(rows[0])


@pytest.mark.parametrize("old", SERVERS, indirect=True, ids="-".join)
async def test_a_day_on_an_older_server(old: Service) -> None:
    root = await old.root()
    await _domain(root)
    await _users(root)
    await _aliases(root)
    await _admins(old, root)
    columns = await _columns(old.store, "mailbox")
    assert not columns & {"first_name", "mobile", "birthday"}
    await _gone(old.store, root)


async def _domain(root: Client) -> None:
    await root.ok("POST", "domain/ex.com", name="E", quota="10000", defaultQuota="100")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com", senderBcc="b@far.org",
                  recipientBcc="b@far.org", catchall="x@far.org", outboundRelay="[10.0.0.2]",
                  addService="self-service", disableUserProfile="bcc",
                  numberOfLists="5")  # fmt: skip
    await root.ok("PUT", "domain/ex.com", is_backupmx="yes", primarymx="10.0.0.1")
    await root.ok("PUT", "domain/ex.com", is_backupmx="no", accountStatus="active")
    domain = await root.ok("GET", "domain/ex.com")
    assert domain["alias_domains"] == ["al.com"]
    assert domain["num_existing_maillists"] == 0
    assert [item["domain"] for item in await root.ok("GET", "domains")] == ["ex.com"]


async def _users(root: Client) -> None:
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, name="U", language="de_DE",
                  mailboxFormat="maildir", mailboxFolder="Maildir", quota="500",
                  maildir="/var/vmail/vmail1/ex.com/u", isGlobalAdmin="no")  # fmt: skip
    await root.ok("PUT", "user/u@ex.com", name="V", gn="G", sn="S", mobile="1", employeeid="2",
                  telephoneNumber="3", quota="600", transport="dovecot", language="",
                  addForwarding="x@far.org", addAlias="bob@al.com", senderBcc="b@far.org",
                  recipientBcc="b@far.org", password=PASSWORD, isGlobalAdmin="yes")  # fmt: skip
    await root.ok("PUT", "user/u@ex.com", services="imaptls,deliver,sogowebmail,managesieve")
    await root.ok("PUT", "user/u@ex.com", addService="sogo,sogocalendar,sogoactivesync,smtp")
    await root.ok("PUT", "user/u@ex.com", removeService="sogowebmail,pop3", isGlobalAdmin="no")
    user = await root.ok("GET", "user/u@ex.com")
    assert (user["name"], user["quota"], user["last_login"]) == ("V", 600, None)
    assert {"deliver", "imaptls", "smtp", "sogo"} <= set(user["enabled_services"])
    assert "pop3" not in user["enabled_services"]
    assert (user["forwardings"], user["aliases"]) == (["u@ex.com", "x@far.org"], ["bob@al.com"])
    await root.ok("PUT", "users/ex.com", language="fr_FR", password=PASSWORD, transport="",
                  accountStatus="disabled")  # fmt: skip
    assert len(await root.ok("GET", "users/ex.com", disabled_only="yes")) == 1
    await root.ok("PUT", "users/ex.com", accountStatus="active")
    await root.ok("POST", "verify_password/user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    assert (await root.ok("GET", "user/n@ex.com"))["language"] == "fr_FR"


async def _aliases(root: Client) -> None:
    await root.ok("POST", "alias/list@ex.com", name="L", members="n@ex.com,x@far.org")
    await root.ok("PUT", "alias/list@ex.com", accessPolicy="domain", addMember="y@far.org")
    await root.ok("PUT", "alias/list@ex.com", accountStatus="disabled")
    await root.ok("POST", "alias/list@ex.com/change_email/all@ex.com")
    profile = await root.ok("GET", "alias/all@ex.com")
    assert (profile["members"], profile["moderators"]) == (
        ["n@ex.com", "x@far.org", "y@far.org"],
        [],
    )
    assert await root.ok("GET", "aliases/ex.com", email_only="yes") == ["all@ex.com"]
    await root.ok("DELETE", "alias/all@ex.com")


async def _admins(old: Service, root: Client) -> None:
    norm = await old.admin_of("ex.com", mail="norm@admins.test", maxDomains="3")
    await root.ok("PUT", "admin/norm@admins.test", name="N", maxUsers="100", accountStatus="active")
    await norm.ok("POST", "domain/own.com", numberOfUsers="10")
    await norm.ok("PUT", "domain/own.com", name="O", numberOfUsers="20")
    await norm.ok("POST", "user/o@own.com", password=PASSWORD)
    await norm.ok("PUT", "domain/admins/own.com", addAdmin="o@own.com")
    mail_user = await old.client().login("o@own.com")
    assert await mail_user.ok("GET", "domains", name_only="yes") == ["own.com"]
    await root.ok("PUT", "domain/admins/own.com", removeAllAdmins="")
    await root.ok("POST", "verify_password/admin/norm@admins.test", password=PASSWORD)
    await root.ok("GET", "admin/norm@admins.test")
    await root.ok("DELETE", "admin/norm@admins.test")


async def _gone(store: Store, root: Client) -> None:
    await root.ok("DELETE", "user/n@ex.com/keep_mailbox_days/5")
    await root.ok("POST", "user/n@ex.com", password=PASSWORD)
    await root.ok("DELETE", "domain/ex.com/keep_mailbox_days/0")
    await root.ok("DELETE", "domain/own.com")
    assert await root.ok("GET", "domains") == []
    rows: list[dict[str, Any]] = await store.rows("SELECT * FROM deleted_mailboxes ORDER BY id")
    assert [row["username"] for row in rows] == ["n@ex.com", "n@ex.com", "o@own.com"]
    assert [row["delete_date"] is None for row in rows] == [False, True, True]
    assert not set(rows[0]) & {"bytes", "messages"}


@pytest.mark.parametrize("old", [("0.9.8", "sqlite")], indirect=True)
async def test_what_is_really_missing(old: Service) -> None:
    root = await old.root()
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    columns = await _columns(old.store, "mailbox")
    assert not columns & set(COLUMNS)
    assert "enablesogo" in columns
    names = {row["name"] for row in await old.store.rows("SELECT name FROM sqlite_master")}
    assert not names & {"last_login", "maillist_owners"}
    await root.ok("DELETE", "user/u@ex.com")
    assert not await _columns(old.store, "deleted_mailboxes") & {"bytes", "messages"}
