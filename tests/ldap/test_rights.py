"""Rights and delivery where LDAP stores them differently than SQL."""

from __future__ import annotations

import pytest

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.openldap import ADMIN_BASE, account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")


async def test_catch_all_of_unproved_domain(store: Store, postfix: PostfixMaps) -> None:
    """The catch-all of a domain gets no mail of an unverified alias domain.

    Postfix asks for every recipient, so mail from here to the real domain would be caught.
    """
    async with serving(store, require_domain_ownership=True) as service:
        owner = await service.admin_of(maxDomains="5")
        await owner.ok("POST", "domain/mine.com")
        root = await service.root()
        await root.ok("PUT", "domain/mine.com", accountStatus="active")
        await owner.ok("POST", "user/me@mine.com", password=PASSWORD)
        await owner.ok("PUT", "domain/mine.com", catchall="me@mine.com", addAliasDomain="bank.com")
        assert postfix.query("catchall_maps", "@mine.com") == {"me@mine.com"}
        assert postfix.query("catchall_maps", "@bank.com") == set()


async def test_rights_left_behind(service: Service, root: Client, store: Store) -> None:
    """Rights left behind by another tool are not given to a new account with the address."""
    for name in ("a.com", "b.com"):
        await root.ok("POST", f"domain/{name}")
    store.directory.modify(domain_dn("b.com"), add={"domainAdmin": ["new@a.com", "next@a.com"]})
    await root.ok("POST", "user/new@a.com", password=PASSWORD)
    await root.ok("POST", "user/old@a.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/a.com", addAdmin="new@a.com,old@a.com")
    await root.ok("POST", "user/old@a.com/change_email/next@a.com")
    for mail in ("new@a.com", "next@a.com"):
        client = await service.client().login(mail)
        assert await client.ok("GET", "domains", name_only="yes") == ["a.com"]


async def test_standalone_admins_are_kept_when_a_domain_is_removed(
    service: Service, root: Client
) -> None:
    """Standalone admins with addresses in the domain keep their accounts and rights."""
    await root.ok("POST", "domain/b.com")
    await root.ok("POST", "admin/boss@brand.com", password=PASSWORD)
    await root.ok("POST", "admin/chief@other.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/b.com", addAdmin="boss@brand.com,chief@other.com")
    await root.ok("POST", "domain/brand.com")
    await root.ok("PUT", "domain/brand.com", addAliasDomain="other.com")
    await root.ok("DELETE", "domain/brand.com")
    for mail in ("boss@brand.com", "chief@other.com"):
        client = await service.client().login(mail)
        assert await client.ok("GET", "domains", name_only="yes") == ["b.com"]


async def test_addresses_of_a_removed_domain(store: Store, postfix: PostfixMaps) -> None:
    """No account of another domain keeps an address in a removed domain."""
    async with serving(store, user_alias_cross_all_domains=True) as service:
        root = await service.root()
        for name in ("a.com", "b.com"):
            await root.ok("POST", f"domain/{name}")
        await root.ok("POST", "user/u@b.com", password=PASSWORD)
        await root.ok("PUT", "user/u@b.com", addAlias="x@a.com,y@b.com")
        assert postfix.query("virtual_group_maps", "x@a.com") == {"u@b.com"}
        await root.ok("DELETE", "domain/a.com")
        assert postfix.query("virtual_group_maps", "x@a.com") == set()
        assert postfix.query("virtual_group_maps", "y@b.com") == {"u@b.com"}
        await root.ok("POST", "domain/a.com")
        await root.ok("POST", "user/x@a.com", password=PASSWORD)


async def test_case_that_matters(root: Client, store: Store) -> None:
    """Values that slapd treats as equal, but the file system of the mail server does not."""
    await root.ok("POST", "domain/a.com")
    await root.ok("POST", "user/u@a.com", password=PASSWORD)
    await root.ok("PUT", "user/u@a.com", mailboxFolder="MailDir", transport="lmtp:unix:private/A")
    await root.ok("PUT", "user/u@a.com", mailboxFolder="Maildir", transport="lmtp:unix:private/a")
    entry = store.directory.entry(account_dn("u@a.com"))
    assert entry is not None
    assert (entry["mailboxFolder"], entry["mtaTransport"]) == (["Maildir"], ["lmtp:unix:private/a"])
    await root.ok("PUT", "domain/a.com", transport="lmtp:unix:private/B")
    await root.ok("PUT", "domain/a.com", transport="lmtp:unix:private/b")
    domain = store.directory.entry(domain_dn("a.com"))
    assert domain is not None
    assert domain["mtaTransport"] == ["lmtp:unix:private/b"]
    await root.ok("PUT", "users/a.com", transport="lmtp:unix:private/A")
    entry = store.directory.entry(account_dn("u@a.com"))
    assert entry is not None
    assert entry["mtaTransport"] == ["lmtp:unix:private/A"]


def bearer(service: Service, secret: str) -> Client:
    client = service.client()
    client.http.headers["Authorization"] = f"Bearer {secret}"
    return client


@pytest.mark.parametrize("mail", ["g@admins.test", "g@a.com"])
async def test_tokens_and_their_owner(
    service: Service, root: Client, store: Store, mail: str
) -> None:
    """As on SQL: a token ends with its owner's password, and with its owner's account."""
    await root.ok("POST", "domain/a.com")
    noun, dn = ("admin", f"mail={mail},{ADMIN_BASE}")
    if mail == "g@a.com":
        noun, dn = "user", account_dn(mail)
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    owner = await service.client().login(mail)
    secret = (await owner.ok("POST", "tokens", label="x"))["token"]
    await root.ok("PUT", f"{noun}/{mail}", password="N3w-Password")
    assert (await owner.refused("GET", "domains"))[0] == 401
    refused = await bearer(service, secret).refused("GET", "domains")
    assert refused[:2] == (401, "INVALID_TOKEN")
    owner = await service.client().login(mail, "N3w-Password")
    secret = (await owner.ok("POST", "tokens", label="x"))["token"]
    await bearer(service, secret).ok("GET", "domains")
    # Another program removes the account, and makes one that is the same to the last letter.
    entry = store.directory.entry(dn)
    assert entry is not None
    store.directory.delete(dn)
    store.directory.add(dn, entry)
    await service.client().login(mail, "N3w-Password")
    refused = await bearer(service, secret).refused("GET", "domains")
    assert refused[:2] == (401, "INVALID_TOKEN")


async def test_default_lists_of_both_kinds(
    root: Client, store: Store, postfix: PostfixMaps
) -> None:
    """A new user becomes a subscriber of an mlmmj list, not a member of its entry."""
    await root.ok("POST", "domain/a.com")
    await root.ok("POST", "ml/news@a.com")
    await root.ok("POST", "maillist/all@a.com")
    setting = {"accountSetting": "defaultList:news@a.com,all@a.com"}
    store.directory.modify(domain_dn("a.com"), add=setting)
    await root.ok("POST", "user/u@a.com", password=PASSWORD)
    entry = store.directory.entry(account_dn("u@a.com"))
    assert entry is not None
    assert entry["memberOfGroup"] == ["all@a.com"]
    assert postfix.query("virtual_group_maps", "news@a.com") == {"news@a.com"}
    found = (await root.ok("GET", "ml/news@a.com", with_subscribers="yes"))["subscribers"]
    assert [item["mail"] for item in found] == ["u@a.com"]
