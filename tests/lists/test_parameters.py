"""Every parameter of the list operations: its file or row, its response, and its reset."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.domain.lists import DEFAULT_FLAGS, FLAGS
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.mlmmjadmin import BOOLEANS
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]
POSTERS = {"only_subscriber_can_post", "only_moderator_can_post"}


async def test_a_new_list_has_the_documented_defaults(lists: Lists) -> None:
    await lists.create()
    shown = await lists.get()
    on = {name for name in FLAGS if shown[name] == "yes"}
    assert on == DEFAULT_FLAGS | {"only_subscriber_can_post"}
    for name in FLAGS:
        assert (lists.control(BOOLEANS[name]) is not None) == (name in on), name
    postmaster = [f"postmaster@{DOMAIN}"]
    assert shown["owner"] == shown["moderators"] == postmaster
    assert lists.control("owner") == lists.control("moderators") == f"{postmaster[0]}\n"
    assert lists.control("listaddress") == f"{TEAM}\n"
    assert lists.control("tocc") == lists.control("ifmodsendonlymodmoderate") == ""
    assert lists.control("smtpport") == f"{lists.sink.port}\n"
    row = await lists.row()
    assert row is not None
    assert len(row["mlid"]) == 36
    assert {name: row[name] for name in ("domain", "transport", "accesspolicy", "active")} == {
        "domain": DOMAIN,
        "transport": f"mlmmj:{DOMAIN}/team",
        "accesspolicy": "membersonly",
        "active": 1,
    }
    assert await lists.routes() == [(TEAM, 1, 0, 1)]
    assert await lists.people("maillist_owners", "owner") == postmaster
    assert await lists.people("moderators", "moderator") == postmaster
    assert "subscribers" not in shown
    assert (await lists.get(with_subscribers="yes"))["subscribers"] == []


@pytest.mark.parametrize("first", ["yes", "no"])
async def test_each_switch(lists: Lists, first: str) -> None:
    names = [name for name in FLAGS if name not in POSTERS]
    await lists.create(**dict.fromkeys(names, first), moderators="ann@else.test")
    for name in names:
        assert (await lists.get())[name] == first, name
        for value in ("no", "yes") if first == "yes" else ("yes", "no"):
            await lists.update(**{name: value})
            assert (await lists.get())[name] == value, name
            assert (lists.control(BOOLEANS[name]) is not None) == (value == "yes"), name
        answer = await lists.root.refused("PUT", f"ml/{TEAM}", **{name: "maybe"})
        assert answer == (400, "INVALID_VALUE", [name])
        assert (await lists.get())[name] == value, name


SETTINGS: dict[str, tuple[str, Any, str, str, Any]] = {
    # value, in the response, control file, its content, in the response when cleared
    "name": ("Team ü", "Team ü", "name", "Team ü\n", ""),
    "max_message_size": ("10240", 10240, "maxmailsize", "10240\n", 0),
    "subject_prefix": ("[team] ", "[team] ", "prefix", "[team] \n", ""),
    "remove_headers": (
        "Received, Message-ID:",
        ["Message-ID:", "Received:"],
        "delheaders",
        "Message-ID:\nReceived:\n",
        [],
    ),
    "owner": ("ann@else.test", ["ann@else.test"], "owner", "ann@else.test\n", []),
    "moderators": (
        "zoe@else.test,ann@else.test",
        None,
        "moderators",
        "zoe@else.test\nann@else.test\n",
        [],
    ),
    "subscription_moderators": (
        "ann@else.test",
        ["ann@else.test"],
        "submod",
        "ann@else.test\n",
        [],
    ),
    "extra_addresses": (
        f"crew@{DOMAIN}",
        [f"crew@{DOMAIN}"],
        "listaddress",
        f"{TEAM}\ncrew@{DOMAIN}\n",
        [],
    ),
    "footer_text": ("Bye\r\nnow", "Bye\nnow", "footer_text", "Bye\nnow\n", ""),
    "footer_html": ("<p>Bye</p>", "<p>Bye</p>", "footer_html", "<p>Bye</p>\n", ""),
}


@pytest.mark.parametrize("early", [True, False], ids=["created", "updated"])
async def test_each_setting(lists: Lists, early: bool) -> None:
    for number, (name, (value, shown, file, expected, cleared)) in enumerate(SETTINGS.items()):
        address = f"l{number}@{DOMAIN}"
        content = expected.replace(TEAM, address)
        await lists.create(address, **({name: value} if early else {}))
        if not early:
            await lists.update(address, **{name: value})
        found = (await lists.get(address))[name]
        if shown is None:
            assert sorted(found) == sorted(value.split(",")), name
        else:
            assert found == shown, name
        assert lists.control(file, address) == content, name
        await lists.update(address, **{name: ""})
        assert (await lists.get(address))[name] == cleared, name
        left = lists.control(file, address)
        assert left == (f"{address}\n" if name == "extra_addresses" else None), name


WRONG = {
    "name": "a\nb",
    "accountStatus": "perhaps",
    "accessPolicy": "membersandmoderatorsonly",
    "is_newsletter": "2",
    "newsletter_description": "x" * 1025,
    "max_message_size": "-1",
    "subject_prefix": "a\r\nBcc: eve@else.test",
    "custom_headers": "No header",
    "remove_headers": "Rec eived",
    "owner": "nobody",
    "moderators": "nobody",
    "subscription_moderators": "nobody",
    "moderate_subscription": "x",
    "extra_addresses": "a+b@list.test",
    "footer_text": "a\0b",
    "footer_html": "<p>" + "x" * 1_000_000,
    "require_confirm": "x",
    "subscription": "sometimes",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_what_is_wrong_is_named(lists: Lists, name: str) -> None:
    form = {name: WRONG[name]}
    status, _, params = await lists.root.refused("POST", f"ml/{TEAM}", **form)
    assert (status, params) == (400, [name])
    assert await lists.row() is None
    assert not lists.directory().exists()
    await lists.create()
    before = {path.name: path.read_text() for path in (lists.directory() / "control").iterdir()}
    status, _, params = await lists.root.refused("PUT", f"ml/{TEAM}", **form)
    assert (status, params) == (400, [name])
    after = {path.name: path.read_text() for path in (lists.directory() / "control").iterdir()}
    assert before == after


async def test_rows_beside_the_control_files(lists: Lists) -> None:
    await lists.user("boss")
    await lists.create(
        name="Team",
        is_newsletter="yes",
        newsletter_description="News",
        max_message_size="5",
        owner=f"boss@{DOMAIN}",
        moderators=f"boss@{DOMAIN},ann@else.test",
        extra_addresses=f"crew@{DOMAIN}",
    )
    row = await lists.row()
    assert row is not None
    assert (row["name"], row["is_newsletter"], row["description"], row["maxmsgsize"]) == (
        "Team",
        1,
        "News",
        5,
    )
    assert lists.control("enable_newsletter_subscription") == ""
    assert await lists.people("maillist_owners", "owner") == [f"boss@{DOMAIN}"]
    assert await lists.people("moderators", "moderator") == ["ann@else.test", f"boss@{DOMAIN}"]
    assert await lists.routes() == [(f"crew@{DOMAIN}", 0, 1, 1), (TEAM, 1, 0, 1)]
    await lists.update(
        name="",
        is_newsletter="no",
        newsletter_description="",
        max_message_size="",
        owner="",
        moderators="",
        extra_addresses="",
    )
    row = await lists.row()
    assert row is not None
    assert (row["name"], row["is_newsletter"], row["description"], row["maxmsgsize"]) == (
        "",
        0,
        "",
        0,
    )
    assert lists.control("enable_newsletter_subscription") is None
    assert await lists.people("maillist_owners", "owner") == []
    assert await lists.people("moderators", "moderator") == []
    assert await lists.routes() == [(TEAM, 1, 0, 1)]
    shown = await lists.get()
    assert (shown["owner"], shown["moderators"], shown["is_newsletter"]) == ([], [], "no")


async def test_a_disabled_list_has_no_route(lists: Lists) -> None:
    await lists.create(accountStatus="disabled", extra_addresses=f"crew@{DOMAIN}")
    for active, word in ((0, "disabled"), (1, "active"), (0, "disabled")):
        await lists.update(accountStatus=word)
        row = await lists.row()
        assert row is not None
        assert row["active"] == active
        assert {route[3] for route in await lists.routes()} == {active}
        assert (await lists.get())["accountStatus"] == word


async def test_a_policy_decides_the_flags(lists: Lists) -> None:
    flags = {
        "public": "",
        "domain": "",
        "subdomain": "",
        "membersonly": "only_subscriber_can_post",
        "moderatorsonly": "only_moderator_can_post",
    }
    for policy, flag in flags.items():
        address = f"{policy}@{DOMAIN}"
        await lists.create(address, accessPolicy=policy)
        for other in flags:
            shown = await lists.get(address)
            assert shown["accessPolicy"] == policy
            assert {name for name in POSTERS if shown[name] == "yes"} == {flag} - {""}
            for name in POSTERS:
                assert (lists.control(BOOLEANS[name], address) is not None) == (name == flag)
            row = await lists.row(address)
            assert row is not None
            assert row["accesspolicy"] == policy
            await lists.update(address, accessPolicy=other)
            await lists.update(address, accessPolicy=policy)


@pytest.mark.list_servers("spool")
@pytest.mark.sql_only("other addresses are values of the list's own entry")
async def test_extra_addresses_go_in_any_spelling(lists: Lists) -> None:
    await lists.create(extra_addresses=f"crew@{DOMAIN}")
    row = {"forwarding": f" {TEAM.title()}", "domain": DOMAIN, "dest_domain": DOMAIN, "is_alias": 1}
    for name in ("old", "older"):
        await lists.store.insert("forwardings", {"address": f"{name}@{DOMAIN}", **row})

    async def active() -> list[str]:
        rows = await lists.store.rows(
            "SELECT address FROM forwardings WHERE active = 1 ORDER BY address"
        )
        return [row["address"].partition("@")[0] for row in rows]

    await lists.update(accountStatus="disabled")
    assert await active() == []
    await lists.update(accountStatus="active")
    assert await active() == ["crew", "old", "older", "team"]
    answer = await lists.update(extra_addresses=f"old@{DOMAIN}")
    assert answer["_changed"] == ["extra_addresses"]
    assert await active() == ["old", "team"]
    await lists.update(extra_addresses="")
    assert await active() == ["team"]


@pytest.mark.list_servers("spool")
async def test_an_ineffective_policy_is_refused(lists: Lists) -> None:
    """iRedAPD finds no policy under a list's extra addresses in SQL; in LDAP it does."""
    extra = f"crew@{DOMAIN}"
    conflict = (400, "CONFLICTING_PARAMETERS", ["accessPolicy", "extra_addresses"])

    async def combine(method: str, address: str, **form: str) -> None:
        path = f"ml/{address}"
        if lists.store.name != "openldap":
            before = lists.control("listaddress", address)
            assert await lists.root.refused(method, path, **form) == conflict, form
            assert lists.control("listaddress", address) == before
            form["open_extra_addresses"] = "yes"
        await lists.root.ok(method, path, **form)
        shown = await lists.get(address)
        assert (shown["accessPolicy"], bool(shown["extra_addresses"])) == (policy, True)

    for policy in ("domain", "subdomain"):
        await combine("POST", TEAM, accessPolicy=policy, extra_addresses=extra)
        # What is like that may be changed otherwise, and made less.
        await lists.update(name="Team", extra_addresses=extra, accessPolicy=policy)
        await combine("PUT", TEAM, extra_addresses=f"{extra},new@{DOMAIN}")
        await lists.update(extra_addresses="")
        await combine("PUT", TEAM, extra_addresses=extra)
        await lists.update(accessPolicy="membersonly")
        await combine("PUT", TEAM, accessPolicy=policy)
        await lists.update(accessPolicy="public")
        await combine("PUT", TEAM, accessPolicy=policy)
        await lists.root.ok("DELETE", f"ml/{TEAM}")


