"""Entries of other programs: with other DNs, with children, of other object classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.clients import PASSWORD, Client, Service, serving
from tests.integration.test_doctor import examine
from tests.ldap.seeds import Seeds
from tests.ldap.test_undo import HASH, Cutter, Request, mailbox_path, put_back, send
from tests.servers.openldap import BASE, OpenldapServer, account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
KINDS: dict[str, tuple[str, Mapping[str, str | Sequence[str]]]] = {
    "user": (
        "Users",
        {"objectClass": ["inetOrgPerson", "mailUser"], "cn": "x", "sn": "x", "userPassword": HASH,
         "enabledService": ["mail", "deliver", "forward", "smtp"], "homeDirectory": "/var/vmail/x/",
         "mailForwardingAddress": "far@x.org"},
    ),
    "alias": (
        "Aliases",
        {"objectClass": ["mailAlias"], "enabledService": ["mail", "deliver"],
         "mailForwardingAddress": "far@x.org"},
    ),
    "maillist": (
        "Groups",
        {"objectClass": ["mailList"], "enabledService": ["mail", "deliver"], "hasMember": "no"},
    ),
}  # fmt: skip
PLACES = {
    "uid": "uid={local},ou={ou},domainName=ex.com,{base}",
    "name": "cn=Some One,ou={ou},domainName=ex.com,{base}",
    "two values": "mail={mail}+cn=Some One,ou={ou},domainName=ex.com,{base}",
    "foreign domain": "mail={mail},ou={ou},domainName=two.com,{base}",
    "no container": "mail={mail},domainName=ex.com,{base}",
    "below the base": "mail={mail},{base}",
    "another container": "mail={mail},ou=Externals,domainName=ex.com,{base}",
}


def place(directory: OpenldapServer, kind: str, where: str, mail: str) -> str:
    """Add an account with an unusual DN, as another program might; return its DN."""
    container, attributes = KINDS[kind]
    local = mail.partition("@")[0]
    dn = PLACES[where].format(mail=mail, local=local, ou=container, base=BASE)
    entry = {**attributes, "mail": mail, "accountStatus": "active"}
    if kind == "user":
        entry["uid"] = local
    if dn.startswith("uid=") and kind != "user":
        # An alias has no such attribute of its own.
        entry |= {"objectClass": [*attributes["objectClass"], "uidObject"], "uid": local}
    if "cn=Some One" in dn:
        entry["cn"] = "Some One"
    directory.add(dn, entry)
    return dn


def holding(directory: OpenldapServer, mail: str) -> list[str]:
    return sorted(directory.find(BASE, f"(mail={mail})"))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_account_with_another_dn(
    root: Client, store: Store, kind: str, where: str
) -> None:
    """It is read, listed, changed, renamed and deleted with the DN that it has."""
    for name in ("ex.com", "two.com"):
        await root.ok("POST", f"domain/{name}")
    path, mail = f"{kind}/odd@ex.com", "odd@ex.com"
    dn = place(store.directory, kind, where, mail)
    assert (await root.ok("GET", path))["mail"] == [mail]
    refused = await root.refused("POST", path, password_hash=HASH)
    assert refused[:2] == (409, "ALREADY_EXISTS")
    if kind != "maillist":
        plural = "users" if kind == "user" else "aliases"
        listed = await root.ok("GET", f"{plural}/ex.com", email_only="yes")
        assert listed == [mail]
    if kind == "maillist":
        await root.ok("PUT", path, accessPolicy="domain")
    else:
        await root.ok("PUT", path, accountStatus="disabled")
        entry = store.directory.entry(dn)
        assert entry is not None
        assert entry["accountStatus"] == ["disabled"]
        await root.ok("POST", f"{path}/change_email/new@ex.com")
        (dn,) = holding(store.directory, "new@ex.com")
        assert (
            dn.partition(",")[2]
            == PLACES[where]
            .format(mail="", local="", ou=KINDS[kind][0], base=BASE)
            .partition(",")[2]
        )
        mail, path = "new@ex.com", f"{kind}/new@ex.com"
        assert (await root.ok("GET", path))["mail"] == [mail]
    await root.ok("DELETE", path)
    assert holding(store.directory, mail) == []
    assert (await root.refused("GET", path))[:2] == (404, "NO_SUCH_ACCOUNT")
    form = {"password_hash": HASH} if kind == "user" else {}
    await root.ok("POST", path, **form)


@pytest.mark.parametrize("where", ["uid", "foreign domain"])
async def test_changes_of_the_domain_include_it(
    root: Client, service: Service, store: Store, postfix: PostfixMaps, where: str
) -> None:
    for name in ("ex.com", "two.com"):
        await root.ok("POST", f"domain/{name}")
    dn = place(store.directory, "user", where, "odd@ex.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="ex.net")
    assert postfix.query("virtual_alias_maps", "odd@ex.net")
    await root.ok("POST", "maillist/team@ex.com", members="odd@ex.com")
    assert (await root.ok("GET", "maillist/team@ex.com"))["members"] == ["odd@ex.com"]
    await root.ok("PUT", "users/ex.com", language="de_DE")
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="odd@ex.com")
    await root.ok("PUT", "user/odd@ex.com", password=PASSWORD)
    client = await service.client().login("odd@ex.com")
    assert (await client.ok("GET", "user/odd@ex.com"))["preferredLanguage"] == ["de_DE"]
    await root.ok("PUT", "domain/ex.com", accountStatus="disabled")
    entry = store.directory.entry(dn)
    assert entry is not None
    assert entry["domainStatus"] == ["disabled"]
    assert not postfix.query("virtual_alias_maps", "odd@ex.com")
    # The other domain's own ways do not touch it, nor does the end of it.
    await root.ok("PUT", "domain/ex.com", accountStatus="active")
    await root.ok("DELETE", "domain/two.com")
    (left,) = holding(store.directory, "odd@ex.com")
    assert postfix.query("virtual_alias_maps", "odd@ex.com")
    await root.ok("PUT", "user/odd@ex.com", name="Still here")
    (team,) = store.directory.find(BASE, "(mail=team@ex.com)").values()
    assert team["member"] == [left]
    await root.ok("DELETE", "domain/ex.com")
    assert holding(store.directory, "odd@ex.com") == []


async def test_entries_below_an_account_are_deleted_with_it(root: Client, store: Store) -> None:
    await root.ok("POST", "domain/ex.com")
    directory = store.directory
    for mail in ("u@ex.com", "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password_hash=HASH)
        above = account_dn(mail)
        for name in ("phone", "sim", "chip"):
            above = f"cn={name},{above}"
            directory.add(above, {"objectClass": "device", "cn": name})
    await root.ok("POST", "alias/a@ex.com", members="u@ex.com")
    directory.add(f"cn=x,{account_dn('a@ex.com', 'Aliases')}", {"objectClass": "device", "cn": "x"})
    await root.ok("DELETE", "user/u@ex.com")
    await root.ok("DELETE", "alias/a@ex.com")
    assert directory.find(account_dn("v@ex.com"))
    assert not [dn for dn in directory.dump() if "u@ex.com" in dn or "a@ex.com" in dn]
    directory.add(f"ou=more,{domain_dn('ex.com')}", {"objectClass": "organizationalUnit"})
    directory.add(f"cn=y,ou=more,{domain_dn('ex.com')}", {"objectClass": "device", "cn": "y"})
    await root.ok("DELETE", "domain/ex.com")
    assert not [dn for dn in directory.dump() if "ex.com" in dn]


@pytest.mark.parametrize(
    "request_",
    [
        ("DELETE", "user/odd@ex.com", {}),
        ("POST", "user/odd@ex.com/change_email/new@ex.com", {}),
        ("DELETE", "domain/two.com", {}),
        ("DELETE", "domain/ex.com", {}),
    ],
    ids=["gone", "renamed", "other domain gone", "domain gone"],
)
async def test_interrupted_writes(store: Store, request_: Request) -> None:
    """Cut at every step: as before, as after, or completed by the same request."""
    directory = store.directory
    async with serving(store) as service:
        root = await service.root()
        for name in ("ex.com", "two.com"):
            await root.ok("POST", f"domain/{name}")
        for mail, where in (("odd@ex.com", "uid"), ("far@ex.com", "foreign domain")):
            dn = place(directory, "user", where, mail)
            directory.add(f"cn=phone,{dn}", {"objectClass": "device", "cn": "phone"})
        await root.ok("POST", "maillist/team@ex.com", members="odd@ex.com,far@ex.com")
        await root.ok("POST", "alias/all@ex.com", members="odd@ex.com,far@ex.com")
        before = directory.dump()
        cutter = Cutter(mailbox_path(service).directory)
        cutter.arm(-1, "")
        assert await send(root, request_) == 200
        steps, after = cutter.count, directory.dump()
        for at in range(steps):
            for fault in ("refused", "done", "killed after"):
                put_back(directory, before)
                cutter.arm(at, fault)
                assert await send(root, request_) != 200, (fault, at)
                cutter.arm(-1, "")
                await mailbox_path(service).recover()
                assert not await service.context.state.journal.open()
                if directory.dump() not in (before, after):
                    assert await send(root, request_) == 200, (fault, at)
                    assert directory.dump() == after, (fault, at)


async def test_two_entries_of_one_address(root: Client, store: Store) -> None:
    """Postfix finds both: a removal leaves none."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/odd@ex.com", password_hash=HASH)
    place(store.directory, "user", "uid", "odd@ex.com")
    assert await root.ok("GET", "users/ex.com", email_only="yes") == ["odd@ex.com"]
    await root.ok("DELETE", "user/odd@ex.com")
    assert holding(store.directory, "odd@ex.com") == []


