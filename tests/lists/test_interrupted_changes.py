"""Each change of a list is interrupted at every step.

Afterwards either the old or the new state is there, or the same request sent again completes it;
and no mail reaches half a list: a route leads to a whole directory, or there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from iredapi.backends.ldap.client import Directory
from iredapi.backends.ldap.errors import Unavailable
from iredapi.database.connection import PooledConnection
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]
HOWS = [
    pytest.param("close", False, id="closed-before"),
    pytest.param("close", True, id="closed-after"),
    pytest.param("hang", False, id="timeout-before"),
    pytest.param("hang", True, id="timeout-after"),
    pytest.param("error", False, id="refused"),
    pytest.param("error", True, id="failed-after"),
    pytest.param("html", False, id="crashed"),
    pytest.param("token", False, id="token"),
]
CODES = {
    "close": "MLMMJADMIN_BAD_RESPONSE",
    "hang": "MLMMJADMIN_TIMEOUT",
    "error": "MLMMJADMIN_ERROR",
    "html": "MLMMJADMIN_BAD_RESPONSE",
    "token": "MLMMJADMIN_AUTH_FAILED",
}


async def whole(lists: Lists) -> bool:
    """Return whether the list exists; assert that it is complete if it does."""
    routes = [route for route in await lists.routes() if route[3]]
    if routes:
        assert lists.control("listaddress"), "mail would reach half a list"
        assert (lists.directory() / "incoming").is_dir()
        assert (await lists.row()) is not None
    return bool(routes)


@contextmanager
def failing_commit(lists: Lists, *, after: bool, skip: int = 0) -> Iterator[None]:
    """Let one write to the account storage fail at its end: once it is done, or before.

    ``skip`` writes go well before it. On SQL it is the commit, on OpenLDAP the change of an entry.
    """
    left = [skip, 1]

    def fails() -> bool:
        if left[0]:
            left[0] -= 1
            return False
        left[1] -= 1
        return left[1] == 0

    with pytest.MonkeyPatch.context() as patch:
        if lists.store.name == "openldap":
            for name in ("add", "modify", "delete"):
                patch.setattr(Directory, name, _cut(getattr(Directory, name), fails, after=after))
        else:
            engine = lists.service.context.databases["vmail"].engine
            patch.setattr(PooledConnection, "commit", _cut_commit(engine, fails, after=after))
        yield
    assert left[1] < 1, "nothing was committed"


def _cut_commit(engine: AsyncEngine, fails: Callable[[], bool], *, after: bool) -> Any:
    original = PooledConnection.commit

    async def commit(self: PooledConnection) -> None:
        if self.connection.engine != engine or not fails():
            await original(self)
            return
        await (original if after else PooledConnection.rollback)(self)
        raise ConnectionResetError("cut by the test")

    return commit


def _cut(original: Any, fails: Callable[[], bool], *, after: bool) -> Any:
    async def method(self: Directory, dn: str, *args: Any) -> None:
        if "ou=Groups" not in dn or not fails():
            await original(self, dn, *args)
            return
        if after:
            await original(self, dn, *args)
        raise Unavailable("cut by the test", uncertain=True)

    return method


CREATE = {
    "extra_addresses": f"crew@{DOMAIN}",
    "subscribers": "ann@else.test,bob@else.test",
    "require_confirm": "no",
    "name": "Team",
}


async def created(lists: Lists) -> None:
    """The list exists once, with the requested values."""
    assert await whole(lists)
    shown = await lists.get(with_subscribers="yes")
    assert shown["name"] == "Team"
    assert [item["mail"] for item in shown["subscribers"]] == ["ann@else.test", "bob@else.test"]
    assert await lists.routes() == [(f"crew@{DOMAIN}", 0, 1, 1), (TEAM, 1, 0, 1)]


@pytest.mark.parametrize("how,after", HOWS)
@pytest.mark.parametrize(
    "method,path",
    [("GET", "/owners$"), ("POST", f"/{TEAM}$"), ("POST", "/subscribers$")],
    ids=["probe", "make", "subscribe"],
)
@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite", "postgresql", "openldap")
async def test_creation_is_cut_at_the_list_server(
    lists: Lists, method: str, path: str, how: str, after: bool
) -> None:
    lists.admin.fail(method, path, how, after=after, times=9)
    status, code, _ = await lists.root.refused("POST", f"ml/{TEAM}", **CREATE)
    assert (status, code) == (503, CODES[how])
    assert not await whole(lists)
    assert await lists.row() is None
    lists.admin.clear()
    await lists.create(**CREATE)
    await created(lists)


@pytest.mark.list_servers("spool")
@pytest.mark.stores("sqlite", "openldap")
async def test_creation_is_cut_in_the_spool(lists: Lists) -> None:
    """A file where the domain's directory belongs: the spool refuses to make a list there."""
    obstacle = lists.spool / DOMAIN
    obstacle.write_text("")
    status, code, _ = await lists.root.refused("POST", f"ml/{TEAM}", **CREATE)
    assert (status, code) == (503, "LIST_SPOOL_ERROR")
    assert not await whole(lists)
    obstacle.unlink()
    await lists.create(**CREATE)
    await created(lists)