async def test_flags_decide_the_policy(lists: Lists) -> None:
    await lists.create(only_moderator_can_post="yes")
    assert (await lists.get())["accessPolicy"] == "moderatorsonly"
    await lists.update(only_subscriber_can_post="yes")
    shown = await lists.get()
    assert (shown["accessPolicy"], shown["only_moderator_can_post"]) == ("membersonly", "no")
    await lists.update(only_subscriber_can_post="no")
    assert (await lists.get())["accessPolicy"] == "public"
    await lists.update(accessPolicy="subdomain")
    await lists.update(only_subscriber_can_post="no", only_moderator_can_post="no")
    assert (await lists.get())["accessPolicy"] == "subdomain"
    await lists.update(only_subscriber_can_post="yes", only_moderator_can_post="yes")
    assert (await lists.get())["accessPolicy"] == "moderatorsonly"
    await lists.update(accessPolicy="allowedonly")
    refused = await lists.root.refused(
        "PUT", f"ml/{TEAM}", accessPolicy="domain", only_subscriber_can_post="yes"
    )
    assert refused == (400, "CONFLICTING_PARAMETERS", ["accessPolicy", "only_subscriber_can_post"])


async def test_moderators_of_subscriptions(lists: Lists) -> None:
    await lists.create(moderate_subscription="yes")
    assert lists.control("submod") == ""
    await lists.update(subscription_moderators="ann@else.test")
    assert lists.control("submod") == "ann@else.test\n"
    # The owners moderate; the former moderators are removed.
    await lists.update(moderate_subscription="yes", subscription_moderators="")
    assert lists.control("submod") == ""
    await lists.update(moderate_subscription="no")
    assert lists.control("submod") is None
    # None of them exists: the owners moderate, and ``_skipped`` names them.
    answer = await lists.update(subscription_moderators=f"ghost@{DOMAIN}")
    assert answer["_skipped"] == [
        {
            "param": "subscription_moderators",
            "value": f"ghost@{DOMAIN}",
            "reason": "NO_SUCH_ACCOUNT",
        }
    ]
    assert lists.control("submod") == ""
    assert (await lists.get())["moderate_subscription"] == "yes"
    await lists.update(subscription_moderators="")
    assert lists.control("submod") is None