async def test_a_domain_of_another_name(root: Client, store: Store) -> None:
    """Postfix searches for the attribute, not for the DN."""
    dn = f"domainName=odd.com+cn=Odd,{BASE}"
    store.directory.add(
        dn,
        {"objectClass": "mailDomain", "domainName": "odd.com", "cn": "Odd",
         "accountStatus": "active", "enabledService": "mail"},
    )  # fmt: skip
    store.directory.add(f"ou=Users,{dn}", {"objectClass": "organizationalUnit", "ou": "Users"})
    await root.ok("PUT", "domain/odd.com", quota="100", catchall="far@x.org")
    await root.ok("POST", "user/u@odd.com", password_hash=HASH)
    (found,) = holding(store.directory, "u@odd.com")
    assert found.startswith("mail=u@odd.com,ou=Users,")
    await root.ok("PUT", "user/u@odd.com", quota="7", addForwarding="far@x.org")
    await root.ok("POST", "user/u@odd.com/change_email/v@odd.com")
    await root.ok("DELETE", "user/v@odd.com")
    await root.ok("DELETE", "domain/odd.com")
    assert not store.directory.find(BASE, "(domainName=odd.com)")


async def test_doctor_reports_them_and_keeps_their_references(root: Client, store: Store) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "domain/two.com")
    await root.ok("POST", "user/u@ex.com", password_hash=HASH)
    odd = place(store.directory, "user", "uid", "odd@ex.com")
    place(store.directory, "alias", "foreign domain", "all@ex.com")
    await root.ok("POST", "maillist/team@ex.com", members="odd@ex.com,u@ex.com")
    found, _ = await examine(store, fix=True)
    misplaced = {item.subject for item in found if item.code == "ENTRY_MISPLACED"}
    assert misplaced == {"all@ex.com", "odd@ex.com"}
    assert "MEMBER_NAME_DEAD" not in {item.code for item in found}
    (team,) = store.directory.find(BASE, "(mail=team@ex.com)").values()
    assert odd in team["member"]