@pytest.mark.parametrize("after", [False, True])
async def test_creation_is_cut_at_the_commit(lists: Lists, after: bool) -> None:
    with failing_commit(lists, after=after):
        status, answer = await lists.root.call("POST", f"ml/{TEAM}", data=CREATE)
    if status == 200:
        assert after  # it was committed: the list is whole, and the answer says so
    else:
        assert not after or lists.store.name == "openldap"  # where it is taken back
        assert status in (500, 503), answer
        assert not await whole(lists)
        assert not lists.directory().exists()
        await lists.create(**CREATE)
    await created(lists)


@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite")
async def test_a_creation_that_could_not_be_undone_is_no_trap(lists: Lists) -> None:
    """Data left on the server, subscribers too, do not get into a new list of the name."""
    lists.admin.fail("POST", "/subscribers$", "error", after=True)
    lists.admin.fail("DELETE", TEAM, "error", times=9)
    status, code, _ = await lists.root.refused("POST", f"ml/{TEAM}", **CREATE)
    assert (status, code) == (503, "MLMMJADMIN_ERROR")
    assert lists.directory().exists()
    assert await lists.row() is None
    lists.admin.clear()
    await lists.create()
    assert lists.subscribers() == []
    assert len(list(lists.archive.glob(f"{DOMAIN}/team-*"))) == 1


@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite")
async def test_failed_invitations_leave_a_complete_list(lists: Lists) -> None:
    lists.admin.fail("POST", "/subscribers$", "error", times=9)
    status, code, _ = await lists.root.refused(
        "POST", f"ml/{TEAM}", **CREATE | {"require_confirm": "yes"}
    )
    assert (status, code) == (503, "LIST_CREATED_SUBSCRIBERS_FAILED")
    assert await whole(lists)


UPDATE = {
    "name": "New",
    "moderated": "yes",
    "owner": "new@else.test",
    "extra_addresses": f"new@{DOMAIN}",
    "add_subscribers": "cat@else.test,bob@else.test",
    "remove_subscribers": "ann@else.test",
    "require_confirm": "no",
    "subscription": "digest",
}


async def state(lists: Lists) -> Any:
    shown = await lists.get(with_subscribers="yes")
    shown.pop("modified")
    row = await lists.row()
    assert row is not None
    row.pop("modified")
    people = await lists.people("maillist_owners", "owner")
    return shown, row, people, await lists.routes()


async def updated(lists: Lists) -> None:
    shown, row, people, routes = await state(lists)
    assert (shown["name"], row["name"], shown["moderated"]) == ("New", "New", "yes")
    assert shown["owner"] == people == ["new@else.test"]
    assert [address for address, *_ in routes] == [f"new@{DOMAIN}", TEAM]
    assert shown["subscribers"] == [
        {"mail": "bob@else.test", "subscription": "digest"},
        {"mail": "cat@else.test", "subscription": "digest"},
    ]


@pytest.mark.parametrize("how,after", HOWS)
@pytest.mark.parametrize(
    "method,path",
    [("GET", f"/{TEAM}$"), ("PUT", f"/{TEAM}$"), ("POST", "/subscribers$")],
    ids=["read", "settings", "subscribers"],
)
@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite", "postgresql", "openldap")
async def test_an_update_is_cut_at_the_list_server(
    lists: Lists, method: str, path: str, how: str, after: bool
) -> None:
    await lists.create(**CREATE)
    before = await state(lists)
    # Twice, because a safe call is retried; then it works, so that it can be undone.
    lists.admin.fail(method, path, how, after=after, times=3 if method == "GET" else 2)
    status, code, _ = await lists.root.refused("PUT", f"ml/{TEAM}", **UPDATE)
    assert (status, code) == (503, CODES[how])
    lists.admin.clear()
    assert await whole(lists)
    now = await state(lists)
    if how not in {"hang", "error"}:
        assert now == before
    assert now[1:] == before[1:], "rows changed"
    await lists.update(**UPDATE)
    await updated(lists)