async def test_a_moderated_list_has_a_moderator(lists: Lists) -> None:
    refused = await lists.root.refused("POST", f"ml/{TEAM}", moderated="yes")
    assert refused == (400, "MISSING_COMPANION", ["moderated"])
    await lists.create(moderated="yes", owner="ann@else.test")
    assert lists.control("moderators") == "ann@else.test\n"
    assert await lists.people("moderators", "moderator") == ["ann@else.test"]
    await lists.update(moderators="zoe@else.test")
    refused = await lists.root.refused("PUT", f"ml/{TEAM}", moderators="", owner="")
    assert refused == (400, "MISSING_COMPANION", ["moderated"])
    await lists.update(moderators="")
    assert lists.control("moderators") == "ann@else.test\n"


async def test_lesson_26_headers(lists: Lists) -> None:
    await lists.create(custom_headers="X-B: 2\\nX-A:1\nX-C: 3\r\n")
    fixed = [
        "Precedence: bulk",
        f"List-Id: <{TEAM}>",
        f"Reply-To: {TEAM}",
        f"List-Post: <mailto:{TEAM}>",
        f"List-Subscribe: <mailto:team+subscribe@{DOMAIN}?subject=Subscribe>",
        f"List-Unsubscribe: <mailto:team+unsubscribe@{DOMAIN}?subject=Unsubscribe>",
    ]
    content = lists.control("customheaders")
    assert content is not None
    assert content.split("\n")[:3] == ["X-A:1", "X-B: 2", "X-C: 3"]
    shown = (await lists.get())["custom_headers"]
    assert shown == sorted(["X-A:1", "X-B: 2", "X-C: 3", *fixed])
    await lists.update(custom_headers="\n".join(shown))
    assert (await lists.get())["custom_headers"] == shown
    assert sorted(filter(None, (lists.control("customheaders") or "").split("\n"))) == shown
    for bad in ("Reply-To: eve@else.test", "X-A: 1\rBcc: eve@else.test", "X A: 1", "X-A : 1"):
        status, _, params = await lists.root.refused("PUT", f"ml/{TEAM}", custom_headers=bad)
        assert (status, params) == (400, ["custom_headers"]), bad
    for param in ("subject_prefix", "name"):
        for bad in ("a\r\nBcc: eve@else.test", "a\rb", "a\nb"):
            refused = await lists.root.refused("PUT", f"ml/{TEAM}", **{param: bad})
            assert (refused[0], refused[2]) == (400, [param]), bad
    assert (await lists.get())["custom_headers"] == shown
    await lists.update(custom_headers="")
    assert (await lists.get())["custom_headers"] == sorted(fixed)