# Object classes ---------------------------------------------------------------------------------


async def test_a_missing_class_is_added(root: Client, store: Store) -> None:
    """The date of a password needs shadowAccount, which another program did not give."""
    await root.ok("POST", "domain/ex.com")
    dn = place(store.directory, "user", "uid", "odd@ex.com")
    await root.ok("PUT", "user/odd@ex.com", password_hash=HASH.replace("b", "c", 1))
    entry = store.directory.entry(dn)
    assert entry is not None
    assert "shadowAccount" in entry["objectClass"]
    assert entry["shadowLastChange"]
    place(store.directory, "user", "two values", "other@ex.com")
    answer = await root.ok("PUT", "users/ex.com", password=PASSWORD)
    assert "_skipped" not in answer
    for entry in store.directory.find(BASE, "(objectClass=mailUser)").values():
        assert entry["shadowLastChange"]


async def test_a_value_that_no_class_allows_is_skipped(root: Client, store: Store) -> None:
    """An entry whose structural class does not allow ``employeeNumber``."""
    await root.ok("POST", "domain/ex.com")
    dn = account_dn("odd@ex.com")
    store.directory.add(
        dn,
        {"objectClass": ["account", "mailUser"], "uid": "odd", "mail": "odd@ex.com",
         "accountStatus": "active", "userPassword": HASH},
    )  # fmt: skip
    answer = await root.ok("PUT", "user/odd@ex.com", employeeid="7", quota="3")
    assert answer["_skipped"] == [
        {"param": "employeeNumber", "value": "odd@ex.com", "reason": "NOT_ALLOWED_BY_SCHEMA"}
    ]
    entry = store.directory.entry(dn)
    assert entry is not None
    assert entry["mailQuota"] == ["3145728"]
    await root.ok("PUT", "user/odd@ex.com", password=PASSWORD)
    entry = store.directory.entry(dn)
    assert entry is not None
    assert "shadowAccount" in entry["objectClass"]