@pytest.mark.parametrize(
    "obstacle", [".listaddress.part", "digesters.d/c"], ids=["settings", "subscribers"]
)
@pytest.mark.list_servers("spool")
@pytest.mark.stores("sqlite", "openldap")
async def test_an_update_is_cut_in_the_spool(lists: Lists, obstacle: str) -> None:
    """A directory where a file is to be written, after others were: they are written back."""
    await lists.create(**CREATE)
    before = await state(lists)
    (lists.directory() / obstacle).mkdir()
    status, code, _ = await lists.root.refused("PUT", f"ml/{TEAM}", **UPDATE)
    assert (status, code) == (503, "LIST_SPOOL_ERROR")
    (lists.directory() / obstacle).rmdir()
    assert await state(lists) == before
    await lists.update(**UPDATE)
    await updated(lists)


@pytest.mark.list_servers("spool")
@pytest.mark.stores("sqlite", "openldap")
async def test_a_deletion_is_cut_in_the_spool(lists: Lists) -> None:
    await lists.create(**CREATE)
    lists.archive.rmdir()
    lists.archive.write_text("")
    status, code, _ = await lists.root.refused("DELETE", f"ml/{TEAM}")
    assert (status, code) == (503, "LIST_SPOOL_ERROR")
    assert not await whole(lists)
    lists.archive.unlink()
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert await lists.row() is None
    assert not lists.directory().exists()
    assert len(list(lists.archive.glob(f"{DOMAIN}/team-*/team/control/listaddress"))) == 1