@pytest.mark.stores("sqlite", "openldap")
async def test_people_are_in_one_order_everywhere(lists: Lists) -> None:
    some, others = "zoe@else.test,ann@else.test,mia@else.test", "mia@else.test,zoe@else.test"
    extra = f"z@{DOMAIN},c@{DOMAIN}"
    await lists.create(
        owner=some, moderators=some, subscription_moderators=some, extra_addresses=extra
    )
    for sent in (some, others, some):
        people = dict.fromkeys(("owner", "moderators", "subscription_moderators"), sent)
        await lists.update(**people)
        shown = await lists.get()
        assert {name: shown[name] for name in people} == {
            name: sorted(sent.split(",")) for name in people
        }
        assert shown["extra_addresses"] == [f"c@{DOMAIN}", f"z@{DOMAIN}"]
        assert lists.control("owner") == "".join(f"{mail}\n" for mail in sorted(sent.split(",")))


@pytest.mark.stores("sqlite", "openldap")
async def test_headers_of_lists_made_before(lists: Lists) -> None:
    """Without ?subject=…: they may be sent back, and get it when something else changes."""
    await lists.create()
    new = (await lists.get())["custom_headers"]
    old = [line.partition("?")[0] + ">" * ("?" in line) for line in new]
    assert old != new
    control = lists.directory() / "control" / "customheaders"
    control.write_text("".join(f"{line}\n" for line in old))
    for sent in (old, new):
        await lists.update(custom_headers="\n".join(sent))
        assert (await lists.get())["custom_headers"] == old
    await lists.update(custom_headers="\n".join([*old, "X-A: 1"]))
    assert (await lists.get())["custom_headers"] == sorted([*new, "X-A: 1"])


