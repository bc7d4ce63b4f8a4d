"""What was answered with success has happened; what has not is reported, on every storage."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from iredapi.schemas.aliases import AliasDraft, AliasEdit
from iredapi.schemas.domains import DomainDraft, DomainEdit
from iredapi.schemas.lists import ListDraft, ListEdit
from iredapi.schemas.maillists import MailListDraft, MailListEdit
from iredapi.schemas.params import Params
from iredapi.schemas.users import UserDraft, UserEdit
from iredapi.web import request_body
from tests.clients import PASSWORD, Client, Service
from tests.servers.openldap import domain_dn
from tests.servers.snapshot import dump
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
FORM = "application/x-www-form-urlencoded"


# How languages write lists ------------------------------------------------------------------------

MEMBERS = ["a@far.test", "b@far.test", "c@far.test"]
LISTS = {
    "PHP": "members[0]=a@far.test&members[1]=b@far.test&members[2]=c@far.test",
    "PHP, encoded": "members%5B0%5D=a%40far.test&members%5B1%5D=b@far.test,c@far.test",
    "jQuery": "members[]=a@far.test&members[]=b@far.test&members[]=c@far.test",
    "one item": "members[]=a@far.test,b@far.test,c@far.test",
    "Go": "members=a@far.test&members=b@far.test&members=c@far.test",
    "mixed": "members=a@far.test&members[]=b@far.test&members[7]=c@far.test",
    "with an empty one": "members=&members=a@far.test,b@far.test&members=c@far.test",
}


@pytest.mark.parametrize("carrier", ["form", "multipart", "query"])
async def test_lists_as_languages_write_them(root: Client, carrier: str) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "alias/all@ex.com")
    for language, text in LISTS.items():
        await root.ok("PUT", "alias/all@ex.com", members="z@far.test")
        pairs = [pair.partition("=") for pair in text.split("&")]
        if carrier == "query":
            # A list in the body would win; another name there does not matter.
            status, _ = await root.call(
                "PUT", f"alias/all@ex.com?{text}", data={"name": "All", "nothing[1]": "x"}
            )
        elif carrier == "form":
            status, _ = await root.call(
                "PUT",
                "alias/all@ex.com?members[]=query@far.test",
                content=text.encode(),
                headers={"Content-Type": FORM},
            )
        else:
            files = [
                (name.replace("%5B", "[").replace("%5D", "]"), (None, value.replace("%40", "@")))
                for name, _, value in pairs
            ]
            status, _ = await root.call("PUT", "alias/all@ex.com", files=files)
        assert status == 200, language
        profile = await root.ok("GET", "alias/all@ex.com", view="canonical")
        assert profile["members"] == MEMBERS, language
    await root.call("PUT", "alias/all@ex.com?members[]=")
    assert (await root.ok("GET", "alias/all@ex.com", view="canonical"))["members"] == []


HOLES = {"members": {"2": "c@far.test", "0": "a@far.test", "10": "b@far.test"}}
NO_LISTS: tuple[dict[str, object], ...] = (
    {"members": {"0": "a@far.test", "x": "b@far.test"}}, {"members": {"-1": "a@far.test"}},
    {"members": {"01": "a@far.test"}}, {"members": {"0": {"0": "a@far.test"}}}, {"members": {}},
    {"name": {"0": "All"}},
)  # fmt: skip


async def test_lists_with_holes(root: Client) -> None:
    """PHP's json_encode makes an object of a list from which an item was taken."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "alias/all@ex.com", members="z@far.test")
    for wrong in NO_LISTS:
        status, answer = await root.call("PUT", "alias/all@ex.com", json=wrong)
        assert (status, answer["_errors"][0]["param"]) == (400, *wrong), wrong
    assert (await root.call("PUT", "alias/all@ex.com", json=HOLES))[0] == 200
    shown = await root.ok("GET", "alias/all@ex.com", view="canonical")
    assert sorted(shown["members"]) == MEMBERS


async def test_the_order_of_a_list_with_holes() -> None:
    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    assert await request_body.read(Request(scope), json.dumps(HOLES).encode()) == {
        "members": ["a@far.test", "c@far.test", "b@far.test"]
    }


