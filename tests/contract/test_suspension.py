"""Suspended users and domains receive mail, but do not log in or send, until they are resumed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import PASSWORD, Client, Service
from tests.servers.dovecot import Dovecot
from tests.servers.openldap import account_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import ALL_STORES
from tests.servers.submission import Submission

pytestmark = pytest.mark.stores(*ALL_STORES)
U, V, W = "u@ex.com", "v@ex.com", "w@ex.com"
RECEIVING = {"deliver"}


@pytest.fixture(name="root")
async def _root(service: Service) -> Client:
    root = await service.root()
    await root.ok("POST", "domain/ex.com")
    for mail in (U, V):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)
    await root.ok("PUT", f"user/{V}", removeService="pop3,pop3secured,pop3tls,sogo")
    if service.store.name != "openldap":
        # iRedAdmin's own keys, and one that ends without a semicolon.
        text = "timezone:Europe/Berlin;x:y"
        await service.store.execute("UPDATE mailbox SET settings = :t", t=text)
    return root


async def everything(root: Client, *mails: str) -> dict[str, Any]:
    """All that is stored of users, but for the time of the last change."""
    found = {}
    for mail in mails or (U, V):
        shown = dict(await root.ok("GET", f"user/{mail}"))
        shown.pop("modified", None)
        for name in ("enabledService", "objectClass"):
            if name in shown:
                shown[name] = sorted(shown[name])
        found[mail] = shown
    return found


async def on(root: Client, mail: str) -> set[str]:
    """The services that are really on."""
    shown = await root.ok("GET", f"user/{mail}")
    if "enabledService" not in shown:
        return set(shown["enabled_services"])
    words = {word.lower() for word in shown["enabledService"]}
    internal = {"internal", "doveadm", "lib-storage", "indexer-worker", "dsync", "quota-status"}
    internal |= {"mail", "forward", "senderbcc", "recipientbcc", "shadowaddress", "lda", "lmtp"}
    internal |= {"displayedinglobaladdressbook"}
    return {word for word in words - internal if "suspended" not in word}


async def view(root: Client, path: str) -> dict[str, Any]:
    found: dict[str, Any] = await root.ok("GET", path, view="canonical")
    return found


async def changed(client: Client, path: str, **form: str) -> list[str]:
    found: list[str] = (await client.ok("PUT", path, **form))["_changed"]
    return found


async def test_a_user(service: Service, root: Client) -> None:
    """Nothing is lost: what is stored after resuming is what was stored before."""
    before, services = await everything(root), (await view(root, f"user/{V}"))["services"]
    assert (await view(root, f"user/{V}"))["suspended"] == "no"
    assert await changed(root, f"user/{V}", suspend="no") == []
    assert await changed(root, f"user/{V}", suspend="yes") == ["suspend"]
    assert await on(root, V) == RECEIVING
    shown = await view(root, f"user/{V}")
    assert (shown["suspended"], shown["services"], shown["accountStatus"]) == (
        "yes", services, "active",
    )  # fmt: skip
    assert await changed(root, f"user/{V}", suspend="yes") == []
    assert await changed(root, f"user/{V}", name="New") == ["name"]
    assert await on(root, V) == RECEIVING
    assert await changed(root, f"user/{V}", suspend="no", name="") == ["name", "suspend"]
    assert await everything(root) == before
    for wrong in ("perhaps", ""):
        status, _, params = await root.refused("PUT", f"user/{V}", suspend=wrong)
        assert (status, params) == (400, ["suspend"])


async def test_services_of_a_suspended_user(service: Service, root: Client) -> None:
    """They change what is switched on when the user is resumed."""
    await root.ok("PUT", f"user/{V}", suspend="yes")
    form = {"removeService": "imap", "addService": "pop3tls"}
    assert await changed(root, f"user/{V}", **form) == ["services"]
    assert await on(root, V) == RECEIVING
    await root.ok("PUT", f"user/{V}", suspend="no")
    found = await on(root, V)
    assert ("imap" in found, "pop3tls" in found, "pop3" in found) == (False, True, False)
    await root.ok("PUT", f"user/{V}", services="", suspend="yes")
    assert await on(root, V) == set()
    assert (await view(root, f"user/{V}"))["suspended"] == "yes"
    assert await changed(root, f"user/{V}", suspend="no") == ["suspend"]
    assert await on(root, V) == set()


async def test_a_new_user_is_suspended(service: Service, root: Client) -> None:
    await root.ok("POST", f"user/{W}", password=PASSWORD, suspend="yes")
    assert await on(root, W) == RECEIVING
    await root.ok("PUT", f"user/{W}", suspend="no")
    assert await on(root, W) == await on(root, U)


async def test_a_domain(service: Service, root: Client) -> None:
    """Users who were suspended themselves stay so; nobody else gets around the suspension."""
    before = await everything(root)
    await root.ok("POST", f"user/{W}", password=PASSWORD, suspend="yes")
    assert (await view(root, "domain/ex.com"))["suspended"] == "no"
    assert await changed(root, "domain/ex.com", suspend="yes") == ["suspend"]
    assert (await view(root, "domain/ex.com"))["suspended"] == "yes"
    for mail in (U, V, W):
        assert await on(root, mail) == RECEIVING, mail
    assert (await view(root, f"user/{U}"))["suspended"] == "no"
    assert await changed(root, "domain/ex.com", suspend="yes") == []
    # A new user, added services, a user who is resumed: nobody logs in.
    await root.ok("POST", "user/n@ex.com", password=PASSWORD)
    await root.ok("PUT", f"user/{W}", suspend="no")
    await root.ok("PUT", f"user/{V}", addService="pop3")
    for mail in (U, V, W, "n@ex.com"):
        assert await on(root, mail) == RECEIVING, mail
    await root.ok("PUT", f"user/{V}", removeService="pop3")
    await root.ok("PUT", f"user/{U}", suspend="yes")
    if service.store.name != "openldap":
        # As another program may write them: with blanks, without the last semicolon.
        read = f"SELECT settings FROM mailbox WHERE username = '{V}'"
        (row,) = await service.store.rows(read)
        text = "; ".join(reversed(row["settings"].rstrip(";").split(";"))).replace(":", ": ")
        await service.store.execute(
            f"UPDATE mailbox SET settings = :t WHERE username = '{V}'", t=text
        )
    assert await changed(root, "domain/ex.com", suspend="no") == ["suspend"]
    assert await changed(root, "domain/ex.com", suspend="no") == []
    assert await on(root, U) == RECEIVING
    await root.ok("PUT", f"user/{U}", suspend="no")
    assert await everything(root) == before
    assert await on(root, W) == await on(root, "n@ex.com") == await on(root, U)


async def test_what_another_program_switches_on(service: Service, root: Client) -> None:
    """It is switched off with the domain, and is on after both are resumed."""
    before = await on(root, U)
    await root.ok("PUT", f"user/{U}", services="deliver")
    await root.ok("PUT", f"user/{U}", suspend="yes")
    await root.ok("PUT", f"user/{V}", services="deliver,pop3")
    for _ in range(2):  # users who are suspended themselves, or not; then all are with the domain
        for mail in (U, V):
            if service.store.name == "openldap":
                entry = service.store.directory
                entry.modify(account_dn(mail), add={"enabledService": "imap"})
            else:
                change = f"UPDATE mailbox SET enableimap = 1 WHERE username = '{mail}'"
                await service.store.execute(change)
        assert await on(root, U) >= {"imap"}
        assert await changed(root, "domain/ex.com", suspend="yes") == ["suspend"]
        assert await on(root, U) == await on(root, V) == RECEIVING
        assert await changed(root, "domain/ex.com", suspend="yes") == []
    await root.ok("PUT", "domain/ex.com", suspend="no")
    assert (await on(root, U), await on(root, V)) == (RECEIVING, {"deliver", "imap", "pop3"})
    await root.ok("PUT", f"user/{U}", suspend="no")
    assert await on(root, U) == {"deliver", "imap"} <= before


async def stored(service: Service) -> list[Any]:
    """What is stored of the users and their domain, byte by byte, but for times of changes."""
    store = service.store
    if store.name == "openldap":
        found: list[Any] = []
        for mail in (U, V):
            entry = store.directory.entry(account_dn(mail))
            assert entry is not None
            found.append({name: sorted(values) for name, values in entry.items()})
        return found
    rows = await store.rows("SELECT * FROM mailbox ORDER BY username")
    rows += await store.rows("SELECT * FROM domain")
    return [{name: row[name] for name in row if name != "modified"} for row in rows]


async def test_what_other_programs_have_stored_is_restored_exactly(
    service: Service, root: Client
) -> None:
    """Capital letters, NULL, items without a semicolon, values that mean nothing."""
    store = service.store
    if store.name == "openldap":
        entry = store.directory
        entry.modify(account_dn(U), delete={"enabledService": ["imap", "sogo"]})
        entry.modify(account_dn(U), add={"enabledService": ["IMAP", "SOGo", "VPN-x"]})
    else:
        text = "timezone:Europe/Berlin; x : y;;last"
        await store.execute("UPDATE mailbox SET settings = :t", t=text)
        sogo = "enablesogowebmail = 'Y', enablesogocalendar = 'N', enablesogoactivesync = 'x'"
        await store.execute(f"UPDATE mailbox SET {sogo}, enablepop3 = 2 WHERE username = '{U}'")
    if store.name in ("mariadb", "mysql"):
        await store.execute(f"UPDATE mailbox SET settings = NULL WHERE username = '{U}'")
        await store.execute("UPDATE domain SET settings = NULL")
    before = await stored(service)
    for text in ("u+ u-", "d+ d-", "u+ d+ u- d-", "d+ u+ d- u-"):
        steps = [
            (f"user/{U}" if word[0] == "u" else "domain/ex.com", "yes" if word[1] == "+" else "no")
            for word in text.split()
        ]
        for path, value in steps:
            assert await changed(root, path, suspend=value) == ["suspend"], steps
            if value == "yes":
                assert await on(root, U) == RECEIVING
        assert await stored(service) == before, steps


@pytest.mark.sql_only("there is one mark of a service in LDAP, in any case")
async def test_capital_values_that_another_program_switches_on(
    service: Service, root: Client
) -> None:
    await root.ok("PUT", "domain/ex.com", suspend="yes")
    change = f"UPDATE mailbox SET enablesogowebmail = 'Y' WHERE username = '{V}'"
    await service.store.execute(change)
    assert await changed(root, "domain/ex.com", suspend="yes") == ["suspend"]
    assert await on(root, V) == RECEIVING
    await root.ok("PUT", "domain/ex.com", suspend="no")
    rows = await service.store.rows(
        f"SELECT enablesogowebmail AS value FROM mailbox WHERE username = '{V}'"
    )
    assert rows == [{"value": "Y"}]


async def test_the_domain_of_a_global_admin(service: Service, root: Client) -> None:
    """Only global admins suspend and resume a domain in which a global admin has the mailbox."""
    creator = await service.admin_of("ex.com", mail="creator@admins.test", maxDomains="5")
    await root.ok("PUT", f"user/{V}", isGlobalAdmin="yes")
    code = "PERMISSION_DENIED_UPDATE_GLOBAL_ADMIN_PROFILE"
    before = await everything(root)
    assert await creator.refused("PUT", "domain/ex.com", suspend="yes") == (403, code, [])
    assert await changed(creator, "domain/ex.com", suspend="no", name="New") == ["name"]
    assert await everything(root) == before
    await root.ok("PUT", "domain/ex.com", suspend="yes")
    assert await creator.refused("PUT", "domain/ex.com", suspend="no") == (403, code, [])
    assert await creator.refused("PUT", "domain/ex.com", suspend="yes") == (403, code, [])
    assert await on(root, V) - {"domainadmin"} == RECEIVING
    await root.ok("PUT", f"user/{V}", isGlobalAdmin="no")
    assert await changed(creator, "domain/ex.com", suspend="no") == ["suspend"]


async def test_rights(service: Service, root: Client) -> None:
    """A domain is resumed by who may create domains: its other admins are suspended, too."""
    admin = await service.admin_of("ex.com")
    assert await changed(admin, f"user/{U}", suspend="yes") == ["suspend"]
    wrong = await admin.refused("PUT", "domain/ex.com", suspend="yes")
    assert wrong == (403, "PERMISSION_DENIED", ["suspend"])
    await root.ok("PUT", "domain/ex.com", suspend="yes")
    wrong = await admin.refused("PUT", "domain/ex.com", suspend="no")
    assert wrong == (403, "PERMISSION_DENIED", ["suspend"])
    creator = await service.admin_of("ex.com", mail="creator@admins.test", maxDomains="5")
    assert await changed(creator, "domain/ex.com", suspend="no") == ["suspend"]


@pytest.mark.parametrize("path", ["domain/ex.com", f"user/{V}"])
async def test_dovecot_and_postfix_obey(
    service: Service,
    root: Client,
    postfix: PostfixMaps,
    dovecot_logins: Dovecot,
    submission: Submission,
    path: str,
) -> None:
    """Mail arrives; logins for reading and sending are refused, until the end of the suspension."""

    def seen() -> tuple[object, ...]:
        return (
            dovecot_logins.imap_login(V, PASSWORD),
            submission.login(V, PASSWORD),
            bool(postfix.query("sender_login_maps", V)),
            bool(postfix.query("virtual_mailbox_maps", V)),
            dovecot_logins.user(V, "lmtp") is not None,
        )

    assert seen() == ("yes", "yes", True, True, True)
    await root.ok("PUT", path, suspend="yes")
    assert seen() == ("no", "no", False, True, True)
    await root.ok("PUT", path, suspend="no")
    assert seen() == ("yes", "yes", True, True, True)
