"""iRedMail is upgraded while the service runs: columns appear and disappear; sums of odd rows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from tests.api.test_older_servers import _make_older
from tests.clients import PASSWORD, Client, Service, serving, settings_for
from tests.conftest import need
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import account_dn
from tests.servers.postgresql import PostgresqlServer
from tests.servers.snapshot import TABLES
from tests.servers.store import Store, create_sqlite

_NUMBERS = itertools.count()
NEW = ("first_name", "last_name", "mobile", "telephone", "recovery_email")
GIVEN = {"gn": "Ann", "sn": "Other", "mobile": "1", "telephoneNumber": "2"}


@pytest_asyncio.fixture(loop_scope="session", params=["sqlite", "postgresql", "mariadb"])
async def own(
    request: pytest.FixtureRequest, tmp_path: Path, store_suffix: str
) -> AsyncIterator[Store]:
    """Databases of a test's own, whose tables it changes."""
    if request.param == "sqlite":
        store = await create_sqlite(tmp_path)
    else:
        need(request.param)
        server: PostgresqlServer | MariadbServer
        server = request.getfixturevalue(f"{request.param}_server")
        store = await server.create_store(f"up{next(_NUMBERS)}_{store_suffix}")
    yield store
    await store.close()


def a_minute_passes(service: Service) -> None:
    for database in service.context.databases.by_name.values():
        database._schema_read -= 60  # seconds


async def test_columns_come_and_go(own: Store) -> None:
    await _make_older(own, "1.4.0")
    async with serving(own) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        told = {"gn", "sn", "mobile", "telephoneNumber"}
        for method in ("POST", "PUT"):
            given = GIVEN | ({"password": PASSWORD} if method == "POST" else {})
            answer = await root.ok(method, "user/u@ex.com", **given)
            assert {item["param"] for item in answer["_skipped"]} == told
            assert {item["reason"] for item in answer["_skipped"]} == {"NOT_SUPPORTED_BY_BACKEND"}
        answer = await root.ok("PUT", "user/u@ex.com", addService="sogowebmail,smtp")
        assert [item["value"] for item in answer["_skipped"]] == ["sogowebmail"]
        assert "_skipped" not in await root.ok("PUT", "user/u@ex.com", name="Ann", gn="")

        for column in NEW:
            await own.execute(f"ALTER TABLE mailbox ADD COLUMN {column} VARCHAR(255) DEFAULT ''")
        a_minute_passes(service)
        assert "_skipped" not in await root.ok("PUT", "user/u@ex.com", **GIVEN)
        assert (await root.ok("GET", "user/u@ex.com"))["first_name"] == "Ann"
        (row,) = await own.rows("SELECT * FROM mailbox")
        assert [row[column] for column in NEW[:4]] == ["Ann", "Other", "1", "2"]

        for column in NEW:
            await own.execute(f"ALTER TABLE mailbox DROP COLUMN {column}")
        # Not even the first request afterwards fails.
        assert "first_name" not in await root.ok("GET", "user/u@ex.com")
        assert len((await root.ok("PUT", "user/u@ex.com", **GIVEN))["_skipped"]) == 4
        await root.ok("POST", "user/v@ex.com", password=PASSWORD)
        assert len(await root.ok("GET", "users/ex.com")) == 2


async def test_the_newest_release_is_not_old(own: Store) -> None:
    """What no release is known to have added may be missing anywhere."""
    for (database, name), table in TABLES.items():
        assert database != "openldap"
        for column in table.columns:
            if column.info.get("since") == "?":
                if own.name == "sqlite":
                    for index in table.indexes:
                        if column.name in index.columns:
                            await own.execute(f'DROP INDEX "{index.name}"', database)
                async with own.connect(database) as connection:
                    quoted = connection.dialect.identifier_preparer.quote_identifier(column.name)
                await own.execute(f"ALTER TABLE {name} DROP COLUMN {quoted}", database)
    found: list[Finding] = []
    only = ["SCHEMA_OLDER", "SCHEMA_LACKS"]
    await Examination(settings_for(own), only=only).run(found.append)
    assert found == []


async def test_sums(service: Service, root: Client) -> None:
    """Negative quotas, and sizes of users who are gone, are in no sum."""
    store = service.store
    await root.ok("POST", "domain/ex.com", quota="1000")
    for mail in ("u@ex.com", "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD, quota="300")
    if store.openldap is None:
        await store.execute("UPDATE mailbox SET quota = -100 WHERE username = 'v@ex.com'")
    else:
        store.openldap.modify(account_dn("v@ex.com"), replace={"mailQuota": "-104857600"})
    for mail, size in (("u@ex.com", 700), ("v@ex.com", -50), ("gone@ex.com", 9000)):
        row = {"username": mail, "bytes": size, "messages": 2, "domain": "ex.com"}
        await store.insert("used_quota", row, database=store.accounts)
    domain = await root.ok("GET", "domain/ex.com")
    assert domain["allocated_quota"] == 300
    assert domain["used_quota"] == {"bytes": 700, "messages": 4}
    status, code, _ = await root.refused("POST", "user/w@ex.com", password=PASSWORD, quota="701")
    assert (status, code) == (409, "EXCEEDED_DOMAIN_QUOTA_SIZE")
    await root.ok("POST", "user/w@ex.com", password=PASSWORD, quota="700")


async def test_rules_divided_by_blanks(service: Service, root: Client) -> None:
    """As Amavisd reads them."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "spampolicy/domain/ex.com", spam_score="5")
    await service.store.execute(
        "UPDATE policy SET banned_rulenames = 'ALLOW_A  ALLOW_B, ALLOW_C' WHERE policy_name ="
        " '@ex.com'",
        "amavisd",
    )
    policy = await root.ok("GET", "spampolicy/domain/ex.com")
    assert policy["banned_rulenames"] == ["ALLOW_A", "ALLOW_B", "ALLOW_C"]
    await root.ok("PUT", "spampolicy/domain/ex.com", banned_rulenames="ALLOW_A ALLOW_D")
    policy = await root.ok("GET", "spampolicy/domain/ex.com")
    assert policy["banned_rulenames"] == ["ALLOW_A", "ALLOW_D"]