async def test_footers_are_pairs(lists: Lists) -> None:
    await lists.create(footer_text="A & B")
    assert (await lists.get())["footer_html"] == "<p>A &amp; B</p>"
    await lists.update(footer_html="<b>B</b>")
    assert (await lists.get())["footer_text"] == "B"
    await lists.update(footer_text="A & B", footer_html="<b>B</b>")
    await lists.update(footer_html="<b>C</b>")
    shown = await lists.get()
    assert (shown["footer_text"], shown["footer_html"]) == ("A & B", "<b>C</b>")
    await lists.update(footer_html="")
    shown = await lists.get()
    assert (shown["footer_text"], shown["footer_html"]) == ("", "")
    assert lists.control("footer_text") is None
    await lists.update(footer_html="<b>C</b>")
    assert (await lists.get())["footer_text"] == "C"


async def test_extra_addresses(lists: Lists) -> None:
    await lists.user("bob")
    await lists.root.ok("POST", "domain/other.test")
    await lists.root.ok("PUT", f"domain/{DOMAIN}", addAliasDomain="twin.test")
    answer = await lists.create(
        extra_addresses=f"bob@{DOMAIN},bob@twin.test,crew@twin.test,crew@other.test"
    )
    assert sorted(item["value"] for item in answer["_skipped"]) == [
        f"bob@{DOMAIN}",
        "bob@twin.test",
    ]
    assert (await lists.get())["extra_addresses"] == ["crew@twin.test", "crew@other.test"] or (
        await lists.get()
    )["extra_addresses"] == ["crew@other.test", "crew@twin.test"]
    if lists.store.name == "openldap":
        # Nothing rewrites domains there: the list carries its address in the alias domain itself.
        assert [route[0] for route in await lists.routes()] == [
            "crew@other.test",
            "crew@twin.test",
            TEAM,
            "team@twin.test",
        ]
    else:
        rows = await lists.store.rows(
            "SELECT address, domain, dest_domain FROM forwardings WHERE forwarding = :a"
            " AND is_alias = 1 ORDER BY address",
            a=TEAM,
        )
        assert [tuple(row.values()) for row in rows] == [
            ("crew@other.test", "other.test", DOMAIN),
            ("crew@twin.test", DOMAIN, DOMAIN),
        ]
    listed = await lists.root.ok("GET", f"mls/{DOMAIN}")
    assert listed[0]["extra_addresses"] == ["crew@other.test", "crew@twin.test"]
    refused = await lists.root.refused("PUT", f"ml/{TEAM}", extra_addresses="a@foreign.test")
    assert refused == (400, "INVALID_DOMAIN_NAME", ["extra_addresses"])
    # An extra address is in use for everybody else.
    status, code, _ = await lists.root.refused(
        "POST", "user/crew@other.test", password="Corr3ct-Horse"
    )
    assert (status, code) == (409, "ALREADY_EXISTS")
    admin = await lists.service.admin_of(DOMAIN)
    refused = await admin.refused("PUT", f"ml/{TEAM}", extra_addresses="new@other.test")
    assert refused == (400, "INVALID_DOMAIN_NAME", ["extra_addresses"])