async def test_of_what_is_no_list_the_last_one_counts(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    status, _ = await root.call("PUT", "domain/ex.com?quota=1&quota=2&addAliasDomain=a.test")
    assert status == 200
    status, _ = await root.call(
        "PUT", "domain/ex.com?addAliasDomain[0]=b.test&addAliasDomain[1]=c.test&name[]=x"
    )
    assert status == 200
    found = await root.ok("GET", "domain/ex.com", view="canonical")
    assert (found["quota"], found["name"]) == (2, "")
    assert found["aliasDomains"] == ["a.test", "b.test", "c.test"]


async def test_unicode_names_of_hosts(root: Client) -> None:
    """Postfix asks the DNS for what it finds, and that knows no other letters."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    for sent, stored in (
        ("Bücher.example", "xn--bcher-kva.example"),
        ("[bücher.example]:2525", "[xn--bcher-kva.example]:2525"),
        ("bücher.example:25", "xn--bcher-kva.example:25"),
    ):
        await root.ok("PUT", "domain/ex.com", is_backupmx="yes", primarymx=sent, outboundRelay=sent)
        found = await root.ok("GET", "domain/ex.com", view="canonical")
        assert (found["primarymx"], found["outboundRelay"]) == (stored, stored)
        await root.ok("PUT", "domain/ex.com", is_backupmx="no")
        await root.ok("PUT", "domain/ex.com", transport=f"smtp:{sent}")
        await root.ok("PUT", "user/u@ex.com", transport=f"lmtp:inet:{sent}")
        found = await root.ok("GET", "domain/ex.com", view="canonical")
        assert found["transport"] == f"smtp:{stored}"
        found = await root.ok("GET", "user/u@ex.com", view="canonical")
        assert found["transport"] == f"lmtp:inet:{stored}"
    for wrong in ("smtp:bü cher.example", "smtp:[bücher..example]", "bücher"):
        assert (await root.refused("PUT", "domain/ex.com", transport=wrong))[1:] == (
            "INVALID_TRANSPORT",
            ["transport"],
        ), wrong


# What is said of new accounts ---------------------------------------------------------------------

CREATIONS: dict[tuple[type[Params], type[Params]], str] = {
    (DomainDraft, DomainEdit): "domain/{}.test",
    (UserDraft, UserEdit): "user/{}@ex.com",
    (AliasDraft, AliasEdit): "alias/{}@ex.com",
    (MailListDraft, MailListEdit): "maillist/{}@ex.com",
    (ListDraft, ListEdit): "ml/{}@ex.com",
}
SAID = {
    "domain": (
        {"name": "N", "accountStatus": "disabled", "quota": "9000", "language": "de_DE",
         "defaultQuota": "10", "maxUserQuota": "20", "numberOfUsers": "3", "numberOfAliases": "4",
         "numberOfLists": "5", "senderBcc": "s@far.test", "recipientBcc": "r@far.test",
         "minPasswordLength": "9", "maxPasswordLength": "40", "outboundRelay": "[192.0.2.9]:25",
         "is_backupmx": "yes", "primarymx": "mx.far.test", "catchall": "far@far.test",
         "services": "self-service", "disableDomainProfile": "bcc", "enableDomainProfile": "relay",
         "disableUserProfile": "aliases", "enableUserProfile": "bcc",
         "disableUserPreference": "wblist", "enableUserPreference": "quarantine",
         "suspend": "yes"},
        {"is_backupmx": "yes", "addAliasDomain": "{}-a.test", "removeAliasDomain": "x.test",
         "addService": "self-service", "removeService": "mail"},
        {"transport": "smtp:[192.0.2.1]", "aliasDomains": "{}-b.test,{}-c.test"},
        {"is_backupmx": "no", "accountStatus": "active"},
    ),
    "user": (
        {"name": "N", "password": PASSWORD, "language": "de_DE", "quota": "7", "gn": "G",
         "sn": "S", "accountStatus": "disabled", "isGlobalAdmin": "yes", "employeeid": "E",
         "mailboxFormat": "mdbox", "mailboxFolder": "Box", "telephoneNumber": "1", "mobile": "2",
         "maildir": "/var/vmail/vmail1/own/{}", "transport": "dovecot", "senderBcc": "s@far.test",
         "recipientBcc": "r@far.test", "forwarding": "far@far.test", "aliases": "{}.x@ex.com",
         "services": "imap,deliver", "suspend": "yes"},
        {"password": PASSWORD, "addForwarding": "far@far.test", "removeForwarding": "z@far.test",
         "addAlias": "{}.y@ex.com", "removeAlias": "z@ex.com", "addService": "imap",
         "removeService": "pop3", "isGlobalAdmin": "no"},
    ),
    "alias": (
        {"name": "N", "accountStatus": "disabled", "members": "far@far.test"},
        {"addMember": "far@far.test", "removeMember": "z@far.test"},
    ),
    "maillist": (
        {"name": "N", "accessPolicy": "domain", "members": "far@far.test"},
        {"addMember": "far@far.test", "removeMember": "z@far.test"},
    ),
}  # fmt: skip
"""All that can be said, in forms of what goes together."""
BESIDE = {"password_hash", "accessPolicy", "moderators", "addModerator", "removeModerator"}
"""Instead of a password; and what LDAP cannot hold for aliases."""


def test_parameters_of_a_change_are_parameters_of_the_creation() -> None:
    """Every parameter of a change is a parameter of the creation, too."""
    for (draft, edit), path in CREATIONS.items():
        assert set(edit.wire_names()) <= set(draft.wire_names())
        assert set(edit.legacy) <= set(draft.legacy)
        if said := SAID.get(path.partition("/")[0]):
            names = {name for form in said for name in form}
            assert set(edit.wire_names().values()) - BESIDE == names - BESIDE, path


@pytest.mark.parametrize("noun", SAID)
async def test_parameters_of_a_creation_are_stored(
    service: Service, root: Client, noun: str
) -> None:
    """An account that is made with everything is one that was made and changed."""
    if noun == "maillist" and service.store.name != "openldap":
        assert (await root.call("POST", "maillist/l@ex.com", data=SAID[noun][0]))[0] == 501
        return
    await root.ok("POST", "domain/ex.com")
    path = next(path for path in CREATIONS.values() if path.startswith(f"{noun}/"))
    for number, said in enumerate(SAID[noun]):
        found = []
        for name in (f"one{number}", f"two{number}"):
            form = {key: value.format(*[name] * 2) for key, value in said.items()}
            first = form if name.startswith("one") else {}
            if noun == "user" and not first:
                first = {"password": PASSWORD}
            await root.ok("POST", path.format(name), **first)
            if name.startswith("two"):
                await root.ok("PUT", path.format(name), **form)
            shape = await root.ok("GET", path.format(name), view="canonical")
            if "maildir" not in form:
                shape.pop("maildir", None)  # it has the letters of the name and the time
            found.append(json.loads(json.dumps(shape).replace(name, "name")))
        assert found[0] == found[1], said


GONE = {
    "domain/new.com": {"removeAliasDomain": "gone.test"},
    "user/u@ex.com": {"removeForwarding": "gone@far.test", "removeAlias": "gone@ex.com"},
    "alias/a@ex.com": {"removeMember": "gone@far.test", "removeModerator": "gone@far.test"},
    "maillist/l@ex.com": {"removeMember": "gone@far.test"},
}
"""What is removed from something that is only being made."""


async def test_removals_in_a_creation_are_skipped(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    for path, gone in GONE.items():
        form = gone
        if service.store.openldap is None and path.startswith("maillist"):
            continue  # only a directory has these
        if service.store.openldap is not None:
            form = {name: text for name, text in gone.items() if name != "removeModerator"}
        for wrong in ("devnull", "no domain"):
            for name in form:
                more = {"password": PASSWORD} | {name: wrong}
                status, code, params = await root.refused("POST", path, **more)
                assert (status, params) == (400, [name]), code
        answer = await root.ok("POST", path, **form, password=PASSWORD)
        skipped = [(item["param"], item["value"], item["reason"]) for item in answer["_skipped"]]
        assert sorted(skipped) == [(*item, "NOT_FOUND") for item in sorted(form.items())]
    # A user is the first one to whom its mail goes.
    answer = await root.ok(
        "POST", "user/v@ex.com", password=PASSWORD, removeForwarding="v@ex.com",
        addForwarding="far@far.test",
    )  # fmt: skip
    assert "_skipped" not in answer


async def test_a_new_backup_mx_is_one(service: Service, root: Client) -> None:
    """It must not become an ordinary domain, which bounces mail for users that it has not."""
    await root.ok("POST", "domain/backup.test", is_backupmx="yes", primarymx="mx.far.test")
    if service.store.name == "openldap":
        entry = service.store.directory.entry(domain_dn("backup.test")) or {}
        assert (entry["domainBackupMX"], entry["mtaTransport"]) == (["yes"], ["relay:mx.far.test"])
    else:
        rows = await service.store.rows("SELECT backupmx, transport FROM domain")
        assert [tuple(row.values()) for row in rows] == [(1, "relay:mx.far.test")]


async def test_a_normal_admin_gets_no_more_rights_at_creation(
    service: Service, root: Client
) -> None:
    await root.ok("POST", "domain/ex.com", disableUserProfile="forwarding")
    admin = await service.admin_of("ex.com", maxDomains="5")
    denied = (403, "PERMISSION_DENIED")
    for form in ({"forwarding": "x@far.test"}, {"transport": "pipe"}, {"isGlobalAdmin": "yes"}):
        refused = await admin.refused("POST", "user/u@ex.com", password=PASSWORD, **form)
        assert refused == (*denied, list(form))
    refused = await admin.refused("POST", "domain/new.test", disableDomainProfile="bcc")
    assert refused == (*denied, ["disableDomainProfile"])
    await admin.ok("POST", "domain/new.test", catchall="x@far.test", is_backupmx="yes")
    foreign = await admin.refused(
        "POST", "user/u@ex.com", password=PASSWORD, aliases="u@foreign.test"
    )
    assert foreign == (400, "INVALID_DOMAIN_NAME", ["aliases"])
    assert await root.ok("GET", "users/ex.com", email_only="yes") == []


async def test_a_quota_for_everybody(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    for name, quota in (("a", "10"), ("b", "20"), ("c", "300")):
        await root.ok("POST", f"user/{name}@ex.com", password=PASSWORD, quota=quota)

    async def quotas() -> list[int]:
        users = await root.ok("GET", "users/ex.com", view="canonical")
        return [user["quota"] for user in users]

    await root.ok("PUT", "users/ex.com", quota="50", accountStatus="disabled")
    assert await quotas() == [50, 50, 50]
    await root.ok("PUT", "domain/ex.com", quota="100")
    full: tuple[int, str, list[str]] = (409, "EXCEEDED_DOMAIN_QUOTA_SIZE", [])
    assert await root.refused("PUT", "users/ex.com", quota="51") == full
    assert await root.refused("PUT", "users/ex.com", mailQuota="0") == full
    await root.ok("PUT", "users/ex.com", quota="49")
    assert (await root.ok("GET", "domain/ex.com", view="canonical"))["allocatedQuota"] == 147
    await root.ok("PUT", "domain/ex.com", maxUserQuota="30")
    await root.ok("PUT", "users/ex.com", quota="40")
    assert await quotas() == [30, 30, 30]


# What was there before, and is more than may be ---------------------------------------------------


async def test_a_domain_that_gave_away_too_much(root: Client) -> None:
    """After its quota was lowered: what shrinks or stays is accepted, on the way to the limit."""
    await root.ok("POST", "domain/ex.com", quota="4000")
    for name, quota in (("a", "2000"), ("b", "1500"), ("c", "500")):
        await root.ok("POST", f"user/{name}@ex.com", password=PASSWORD, quota=quota)
    await root.ok("PUT", "domain/ex.com", quota="1000")
    full: tuple[int, str, list[str]] = (409, "EXCEEDED_DOMAIN_QUOTA_SIZE", [])
    assert await root.refused("PUT", "user/a@ex.com", quota="2001") == full
    assert await root.refused("PUT", "user/a@ex.com", quota="0") == full
    await root.ok("PUT", "user/a@ex.com", quota="2000", name="A")
    await root.ok("PUT", "user/a@ex.com", quota="1900")
    await root.ok("PUT", "user/b@ex.com", quota="1")
    assert await root.refused("PUT", "user/b@ex.com", quota="2") == full
    assert await root.refused("POST", "user/d@ex.com", password=PASSWORD, quota="1") == full
    await root.ok("PUT", "user/a@ex.com", quota="400")
    await root.ok("PUT", "user/b@ex.com", quota="100")
    assert (await root.ok("GET", "domain/ex.com", view="canonical"))["allocatedQuota"] == 1000
    # Who has no limit takes the least of all when one is set.
    await root.ok("PUT", "domain/ex.com", quota="0")
    await root.ok("PUT", "user/c@ex.com", quota="0")
    await root.ok("PUT", "domain/ex.com", quota="100")
    await root.ok("PUT", "user/c@ex.com", quota="0", name="C")
    await root.ok("PUT", "user/c@ex.com", quota="700")


async def test_a_largest_quota_that_was_lowered(root: Client) -> None:
    """Who sends what is there changes nothing."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, quota="2000")
    await root.ok("PUT", "domain/ex.com", maxUserQuota="1000")
    await root.ok("PUT", "user/u@ex.com", quota="2000", name="U")
    assert (await root.ok("GET", "user/u@ex.com", view="canonical"))["quota"] == 2000
    await root.ok("PUT", "user/u@ex.com", quota="2001")
    assert (await root.ok("GET", "user/u@ex.com", view="canonical"))["quota"] == 1000


async def test_more_accounts_than_there_may_be(root: Client) -> None:
    """Limits are about accounts that come; those that are there can be changed."""
    await root.ok("POST", "domain/ex.com")
    for name in ("a", "b"):
        await root.ok("POST", f"user/{name}@ex.com", password=PASSWORD)
        await root.ok("POST", f"alias/{name}.alias@ex.com")
    for limit in ("1", "-1"):
        await root.ok("PUT", "domain/ex.com", numberOfUsers=limit, numberOfAliases=limit)
        await root.ok("PUT", "user/a@ex.com", name=limit, accountStatus="active", quota="5")
        await root.ok("PUT", "alias/a.alias@ex.com", name=limit, members="a@ex.com")
    await root.ok("PUT", "user/b@ex.com/change_email/c@ex.com")
    await root.ok("PUT", "alias/b.alias@ex.com/change_email/c.alias@ex.com")


async def test_an_admin_who_gave_away_too_much(service: Service, root: Client) -> None:
    """A domain that stays or shrinks is accepted when its admin's limits were lowered."""
    admin = await service.admin_of(
        mail="much@admins.test", maxDomains="5", maxQuota="1000", quotaUnit="MB", maxUsers="50"
    )
    await admin.ok("POST", "domain/one.test", quota="600", numberOfUsers="30")
    await admin.ok("POST", "domain/two.test", quota="400", numberOfUsers="20")
    await root.ok("PUT", "admin/much@admins.test", maxQuota="500", quotaUnit="MB", maxUsers="10")
    await admin.ok("PUT", "domain/one.test", quota="600", numberOfUsers="30", name="One")
    await admin.ok("PUT", "domain/one.test", quota="500", numberOfUsers="25")
    assert await admin.refused("PUT", "domain/one.test", quota="501") == (
        409, "EXCEED_LIMIT_QUOTA", [],
    )  # fmt: skip
    assert await admin.refused("PUT", "domain/one.test", numberOfUsers="26") == (
        409, "EXCEED_LIMIT_USERS", [],
    )  # fmt: skip


async def test_lengths_of_passwords_that_stay(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", minPasswordLength="6")
    admin = await service.admin_of("ex.com")
    await admin.ok("PUT", "domain/ex.com", minPasswordLength="6", name="E")
    assert (await admin.refused("PUT", "domain/ex.com", minPasswordLength="5"))[0] == 400


# What billing modules send ------------------------------------------------------------------------


async def test_no_quota_needs_no_unit(root: Client) -> None:
    """Zero of anything is zero; a number alone is in the unit that is there."""
    missing = (400, "MISSING_COMPANION", ["maxQuota"])
    for name, value in (("zero", "0"), ("empty", ""), ("none", "-1")):
        path = f"admin/{name}@admins.test"
        await root.ok("POST", path, password=PASSWORD, maxDomains="3", maxQuota=value)
        found = await root.ok("GET", path, view="canonical")
        assert found["maxQuota"] == (-1 if name == "none" else 0)
    assert await root.refused("POST", "admin/n@admins.test", password=PASSWORD, maxQuota="5") == (
        missing
    )
    path = "admin/zero@admins.test"
    assert await root.refused("PUT", path, maxQuota="5") == missing
    await root.ok("PUT", path, maxQuota="5", quotaUnit="TB")
    for value, shown in (("7", (7, "TB")), ("", (0, "MB")), ("8", (8, "TB")), ("0", (0, "MB"))):
        await root.ok("PUT", path, maxQuota=value)
        found = await root.ok("GET", path, view="canonical")
        assert (found["maxQuota"], found["quotaUnit"]) == shown


@pytest.mark.stores("openldap")
async def test_everybody_may_send_to_an_alias_in_ldap(service: Service, root: Client) -> None:
    """Nobody looks: what says so is right already, and is nothing to refuse."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "alias/a@ex.com", accessPolicy="public", members="a@far.test")
    await root.ok("POST", "alias/b@ex.com", accessPolicy="")
    before = await dump(service.store)
    for policy in ("public", "Public", ""):
        await root.ok("PUT", "alias/a@ex.com", accessPolicy=policy)
    assert await dump(service.store) == before
    refused = await root.refused("PUT", "alias/a@ex.com", accessPolicy="domain", name="x")
    assert refused == (501, "NOT_SUPPORTED_BY_BACKEND", ["accessPolicy"])
