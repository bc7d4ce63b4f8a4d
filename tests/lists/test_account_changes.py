"""Users are deleted and renamed: requests to the list server, and what if it does not answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.clients import serving
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.mlmmjadmin import TOKEN
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.list_servers("mlmmjadmin")]
BOB, NEW = f"bob@{DOMAIN}", f"robert@{DOMAIN}"


async def made(lists: Lists, number: int, **form: Any) -> list[str]:
    names = [f"l{index:02}@{DOMAIN}" for index in range(number)]
    for name in names:
        await lists.create(name, **form)
    lists.service.context.list_owners_and_moderators.invalidate()
    lists.admin.calls.clear()
    return names


def called(lists: Lists) -> int:
    number = len(lists.admin.calls)
    lists.admin.calls.clear()
    return number


@pytest.mark.stores("sqlite", "openldap")
async def test_users_without_lists_cost_one_call_each(lists: Lists) -> None:
    """And the first of half a minute one for each list of the domain."""
    users = [f"u{number:02}" for number in range(20)]
    await lists.user(*users)
    await made(lists, 50)
    await lists.root.ok("DELETE", f"user/{users[0]}@{DOMAIN}")
    assert called(lists) == 50 + 1
    for name in users[1:]:
        await lists.root.ok("DELETE", f"user/{name}@{DOMAIN}")
    assert called(lists) == len(users) - 1


@pytest.mark.stores("sqlite", "openldap")
@pytest.mark.parametrize("renamed", [True, False])
async def test_a_user_in_all_lists(lists: Lists, renamed: bool) -> None:
    await lists.user("bob")
    names = await made(
        lists, 10, owner=f"{BOB},ann@else.test", subscription_moderators=BOB, subscribers=BOB,
        require_confirm="no",
    )  # fmt: skip
    if renamed:
        answer = await lists.root.ok("PUT", f"user/{BOB}/change_email/{NEW}")
    else:
        answer = await lists.root.ok("DELETE", f"user/{BOB}")
    assert "_skipped" not in answer
    # One call for all subscriptions. Then for each list: its settings read and written (twice when
    # the owners moderate from now on), and each subscription looked up, changed, looked up again.
    assert called(lists) == 1 + 10 * (8 if renamed else 6)
    who = [NEW] if renamed else []
    for name in (names[0], names[-1]):
        shown = await lists.get(name, with_subscribers="yes")
        assert shown["owner"] == ["ann@else.test", *who]
        assert shown["subscription_moderators"] == who
        assert [item["mail"] for item in shown["subscribers"]] == who


@pytest.mark.stores("sqlite", "openldap")
async def test_what_is_remembered_is_forgotten_with_a_change(lists: Lists) -> None:
    """A new moderator of subscriptions is found, although older settings were cached."""
    await lists.user("ann", "bob")
    await lists.create()
    await lists.root.ok("DELETE", f"user/ann@{DOMAIN}")
    await lists.update(subscription_moderators=f"{BOB},zoe@else.test")
    await lists.root.ok("DELETE", f"user/{BOB}")
    assert lists.control("submod") == "zoe@else.test\n"


@pytest.mark.stores("postgresql", "openldap")
async def test_twenty_users_of_one_list_go_at_once(lists: Lists) -> None:
    users = [f"u{number:02}" for number in range(20)]
    mails = [f"{name}@{DOMAIN}" for name in users]
    await lists.user(*users)
    await lists.create(
        owner=",".join([*mails, "ann@else.test"]), subscribers=",".join(mails), require_confirm="no"
    )
    answers = await asyncio.gather(*(lists.root.ok("DELETE", f"user/{mail}") for mail in mails))
    assert [answer for answer in answers if "_skipped" in answer] == []
    shown = await lists.get(with_subscribers="yes")
    assert (shown["owner"], shown["subscribers"]) == (["ann@else.test"], [])
    assert await lists.people("maillist_owners", "owner") == ["ann@else.test"]


@pytest.mark.stores("sqlite")
async def test_an_admin_of_one_domain_carries_people_out_of_lists_elsewhere(lists: Lists) -> None:
    await lists.user("bob")
    await lists.root.ok("POST", "domain/other.test")
    address = "club@other.test"
    await lists.create(address, owner=f"{BOB},ann@else.test", subscribers=BOB, require_confirm="no")
    admin = await lists.service.admin_of(DOMAIN)
    answer = await admin.ok("DELETE", f"user/{BOB}")
    assert "_skipped" not in answer
    shown = await lists.get(address, with_subscribers="yes")
    assert (shown["owner"], shown["subscribers"]) == (["ann@else.test"], [])
    assert await lists.people("maillist_owners", "owner", address) == ["ann@else.test"]


@pytest.mark.stores(*ALL_STORES)
async def test_a_broken_list_does_not_keep_the_others(lists: Lists) -> None:
    await lists.user("bob")
    for name in ("a", "b", "c"):
        await lists.create(
            f"{name}@{DOMAIN}", owner=f"{BOB},ann@else.test", subscribers=BOB, require_confirm="no"
        )
    lists.admin.fail("PUT", f"/b@{DOMAIN}$", "error", times=9)
    answer = await lists.root.ok("DELETE", f"user/{BOB}")
    assert answer["_skipped"] == [
        {"param": "mailing_lists", "value": f"b@{DOMAIN}", "reason": "MLMMJADMIN_ERROR"}
    ]
    for name in ("a", "c"):
        shown = await lists.get(f"{name}@{DOMAIN}", with_subscribers="yes")
        assert (shown["owner"], shown["subscribers"]) == (["ann@else.test"], [])
    # The next user with the address has no rights: the rows that iRedAPD reads are removed.
    assert await lists.people("maillist_owners", "owner", f"b@{DOMAIN}") == ["ann@else.test"]


@pytest.mark.stores("sqlite", "openldap")
async def test_a_hung_list_server_delays_only_briefly(lists: Lists) -> None:
    """Each is reported; the first waits for the time-out (five seconds), the next only briefly."""
    await lists.user("bob", "cat")
    await lists.create(owner=f"{BOB},cat@{DOMAIN}")
    lists.admin.fail("GET", "", "hang", times=999)
    given = {
        "mlmmjadmin_url": lists.admin.url,
        "mlmmjadmin_token": TOKEN,
        "mlmmjadmin_timeout": 5.0,
    }
    async with serving(lists.store, **given) as patient:
        root = await patient.root()
        for mail, most, reason in (
            (BOB, 8, "MLMMJADMIN_TIMEOUT"),
            (f"cat@{DOMAIN}", 4, "SERVER_DOWN"),
        ):
            started = time.monotonic()
            answer = await root.ok("DELETE", f"user/{mail}")
            assert time.monotonic() - started < most
            # And the addresses and lists for a manual clean-up.
            assert [(item["value"], item["reason"]) for item in answer["_skipped"]] == [
                (mail, reason),
                (TEAM, reason),
            ]
    assert await lists.root.ok("GET", f"users/{DOMAIN}", email_only="yes") == []


@pytest.mark.stores("sqlite")
async def test_new_users_do_not_wait_for_a_hung_list_server(lists: Lists) -> None:
    names = [f"l{number}@{DOMAIN}" for number in range(5)]
    for name in names:
        await lists.create(name)
    await lists.store.execute(
        "UPDATE domain SET settings = :s", s=f"default_mailing_lists:{','.join(names)};"
    )
    lists.admin.fail("GET", "", "hang", times=999)
    started = time.monotonic()
    answer = await lists.root.ok("POST", f"user/{BOB}", password="Corr3ct-Horse")
    assert time.monotonic() - started < 5
    assert [item["value"] for item in answer["_skipped"]] == names
