"""``mailing_lists`` of a user's profile, with a working, slow and failed list server."""

from __future__ import annotations

import time

import pytest

from tests.clients import serving
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
BOB = f"bob@{DOMAIN}"
REASONS = {"spool": "LIST_SPOOL_ERROR", "mlmmjadmin": "MLMMJADMIN_UNREACHABLE"}


async def test_subscriptions_of_every_kind_are_shown(lists: Lists) -> None:
    """A list is not in the profile after an unsubscription, also by mail."""
    await lists.user("bob", "ann")
    await lists.root.ok("POST", "domain/other.test")
    club, news = "club@other.test", f"news@{DOMAIN}"
    await lists.create(subscribers=BOB, require_confirm="no")
    await lists.create(club, subscribers=BOB, require_confirm="no", subscription="digest")
    await lists.create(news, subscribers=f"ann@{DOMAIN}", require_confirm="no")
    expected = [club, TEAM]
    if lists.store.name == "openldap":
        await lists.root.ok("POST", f"maillist/all@{DOMAIN}", members=BOB)
        expected.append(f"all@{DOMAIN}")
    answer = await lists.root.call("GET", f"user/{BOB}")
    assert answer[1]["_data"]["mailing_lists"] == sorted(expected)
    assert "_skipped" not in answer[1]
    for address in (TEAM, club):
        await lists.update(address, remove_subscribers=BOB)
    shown = await lists.root.ok("GET", f"user/{BOB}")
    assert shown["mailing_lists"] == sorted(set(expected) - {TEAM, club})


async def test_a_stopped_list_server_does_not_fail_profiles(lists: Lists) -> None:
    """The profile is returned, and ``_skipped`` says what is missing and why."""
    await lists.user("bob")
    await lists.create(subscribers=BOB, require_confirm="no")
    before = await lists.root.ok("GET", f"user/{BOB}")
    lists.stop()
    try:
        for _ in range(3):
            status, answer = await lists.root.call("GET", f"user/{BOB}")
            assert status == 200
            assert answer["_skipped"] == [
                {"param": "mailing_lists", "value": BOB, "reason": REASONS[lists.kind]}
            ]
            shown = answer["_data"]
            assert shown.get("mailing_lists", []) == []
            assert {**before, "mailing_lists": []} == {**shown, "mailing_lists": []}
    finally:
        lists.start()
        lists.service.context.list_server_fails.invalidate()
    assert (await lists.root.ok("GET", f"user/{BOB}"))["mailing_lists"] == [TEAM]


@pytest.mark.list_servers("mlmmjadmin")
async def test_a_hung_list_server_delays_once(lists: Lists) -> None:
    await lists.user("bob")
    await lists.create()  # without any list nobody is asked
    lists.admin.fail("GET", "/subscribed", "hang", times=9)
    started = time.monotonic()
    for _ in range(3):
        status, answer = await lists.root.call("GET", f"user/{BOB}")
        assert (status, answer["_skipped"][0]["reason"]) == (200, "MLMMJADMIN_TIMEOUT")
    assert time.monotonic() - started < 5
    lists.service.context.list_server_fails.invalidate()


async def test_without_a_list_server_nothing_is_said(store: Store) -> None:
    """Without a list server: SQL has no subscriptions, LDAP has ``memberOfGroup``."""
    async with serving(store) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password="Corr3ct-Horse")
        status, answer = await root.call("GET", "user/u@ex.com")
        assert status == 200
        assert "_skipped" not in answer
        expected: list[str] | None = [] if store.name == "openldap" else None
        assert answer["_data"].get("mailing_lists") == expected
