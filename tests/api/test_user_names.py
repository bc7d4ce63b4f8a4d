"""Addresses that Dovecot refuses: no new user gets one; users who have one can be changed."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients import PASSWORD, Client, serving
from tests.servers.dovecot import Dovecot
from tests.servers.store import Store

ODD = "r&d@ex.com"
REFUSED = (400, "INVALID_MAIL")


async def _odd_user(store: Store) -> None:
    async with serving(store, auth_username_chars="") as open_to_all:
        root = await open_to_all.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/r%26d@ex.com", password=PASSWORD)
        await root.ok("POST", "user/plain@ex.com", password=PASSWORD)
        await root.ok("POST", "user/plain@ex.com/change_email/a%23b@ex.com")
        await root.ok("DELETE", "user/a%23b@ex.com")


async def test_new_users(root: Client) -> None:
    """Alone, together with others, and by another address; aliases and lists may have them."""
    await root.ok("POST", "domain/ex.com")
    for name in ("r%26d", "a%23b", "%23a"):
        path = f"user/{name}@ex.com"
        assert (await root.refused("POST", path, password=PASSWORD))[:2] == REFUSED
    names = ("one", "a%26b", "two", "c%23d", "three.f-o_ur")
    answers = await asyncio.gather(
        *(root.call("POST", f"user/{name}@ex.com", data={"password": PASSWORD}) for name in names)
    )
    assert [status for status, _ in answers] == [200, 400, 200, 400, 200]
    path = "user/one@ex.com/change_email/o%26e@ex.com"
    assert (await root.refused("POST", path))[:2] == REFUSED
    assert "IREDAPI_AUTH_USERNAME_CHARS" in str(await root.call("POST", path))
    users = await root.ok("GET", "users/ex.com", email_only="yes")
    assert users == ["one@ex.com", "three.f-o_ur@ex.com", "two@ex.com"]
    await root.ok("POST", "alias/q%26a@ex.com", members="one@ex.com")
    await root.ok("POST", "alias/plain@ex.com", members="one@ex.com")
    await root.ok("POST", "alias/plain@ex.com/change_email/h%23h@ex.com")
    await root.ok("PUT", "user/one@ex.com", addAlias="o&e@ex.com")


async def test_those_who_have_one(store: Store, root: Client) -> None:
    """They are read, changed, get another address, and go."""
    await _odd_user(store)
    assert (await root.ok("GET", "users/ex.com", email_only="yes")) == [ODD]
    await root.ok("GET", "user/r%26d@ex.com")
    await root.ok("PUT", "user/r%26d@ex.com", name="Research", addForwarding="far@far.org")
    await root.ok("POST", "user/r%26d@ex.com/change_email/rd@ex.com")
    assert (await root.ok("GET", "user/rd@ex.com"))["mail" if store.openldap else "username"]
    await root.ok("DELETE", "domain/ex.com")
    await _odd_user(store)
    await root.ok("DELETE", "user/r%26d@ex.com")
    assert (await root.ok("GET", "users/ex.com", email_only="yes")) == []


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_dovecot(store: Store, root: Client, dovecot: Dovecot) -> None:
    """The reason: it knows no such user; by another address the same one logs in."""
    await _odd_user(store)
    assert dovecot.user(ODD, "lmtp") is None
    await root.ok("POST", "user/r%26d@ex.com/change_email/rd@ex.com")
    assert dovecot.user("rd@ex.com", "lmtp") is not None
    assert dovecot.auth_test("rd@ex.com", PASSWORD, service="imap", secured="tls")