@pytest.mark.parametrize("mails", [["@EX.com"], ["@ex.com", "spy@ex.com"]])
async def test_names_of_users_without_the_catch_all_account(
    store: Store, root: Client, mails: list[str]
) -> None:
    """Users have one address or several, with capitals or without."""
    await root.ok("POST", "domain/ex.com")
    seeds = Seeds(store.directory)
    seeds.catch_all("ex.com", "far@x.org", mail=mails)
    seeds.user("One@EX.com")
    store.directory.modify(seeds.user("two@ex.com"), add={"mail": ["a@two.com"]})
    listed = await root.ok("GET", "users/ex.com?email_only=yes")
    assert listed == ["one@ex.com", "two@ex.com"]


@pytest.mark.parametrize("kind", ["user", "alias"])
async def test_two_catch_all_accounts(
    store: Store, root: Client, postfix: PostfixMaps, kind: str
) -> None:
    """``shadowAddress: @domain`` is a catch-all for Postfix: it is in the profile, and cleared."""

    def caught(key: str) -> set[str]:
        maps = ("virtual_alias_maps", "catchall_maps")
        return set[str]().union(*(postfix.query(name, key) for name in maps))

    await root.ok("POST", "domain/ex.com")
    dn = place(store.directory, kind, "another container", "spy@ex.com")
    store.directory.modify(dn, add={"shadowAddress": ["@ex.com", "spy2@ex.com"]})
    assert caught("@ex.com") == {"far@x.org"}
    for path in ("domain/ex.com", "domain/ex.com?view=canonical"):
        assert (await root.ok("GET", path))["catchall"] == ["far@x.org"]
    listed = (await root.ok("GET", "domains"))[0]
    assert listed["catchall"] == ["far@x.org"]
    await root.ok("PUT", "domain/ex.com", catchall="new@x.org")
    assert (await root.ok("GET", "domain/ex.com"))["catchall"] == ["new@x.org"]
    assert caught("@ex.com") == {"new@x.org"}
    await root.ok("PUT", "domain/ex.com", catchall="")
    assert caught("@ex.com") == set()
    # Its other addresses are kept.
    assert caught("spy2@ex.com") == {"far@x.org"}


async def test_half_of_a_right_is_not_completed_by_other_changes(
    root: Client, store: Store
) -> None:
    """Only ``isGlobalAdmin`` writes what makes a user an admin; another program left it out."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password_hash=HASH)
    dn = account_dn("u@ex.com")
    store.directory.modify(dn, replace={"domainGlobalAdmin": "yes"})
    for sent in (
        {"name": "Other"},
        {"addService": "pop3"},
        {"quota": "7"},
        {"accountStatus": "active"},
    ):
        await root.ok("PUT", "user/u@ex.com", **sent)
        assert "domainadmin" not in (store.directory.entry(dn) or {})["enabledService"], sent
    await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="yes")
    assert "domainadmin" in (store.directory.entry(dn) or {})["enabledService"]
    await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="no")
    entry = store.directory.entry(dn) or {}
    assert "domainadmin" not in entry["enabledService"]
    assert "domainGlobalAdmin" not in entry