async def test_a_list_is_not_its_own_subscriber_owner_or_moderator(lists: Lists) -> None:
    """By none of its addresses: mlmmj 1.5 fails on one of them, and the others make mail loops."""
    await lists.root.ok("POST", "domain/other.test")
    await lists.root.ok("PUT", "domain/other.test", addAliasDomain="else-where.test")
    await lists.root.ok("PUT", f"domain/{DOMAIN}", addAliasDomain="twin.test")
    extra = {"extra_addresses": "crew@other.test"}
    params = ("add_subscribers", "owner", "moderators", "subscription_moderators")
    for param in ("subscribers", *params):
        form = {param: f"ann@else.test,{TEAM}", "require_confirm": "no"}
        refused = await lists.root.refused("POST", f"ml/{TEAM}", **form, **extra)
        assert refused == (400, "OWN_ADDRESS", [param])
    assert await lists.row() is None
    assert not lists.directory().exists()
    await lists.create(**extra, subscribers="ann@else.test,may@other.test", require_confirm="no")
    before = await lists.get(with_subscribers="yes")
    own = (
        "Team@List.Test", "team@twin.test", "team+subscribe@list.test", "CREW@other.test",
        "crew@else-where.test", "crew+x@other.test",
    )  # fmt: skip
    for number, mail in enumerate(own):
        for confirm in ("yes", "no"):
            param = params[number % 4] if confirm == "no" else "add_subscribers"
            form = {param: f"bob@else.test,{mail}", "require_confirm": confirm, "name": "New"}
            refused = await lists.root.refused("PUT", f"ml/{TEAM}", **form)
            assert refused == (400, "OWN_ADDRESS", [param]), mail
    # Sent together with the address, or as a new address of the list.
    form = {"extra_addresses": "new@other.test", "add_subscribers": "new@other.test"}
    refused = await lists.root.refused("PUT", f"ml/{TEAM}", **form)
    assert refused == (400, "OWN_ADDRESS", ["add_subscribers"])
    refused = await lists.root.refused("PUT", f"ml/{TEAM}", extra_addresses="may@other.test")
    assert refused == (400, "OWN_ADDRESS", ["extra_addresses"])
    assert await lists.get(with_subscribers="yes") == before
    # Another list, and the name of the list elsewhere, are other accounts.
    await lists.create(f"all@{DOMAIN}", subscribers=f"{TEAM},all@else.test", require_confirm="no")
    assert lists.subscribers(address=f"all@{DOMAIN}") == ["all@else.test", TEAM]
    # What another program has stored can be removed.
    path = lists.directory() / "subscribers.d" / "t"
    path.write_text(f"{TEAM}\n")
    await lists.update(remove_subscribers=TEAM)
    assert lists.subscribers() == ["ann@else.test", "may@other.test"]


