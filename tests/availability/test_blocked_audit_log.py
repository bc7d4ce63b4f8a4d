"""The panel's log is stuck (a dump holds its table): changes are made, and the API stays open."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from tests.clients import PASSWORD, serving
from tests.servers.store import Store

_HOLD = {
    "postgresql": "LOCK TABLE log IN ACCESS EXCLUSIVE MODE",
    "mariadb": "LOCK TABLES log WRITE",
}


@pytest.mark.stores("postgresql", "mariadb")
@pytest.mark.parametrize("pool_size", [4, 10])
async def test_a_blocked_audit_log_fails_no_request(store: Store, pool_size: int) -> None:
    async with serving(store, request_timeout=2, pool_size=pool_size) as service:
        root = await service.root()
        for number in range(8):
            await root.ok("POST", f"domain/ex{number}.com")
        admin = await service.admin_of("ex0.com", mail="a@admins.test")
        rows = "SELECT username FROM sessions WHERE username = 'a@admins.test'"
        assert len(await store.rows(rows, "state")) == 1
        async with store.admin_engine("iredadmin").connect() as holder:
            await holder.execute(text(_HOLD[store.name]))
            changes = [
                asyncio.create_task(
                    root.call("PUT", f"domain/ex{number}.com", data={"name": "New"})
                )
                for number in range(8)
            ]
            changes.append(
                asyncio.create_task(
                    root.call("PUT", "admin/a@admins.test", data={"password": f"{PASSWORD}2"})
                )
            )
            changes.append(asyncio.create_task(service.client().call("POST", "login", data=_LOGIN)))
            await asyncio.sleep(0.5)
            for _ in range(7):
                # What is known of the panel's settings is over after a second.
                await asyncio.sleep(0.6)
                await root.ok("GET", "domain/ex0.com")
            async with asyncio.timeout(10):
                answers = await asyncio.gather(*changes)
                await service.context.drain()
            await holder.rollback()
            await holder.execute(text("COMMIT" if store.name == "postgresql" else "UNLOCK TABLES"))
        assert [status for status, _ in answers] == [200] * 10, answers
        assert not await store.rows(rows, "state")
        assert (await admin.call("GET", "whoami"))[0] == 401
        domains = await store.rows("SELECT description FROM domain", "vmail")
        assert [row["description"] for row in domains] == ["New"] * 8


_LOGIN = {"username": "root@admins.test", "password": PASSWORD}