@pytest.mark.parametrize("confirm", ["yes", "no"])
async def test_a_row_that_looks_as_wanted_is_no_success(
    lists: Lists, confirm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list server refuses, and another request has written the same values."""
    await lists.create(**CREATE)
    before = await lists.get(with_subscribers="yes")
    list_server = lists.service.context.list_server
    assert list_server is not None
    server = type(list_server)
    original = server.save

    async def save(*args: Any) -> None:
        monkeypatch.setattr(server, "save", original)
        await lists.rename_row("New")
        await original(*args)

    monkeypatch.setattr(server, "save", save)
    lists.admin.fail("PUT", f"/{TEAM}$", "error")
    if lists.kind == "spool":
        (lists.directory() / ".name.part").mkdir()
    form = {"name": "New", "add_subscribers": "cat@else.test", "require_confirm": confirm}
    status, code, _ = await lists.root.refused("PUT", f"ml/{TEAM}", **form)
    expected = "LIST_SPOOL_ERROR" if lists.kind == "spool" else "MLMMJADMIN_ERROR"
    assert (status, code) == (503, expected)
    assert lists.control("name") == "Team\n"
    assert (await lists.get(with_subscribers="yes"))["subscribers"] == before["subscribers"]


@pytest.mark.parametrize("after", [False, True])
async def test_an_update_is_cut_at_the_commit(lists: Lists, after: bool) -> None:
    await lists.create(**CREATE)
    before = await state(lists)
    with failing_commit(lists, after=after):
        status, answer = await lists.root.call("PUT", f"ml/{TEAM}", data=UPDATE)
    if status == 200:
        assert after
    else:
        assert not after or lists.store.name == "openldap"
        assert status in (500, 503), answer
        assert await state(lists) == before
        await lists.update(**UPDATE)
    await updated(lists)


@pytest.mark.parametrize("how,after", HOWS)
@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite", "postgresql", "openldap")
async def test_a_deletion_is_cut_at_the_list_server(lists: Lists, how: str, after: bool) -> None:
    await lists.create(**CREATE)
    lists.admin.fail("DELETE", f"/{TEAM}$", how, after=after, times=2)
    status, code, _ = await lists.root.refused("DELETE", f"ml/{TEAM}")
    assert (status, code) == (503, CODES[how])
    # It may be half removed, so it is disabled, unless the server did nothing.
    assert await whole(lists) == (how == "token")
    lists.admin.clear()
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert await lists.row() is None
    assert await lists.routes() == []
    assert not lists.directory().exists()


@pytest.mark.parametrize("step", [0, 1], ids=["switched-off", "removed"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_deletion_is_cut_at_a_commit(lists: Lists, step: int, after: bool) -> None:
    await lists.create(**CREATE)
    with failing_commit(lists, after=after, skip=step):
        status, answer = await lists.root.call("DELETE", f"ml/{TEAM}")
    assert status in (500, 503), answer
    if step == 0 and (not after or lists.store.name == "openldap"):
        await created(lists)
    else:
        assert not await whole(lists)
    if await lists.row() is None:
        return
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert await lists.row() is None
    assert not lists.directory().exists()


async def test_what_is_left_of_a_list_without_a_row_can_be_deleted(lists: Lists) -> None:
    await lists.create()
    await lists.forget()
    await lists.user("team")  # somebody else has the address now
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert not lists.directory().exists()
    assert (await lists.root.ok("GET", f"user/{TEAM}"))["accountStatus"] in ("active", ["active"])


async def test_a_list_without_a_directory(lists: Lists) -> None:
    await lists.create()
    lists.directory().rename(lists.archive / "elsewhere")
    for method in ("GET", "PUT"):
        status, code, _ = await lists.root.refused(method, f"ml/{TEAM}", name="x")
        assert (status, code) == (503, "MAILING_LIST_DATA_MISSING")
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert await lists.row() is None


# Calls that are retried, and calls that are not --------------------------------------------------


def sent(lists: Lists, method: str, path: str) -> int:
    return lists.admin.calls.count((method, f"/api/{path}"))


@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite")
async def test_what_may_not_be_repeated_is_sent_once(lists: Lists) -> None:
    """Creating an existing list destroys it; a second invitation invalidates the first."""
    lists.admin.fail("POST", f"/{TEAM}$", "close", after=True)
    await lists.root.refused("POST", f"ml/{TEAM}")
    assert sent(lists, "POST", TEAM) == 1
    await lists.create()
    lists.admin.calls.clear()
    lists.admin.fail("POST", "/subscribers$", "close", after=True)
    status, code, _ = await lists.root.refused("PUT", f"ml/{TEAM}", add_subscribers="ann@else.test")
    assert (status, code) == (503, "MLMMJADMIN_BAD_RESPONSE")
    assert sent(lists, "POST", f"{TEAM}/subscribers") == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite")
async def test_what_may_be_repeated_survives_a_broken_connection(lists: Lists, after: bool) -> None:
    await lists.create()
    for method, path in (("GET", ""), ("PUT", f"/{TEAM}$"), ("POST", "/subscribers$")):
        lists.admin.fail(method, path, "close", after=after)
    await lists.update(name="Team", add_subscribers="ann@else.test", require_confirm="no")
    shown = await lists.get(with_subscribers="yes")
    assert (shown["name"], len(shown["subscribers"])) == ("Team", 1)
    lists.admin.fail("DELETE", f"/{TEAM}$", "close", after=after)
    await lists.root.ok("DELETE", f"ml/{TEAM}")
    assert not lists.directory().exists()


@pytest.mark.list_servers("mlmmjadmin")
@pytest.mark.stores("sqlite")
async def test_a_lost_update_is_noticed(lists: Lists) -> None:
    """Another writer overwrote a file of subscribers between mlmmjadmin's reading and writing."""
    await lists.create(subscribers="ann@else.test", require_confirm="no")
    form = {"add_subscribers": "bob@else.test", "remove_subscribers": "ann@else.test"}
    lists.admin.fail("POST", "/subscribers$", "lost", times=9)
    status, code, _ = await lists.root.refused("PUT", f"ml/{TEAM}", **form, require_confirm="no")
    assert (status, code) == (503, "MLMMJADMIN_ERROR")
    lists.admin.clear()
    assert lists.subscribers() == ["ann@else.test"]
    lists.admin.fail("POST", "/subscribers$", "lost", times=2)
    await lists.update(remove_subscribers="ann@else.test")
    assert lists.subscribers() == []
    lists.admin.fail("POST", "/subscribers$", "lost", times=2)
    await lists.update(add_subscribers="bob@else.test", require_confirm="no")
    assert lists.subscribers() == ["bob@else.test"]


@pytest.mark.list_servers("spool")
async def test_a_domain_that_changes_while_its_lists_are_removed(lists: Lists) -> None:
    """``If-Match`` is compared again when the domain itself is removed: it stays as it is now."""
    root, path = lists.root, f"domain/{DOMAIN}"
    server = lists.service.context.list_server
    assert server is not None
    original = type(server).remove

    async def remove(self: Any, address: str, *, archive: bool) -> None:
        # In a context of its own, as each request of a server has.
        await asyncio.create_task(root.ok("PUT", path, name="Changed by another client"))
        await original(self, address, archive=archive)

    async def delete() -> int:
        tag = (await root.http.get(path)).headers["etag"]
        return (await root.http.delete(path, headers={"If-Match": tag})).status_code

    await root.ok("POST", f"ml/{TEAM}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(server), "remove", remove)
        assert await delete() == 412
    shown = await root.ok("GET", path, view="canonical")
    assert (shown["name"], shown["existingLists"]) == ("Changed by another client", 0)
    # A list to which the domain's catch-all leads: its removal changes the domain.
    await root.ok("POST", f"ml/{TEAM}")
    await root.ok("PUT", path, catchall=TEAM)
    assert await delete() == 200
