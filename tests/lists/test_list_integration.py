"""Lists together with Postfix, replicas, doctor, the embedded default and rights."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from iredapi.app import create_app
from iredapi.config.settings import Settings
from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from iredapi.runtime.context import AppContext
from iredapi.workflows.admins import ensure_first_admin
from tests.clients import Service, serving
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers import lookups
from tests.servers.lookups import MailServer, RealMailServer, SqlMailServer
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]


async def routed(lists: Lists, server: MailServer) -> None:
    """Postfix delivers all addresses of a list to mlmmj, and none of a disabled list."""
    await lists.root.ok("PUT", f"domain/{DOMAIN}", addAliasDomain="twin.test")
    addresses = [TEAM, "team@twin.test", f"crew@{DOMAIN}", "crew@twin.test"]
    for address in addresses:
        assert await lookups.delivery(server, address) == set()
    await lists.create(extra_addresses=f"crew@{DOMAIN}")
    for active in (True, False, True):
        await lists.update(accountStatus="active" if active else "disabled")
        for address in addresses:
            assert await lookups.accepts(server, address) == active, address
        if active:
            assert await lookups.transport(server, TEAM) == f"mlmmj:{DOMAIN}/team"
            assert await lookups.delivery(server, f"crew@{DOMAIN}") != set()
    await lists.update(extra_addresses="")
    assert not await lookups.accepts(server, f"crew@{DOMAIN}")
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert not await lookups.accepts(server, TEAM)


@pytest.mark.list_servers("spool")
@pytest.mark.stores("postgresql", "mariadb", "openldap")
@pytest.mark.needs("postmap", "doveadm")
async def test_routes(lists: Lists, postfix: Any, dovecot: Any) -> None:
    await routed(lists, RealMailServer(postfix, dovecot))


@pytest.mark.list_servers("spool")
@pytest.mark.stores("sqlite")
async def test_routes_of_sqlite(lists: Lists) -> None:
    await routed(lists, SqlMailServer(lists.store))


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_sixty_at_once_on_two_replicas(lists: Lists) -> None:
    """The lock is in the state database, so it does not matter which replica is asked."""
    await lists.create()
    given = lists.service.settings.model_dump()
    names = [name for name in given if name.startswith("mlmmj")]
    async with serving(lists.store, **{name: given[name] for name in names}) as second:
        other = await second.root()
        mails = [f"m{number:02}@else.test" for number in range(60)]
        await asyncio.gather(
            *(
                client.ok("PUT", f"ml/{TEAM}", add_subscribers=mail, require_confirm="no")
                for mail, client in zip(mails, [lists.root, other] * 30, strict=True)
            )
        )
    assert lists.subscribers() == mails


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
@pytest.mark.list_servers("spool")
async def test_the_doctor_finds_nothing(lists: Lists) -> None:
    await lists.user("bob")
    await lists.root.ok("PUT", f"domain/{DOMAIN}", addAliasDomain="twin.test")
    await lists.create(extra_addresses=f"crew@{DOMAIN},crew@twin.test")
    await lists.create(f"off@{DOMAIN}", accountStatus="disabled", owner=f"bob@{DOMAIN}")
    found: list[Finding] = []
    await Examination(lists.service.settings, fix=True).run(found.append)
    assert found == []
    assert len(await lists.routes()) == 3


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_without_a_list_server(lists: Lists) -> None:
    """Lists are listed, calls that need a list server are refused, and domains can be removed."""
    await lists.create()
    async with serving(lists.store) as bare:
        root = await bare.root()
        for method in ("GET", "PUT", "DELETE"):
            status, code, _ = await root.refused(method, f"ml/{TEAM}", name="x")
            assert (status, code) == (501, "NOT_SUPPORTED_BY_BACKEND")
        assert await root.ok("GET", f"mls/{DOMAIN}", email_only="yes") == [TEAM]
        await root.ok("PUT", f"ml/{TEAM}", accountStatus="disabled")
        await root.ok("DELETE", f"domain/{DOMAIN}")
    assert await lists.row() is None


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_the_embedded_default_has_working_lists(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    async with AppContext.open(settings) as context:
        first = await ensure_first_admin(context)
        assert first.password is not None
        service = Service(None, settings, create_app(settings, context), context)  # type: ignore[arg-type]
        root = await service.client().login(first.mail, first.password)
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "ml/team@ex.com", subscribers="a@b.com", require_confirm="no")
        shown = await root.ok("GET", "ml/team@ex.com", with_subscribers="yes")
        assert shown["subscribers"] == [{"mail": "a@b.com", "subscription": "normal"}]
        spool = tmp_path / "data" / "mlmmj"
        assert spool.stat().st_mode & 0o777 == 0o700
        assert (spool / "ex.com" / "team" / "control" / "smtpport").read_text() == "10027\n"


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_a_foreign_admin_sees_and_changes_nothing(lists: Lists) -> None:
    await lists.create()
    await lists.root.ok("POST", "domain/other.test")
    admin = await lists.service.admin_of("other.test")
    for method in ("GET", "POST", "PUT", "DELETE"):
        for address in (TEAM, f"ghost@{DOMAIN}"):
            status, code, _ = await admin.refused(method, f"ml/{address}", name="x")
            assert (status, code) == (403, "PERMISSION_DENIED")
    status, code, _ = await admin.refused("GET", f"mls/{DOMAIN}")
    assert (status, code) == (403, "PERMISSION_DENIED")
    assert (await lists.get())["name"] == ""
