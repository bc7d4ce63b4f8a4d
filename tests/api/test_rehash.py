"""A hash of another kind is replaced after a login, where the setting says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from iredapi.auth import login
from iredapi.domain.actors import SYSTEM, Principal
from iredapi.domain.passwords import Scheme, hash_password
from iredapi.operations import admins
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.openldap import ADMIN_BASE
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
ADMIN, USER = "a@admins.test", "u@ex.com"
ON: dict[str, Any] = {"rehash_at_login": True, "password_scheme": Scheme.SSHA512}


async def principal(service: Service, mail: str) -> Principal:
    found = await service.context.read(SYSTEM, login.find_principal, mail)
    assert found is not None
    return found


async def with_hash(root: Client, store: Store, mail: str, hashed: str) -> None:
    """Make an admin, standalone or not, whose hash another program has made."""
    await root.ok("POST", "domain/ex.com")
    if mail == USER:
        await root.ok("POST", f"user/{mail}", password_hash=hashed)
    else:
        await root.ok("POST", f"admin/{mail}", password=PASSWORD)
        if store.name == "openldap":
            store.directory.modify(f"mail={mail},{ADMIN_BASE}", replace={"userPassword": hashed})
        else:
            await store.execute(
                "UPDATE admin SET password = :h WHERE username = :m", h=hashed, m=mail
            )
    await root.ok("PUT", "domain/admins/ex.com", addAdmin=mail)


async def dates(service: Service, mail: str) -> Any:
    """When the password was changed, as the storage has it."""
    if service.store.name == "openldap":
        (entry,) = service.store.directory.find(filter=f"(mail={mail})").values()
        return entry.get("shadowLastChange")
    table = "admin" if mail == ADMIN else "mailbox"
    sql = f"SELECT passwordlastchange FROM {table} WHERE username = '{mail}'"
    return await service.store.rows(sql)


@pytest.mark.parametrize("mail", [ADMIN, USER])
async def test_the_hash_is_replaced_and_nothing_ends(store: Store, root: Client, mail: str) -> None:
    old = hash_password(PASSWORD, Scheme.SSHA)
    await with_hash(root, store, mail, old)
    async with serving(store) as service:
        early = await service.client().login(mail)
        token = (await early.ok("POST", "tokens", label="x"))["token"]
        assert (await principal(service, mail)).password == old
    async with serving(store, **ON) as service:
        changed = await dates(service, mail)
        client = await service.client().login(mail)
        new = (await principal(service, mail)).password
        assert new.startswith("{SSHA512}")
        assert await dates(service, mail) == changed
        # Neither what was there before, nor this session, nor a token.
        earlier = service.client()
        earlier.http.cookies.update(early.http.cookies)
        bearer = service.client()
        bearer.http.headers["Authorization"] = f"Bearer {token}"
        for each in (earlier, client, bearer):
            assert (await each.ok("GET", "whoami"))["username"] == mail
        assert (await service.client().refused("POST", "login", username=mail, password="x"))[
            :2
        ] == (401, "INVALID_CREDENTIALS")
        await service.client().login(mail)
        assert (await principal(service, mail)).password == new


@pytest.mark.parametrize("mail", [ADMIN, USER])
async def test_parallel_logins_all_succeed(store: Store, root: Client, mail: str) -> None:
    await with_hash(root, store, mail, hash_password(PASSWORD, Scheme.SSHA))
    async with serving(store, **ON) as service:
        clients = await asyncio.gather(*(service.client().login(mail) for _ in range(6)))
        assert (await principal(service, mail)).password.startswith("{SSHA512}")
        service.context.invalidate_caches()
        for client in clients:
            await client.ok("GET", "whoami")


@pytest.mark.parametrize("mail", [ADMIN, USER])
async def test_a_new_password_is_not_overwritten(store: Store, root: Client, mail: str) -> None:
    """Compare and set: what was read before is not what is there."""
    await with_hash(root, store, mail, hash_password(PASSWORD, Scheme.SSHA))
    async with serving(store, **ON) as service:
        stale = await principal(service, mail)
        path = f"admin/{mail}" if mail == ADMIN else f"user/{mail}"
        await root.ok("PUT", path, password="An0ther-Horse")
        new = (await principal(service, mail)).password
        await service.context.write(SYSTEM, admins.rehash, stale, hash_password(PASSWORD))
        assert (await principal(service, mail)).password == new


async def test_off_by_default(store: Store, root: Client) -> None:
    old = hash_password(PASSWORD, Scheme.SSHA)
    await with_hash(root, store, ADMIN, old)
    async with serving(store, password_scheme=Scheme.SSHA512) as service:
        await service.client().login(ADMIN)
        assert (await principal(service, ADMIN)).password == old


async def test_a_dearer_hash_stays(store: Store, root: Client) -> None:
    old = hash_password(PASSWORD, Scheme.BCRYPT, bcrypt_cost=4)
    await with_hash(root, store, ADMIN, old)
    async with serving(store, **ON) as service:
        await service.client().login(ADMIN)
        assert (await principal(service, ADMIN)).password == old


async def test_what_cannot_be_hashed_logs_in_all_the_same(store: Store, root: Client) -> None:
    long = f"{PASSWORD}{'x' * 70}"
    old = hash_password(long, Scheme.SSHA)
    await with_hash(root, store, ADMIN, old)
    async with serving(store, **ON | {"password_scheme": Scheme.BCRYPT}) as service:
        client = await service.client().login(ADMIN, long)
        await client.ok("GET", "whoami")
        assert (await principal(service, ADMIN)).password == old


@pytest.mark.stores("postgresql", "mariadb")
async def test_a_row_that_is_held_fails_no_login(
    store: Store, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has the row for long: the login waits for a bounded time, and succeeds."""
    old = hash_password(PASSWORD, Scheme.SSHA)
    await with_hash(root, store, ADMIN, old)
    async with serving(store, **ON) as service:
        async with store.connect("vmail") as connection:
            row = f"SELECT username FROM admin WHERE username = '{ADMIN}' FOR UPDATE"
            await connection.execute(text(row))
            with monkeypatch.context() as patched:
                patched.setattr(login, "_REHASH_PATIENCE", 0.5)
                client = await asyncio.wait_for(service.client().login(ADMIN), 5)
            await client.ok("GET", "whoami")
        assert (await principal(service, ADMIN)).password == old
        await service.client().login(ADMIN)
        assert (await principal(service, ADMIN)).password.startswith("{SSHA512}")
        await client.ok("GET", "whoami")