async def test_listing(lists: Lists) -> None:
    assert await lists.root.ok("GET", f"mls/{DOMAIN}") == []
    await lists.create(f"b@{DOMAIN}", owner="ann@else.test")
    await lists.create(f"a@{DOMAIN}", extra_addresses=f"x@{DOMAIN}", name="A")
    assert await lists.root.ok("GET", f"mls/{DOMAIN}", email_only="yes") == [
        f"a@{DOMAIN}",
        f"b@{DOMAIN}",
    ]
    shown = await lists.root.ok("GET", f"mls/{DOMAIN}", email_only="no")
    assert [item["mail"] for item in shown] == [f"a@{DOMAIN}", f"b@{DOMAIN}"]
    full = await lists.get(f"a@{DOMAIN}")
    assert shown[0] == {name: full[name] for name in shown[0]}
    assert shown[1]["owner"] == ["ann@else.test"]
    assert (await lists.root.refused("GET", "mls/nowhere.test"))[1] == "NO_SUCH_DOMAIN"
    status, _, params = await lists.root.refused("GET", f"mls/{DOMAIN}", email_only="x")
    assert (status, params) == (400, ["email_only"])
    profile = await lists.root.ok("GET", f"domain/{DOMAIN}")
    assert profile["num_existing_maillists"] == 2


async def test_limits(lists: Lists) -> None:
    await lists.root.ok("PUT", f"domain/{DOMAIN}", numberOfLists="1")
    await lists.create()
    status, code, _ = await lists.root.refused("POST", f"ml/b@{DOMAIN}")
    assert (status, code) == (409, "EXCEEDED_DOMAIN_ACCOUNT_LIMIT")
    await lists.root.ok("PUT", f"domain/{DOMAIN}", numberOfLists="-1")
    status, code, _ = await lists.root.refused("POST", f"ml/b@{DOMAIN}")
    assert (status, code) == (403, "NOT_ALLOWED")
    assert not lists.directory(f"b@{DOMAIN}").exists()


async def test_an_address_is_used_once(lists: Lists) -> None:
    await lists.user("bob")
    await lists.create()
    for address in (TEAM, f"bob@{DOMAIN}"):
        status, code, _ = await lists.root.refused("POST", f"ml/{address}")
        assert (status, code) == (409, "ALREADY_EXISTS")
    for path in (f"user/{TEAM}", f"alias/{TEAM}"):
        status, code, _ = await lists.root.refused("POST", path, password="Corr3ct-Horse")
        assert (status, code) == (409, "ALREADY_EXISTS")
    status, code, _ = await lists.root.refused("POST", "ml/a@nowhere.test")
    assert (status, code) == (404, "NO_SUCH_DOMAIN")
    for method in ("GET", "PUT", "DELETE"):
        status, code, _ = await lists.root.refused(method, f"ml/ghost@{DOMAIN}")
        assert (status, code) == (404, "NO_SUCH_ACCOUNT")


@pytest.mark.parametrize("keep", ["yes", "no", None])
async def test_deletion(lists: Lists, keep: str | None) -> None:
    await lists.create(
        extra_addresses=f"crew@{DOMAIN}", subscribers="ann@else.test", require_confirm="no"
    )
    await lists.root.ok("POST", f"alias/all@{DOMAIN}", members=TEAM)
    await lists.root.ok("DELETE", f"ml/{TEAM}", **({"keep_archive": keep} if keep else {}))
    assert not lists.directory().exists()
    kept = list(lists.archive.glob(f"{DOMAIN}/team-*/team/control/listaddress"))
    assert len(kept) == (0 if keep == "no" else 1)
    assert (await lists.root.ok("GET", f"alias/all@{DOMAIN}"))["members"] == []
    assert await lists.row() is None
    assert await lists.routes() == []
    for table, column in (("maillist_owners", "owner"), ("moderators", "moderator")):
        assert await lists.people(table, column) == []
    assert (await lists.root.refused("DELETE", f"ml/{TEAM}"))[1] == "NO_SUCH_ACCOUNT"
    await lists.create()
    assert lists.subscribers() == []


@pytest.mark.stores("sqlite")
@pytest.mark.list_servers("spool")
async def test_a_doubtful_keep_archive_deletes_nothing(lists: Lists) -> None:
    await lists.create()
    status, _, params = await lists.root.refused("DELETE", f"ml/{TEAM}", keep_archive="x")
    assert (status, params) == (400, ["keep_archive"])
    assert lists.directory().exists()


async def test_the_canonical_view_is_the_same_everywhere(lists: Lists) -> None:
    """The same calls give the same JSON on every storage and list server."""
    await lists.user("boss")
    await lists.create(
        owner=f"zoe@else.test,boss@{DOMAIN}",
        subscription_moderators="b@else.test,a@else.test",
        extra_addresses=f"crew@{DOMAIN}",
        is_newsletter="yes",
        newsletter_description="News",
        max_message_size="1000",
        subscribers="ann@else.test",
        require_confirm="no",
    )
    stored = {
        "mail": TEAM,
        "name": "team",
        "accountStatus": "active",
        "accessPolicy": "membersonly",
        "is_newsletter": "yes",
        "newsletter_description": "News",
        "max_message_size": 1000,
        "owner": [f"boss@{DOMAIN}", "zoe@else.test"],
        "moderators": [f"postmaster@{DOMAIN}"],
        "extra_addresses": [f"crew@{DOMAIN}"],
    }
    assert await lists.root.ok("GET", f"mls/{DOMAIN}", view="canonical") == [stored]
    assert await lists.get(view="canonical", with_subscribers="yes") == stored | {
        "subscription_moderators": ["a@else.test", "b@else.test"],
        "moderate_subscription": "yes",
        "subject_prefix": "",
        "custom_headers": [
            f"List-Id: <{TEAM}>",
            f"List-Post: <mailto:{TEAM}>",
            f"List-Subscribe: <mailto:team+subscribe@{DOMAIN}?subject=Subscribe>",
            f"List-Unsubscribe: <mailto:team+unsubscribe@{DOMAIN}?subject=Unsubscribe>",
            "Precedence: bulk",
            f"Reply-To: {TEAM}",
        ],
        "remove_headers": [],
        "footer_text": "",
        "footer_html": "",
        **{
            name: "yes" if name in DEFAULT_FLAGS | {"only_subscriber_can_post"} else "no"
            for name in FLAGS
        },
        "subscribers": [{"mail": "ann@else.test", "subscription": "normal"}],
    }
    status, _, params = await lists.root.refused("GET", f"ml/{TEAM}", view="x")
    assert (status, params) == (400, ["view"])


async def test_what_a_list_has_already_leaves_no_trace(lists: Lists) -> None:
    """Decided by the account storage and the list server together."""
    await lists.create()
    logged = "SELECT msg FROM log WHERE event = 'update'"
    for form, wanted in (
        ({"name": "T", "newsletter_description": "D"}, ["name", "newsletter_description"]),
        ({"subject_prefix": "[t]", "close_list": "yes", "owner": "o@else.test"},
         ["close_list", "owner", "subject_prefix"]),
        ({"add_subscribers": "a@else.test", "require_confirm": "no"}, ["subscribers"]),
        ({"remove_subscribers": "a@else.test"}, ["subscribers"]),
    ):  # fmt: skip
        _, answer = await lists.root.call("PUT", f"ml/{TEAM}", data=form)
        assert answer["_changed"] == wanted, form
        row = await lists.row()
        rows = await lists.service.store.rows(logged, "iredadmin")
        _, answer = await lists.root.call("PUT", f"ml/{TEAM}", data=form)
        assert answer["_changed"] == [], form
        assert await lists.row() == row
        assert await lists.service.store.rows(logged, "iredadmin") == rows
