"""Services, telephone numbers and settings of users and domains that only LDAP stores."""

from __future__ import annotations

import pytest
import pytest_asyncio

from iredapi.domain import services
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.histories import HASH
from tests.servers.dovecot import Dovecot
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
U = "u@ex.com"
MARKS = ("suspended", "domainsuspended", "Suspended-imap", "domainsuspended-vpn")
"""Words that only suspending writes: a user with one would not be suspended with its domain."""
CONDITIONS = services.CONDITIONS
INTERNAL = services.INTERNAL


@pytest_asyncio.fixture(loop_scope="session")
async def made(root: Client) -> Client:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", f"user/{U}", password=PASSWORD)
    return root


def of_user(store: Store, mail: str = U) -> set[str]:
    found = store.directory.entry(account_dn(mail))
    assert found is not None
    return {word.lower() for word in found["enabledService"]}


def of_domain(store: Store) -> set[str]:
    found = store.directory.entry(domain_dn("ex.com"))
    assert found is not None
    return set(found["enabledService"])


async def test_a_new_user_has_everything(made: Client, store: Store) -> None:
    assert of_user(store) == services.MANAGED | services.LDAP_DEFAULT | INTERNAL
    found = store.directory.entry(account_dn(U))
    assert found is not None
    assert "displayedInGlobalAddressBook" in found["enabledService"]


async def test_any_word_is_a_service(made: Client, store: Store) -> None:
    before = of_user(store)
    await made.ok("PUT", f"user/{U}", addService="vpn,OwnCloud,git.lab-1_x")
    assert of_user(store) == before | {"vpn", "owncloud", "git.lab-1_x"}
    assert {"vpn", "owncloud"} <= set((await made.ok("GET", f"user/{U}"))["enabledService"])
    await made.ok("PUT", f"user/{U}", removeService="vpn,never-there,forward,senderbcc")
    assert of_user(store) == (before | {"owncloud", "git.lab-1_x"}) - {"forward", "senderbcc"}
    # Not in the shape that is the same on every storage.
    shown = await made.ok("GET", f"user/{U}", view="canonical")
    assert set(shown["services"]) == set(services.COLUMNS)


async def test_a_reset(made: Client, store: Store, postfix: PostfixMaps) -> None:
    """Internal services of Dovecot are kept; some services are set together."""
    await made.ok("PUT", f"user/{U}", addService="vpn")
    await made.ok("PUT", f"user/{U}", services="gitlab,deliver,managesieve,managesievetls,imaptls")
    assert of_user(store) == CONDITIONS | INTERNAL | {
        "gitlab", "deliver", "lda", "lmtp", "managesieve", "sieve", "managesievetls", "sievetls",
        "imaptls",
    }  # fmt: skip
    assert postfix.query("virtual_mailbox_maps", U)
    await made.ok("PUT", f"user/{U}", services="")
    assert of_user(store) == CONDITIONS | INTERNAL
    await made.ok("PUT", f"user/{U}", services="mail,smtp,pop3,imap")
    assert of_user(store) == CONDITIONS | INTERNAL | {"smtp", "pop3", "imap"}
    await made.ok("PUT", f"user/{U}", services="smtpsecured")
    assert of_user(store) == CONDITIONS | INTERNAL | {"smtpsecured", "smtptls"}
    await made.ok("PUT", f"user/{U}", removeService="smtpsecured")
    assert of_user(store) == CONDITIONS | INTERNAL


async def test_what_was_read_can_be_sent(made: Client, store: Store) -> None:
    await made.ok("PUT", f"user/{U}", addService="vpn", removeService="pop3,managesieve")
    before = of_user(store)
    sent = ",".join((await made.ok("GET", f"user/{U}"))["enabledService"])
    await made.ok("PUT", f"user/{U}", services=sent)
    assert of_user(store) == before


async def test_service_mail_can_be_removed(
    made: Client, store: Store, postfix: PostfixMaps
) -> None:
    await made.ok("PUT", f"user/{U}", removeService="mail")
    assert "mail" not in of_user(store)
    assert postfix.query("virtual_mailbox_maps", U) == set()
    await made.ok("PUT", f"user/{U}", services="imap,deliver")
    assert "mail" not in of_user(store)
    await made.ok("PUT", f"user/{U}", addService="mail")
    assert postfix.query("virtual_mailbox_maps", U)


async def test_rights_and_inner_services_are_not_for_clients(made: Client, store: Store) -> None:
    for form in ({"addService": "domainadmin"}, {"services": "domainadmin,imap"}):
        await made.ok("PUT", f"user/{U}", **form)
        assert "domainadmin" not in of_user(store)
    await made.ok("PUT", "domain/admins/ex.com", addAdmin=U)
    everything = "domainadmin," + ",".join(INTERNAL)
    for form in ({"removeService": everything}, {"services": ""}):
        await made.ok("PUT", f"user/{U}", **form)
        assert of_user(store) >= INTERNAL | {"domainadmin"}


async def test_logins_follow_services(made: Client, dovecot: Dovecot) -> None:
    await made.ok("PUT", f"user/{U}", services="imaptls,smtpsecured,deliver")
    assert dovecot.auth_test(U, PASSWORD, service="imap", secured="tls")
    assert dovecot.auth_test(U, PASSWORD, service="smtp", secured="tls")
    assert not dovecot.auth_test(U, PASSWORD, service="pop3", secured="tls")
    assert not dovecot.auth_test(U, PASSWORD, service="sieve", secured="tls")
    assert dovecot.user(U, "lmtp") is not None
    assert dovecot.user(U, "doveadm") is not None


@pytest.mark.parametrize("param", ["services", "addService", "removeService"])
@pytest.mark.parametrize("word", ["ä", "a b", "-x", "x" * 65, "a=b", "a\x01", *MARKS])
async def test_malformed_services(made: Client, store: Store, param: str, word: str) -> None:
    before = store.directory.dump()
    refused = await made.refused("PUT", f"user/{U}", **{param: f"imap,{word}"})
    assert refused == (400, "INVALID_VALUE", [param])
    assert store.directory.dump() == before


async def test_settings_for_new_users(store: Store) -> None:
    async with serving(
        store, enabled_user_services="vpn", disabled_user_services="smtpsecured,forward,pop3"
    ) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", f"user/{U}", password_hash=HASH)
        assert "vpn" in of_user(store)
        assert not {"smtpsecured", "smtptls", "forward", "pop3"} & of_user(store)


# Domains ------------------------------------------------------------------------------------------


async def test_services_of_domains(made: Client, store: Store, postfix: PostfixMaps) -> None:
    assert of_domain(store) == {"mail"}
    await made.ok("PUT", "domain/ex.com", addService="self-service,senderbcc,vpn")
    assert of_domain(store) == {"mail", "self-service", "senderbcc"}
    await made.ok("PUT", "domain/ex.com", addAliasDomain="al.com", recipientBcc="b@far.org")
    # A reset leaves what mail needs.
    await made.ok("PUT", "domain/ex.com", services="")
    assert of_domain(store) == {"mail", "senderbcc", "domainalias", "recipientbcc"}
    assert postfix.query("virtual_mailbox_domains", "al.com")
    await made.ok("PUT", "domain/ex.com", removeService="senderbcc,mail")
    assert of_domain(store) == {"domainalias", "recipientbcc"}
    assert postfix.query("virtual_mailbox_domains", "ex.com") == set()
    await made.ok("PUT", "domain/ex.com", services="mail,self-service")
    assert of_domain(store) == {"domainalias", "recipientbcc", "mail", "self-service"}
    shown = await made.ok("GET", "domain/ex.com", view="canonical")
    assert shown["services"] == ["self-service"]


# Telephone numbers, access policies ---------------------------------------------------------------


async def test_phones(made: Client, store: Store) -> None:
    await made.ok("PUT", f"user/{U}", mobile="+49 (170) 1, ext=5?,1-2,1 2", telephoneNumber="7:8")
    found = store.directory.entry(account_dn(U))
    assert found is not None
    assert found["mobile"] == ["+49 (170) 1", "1 2", "ext=5?"]
    assert found["telephoneNumber"] == ["7:8"]
    await made.ok("PUT", f"user/{U}", mobile="", telephoneNumber=" - , ,")
    found = store.directory.entry(account_dn(U))
    assert found is not None
    assert not {"mobile", "telephoneNumber"} & found.keys()


@pytest.mark.parametrize("param", ["mobile", "telephoneNumber"])
@pytest.mark.parametrize("text", ["#31#", "1_2", "1;2", "é", "1*2", "１"])
async def test_malformed_phones(made: Client, store: Store, param: str, text: str) -> None:
    before = store.directory.dump()
    refused = await made.refused("PUT", f"user/{U}", **{param: f"1,{text}"})
    assert refused == (400, "INVALID_TEXT", [param])
    assert store.directory.dump() == before


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_aliases_have_no_policy(made: Client, store: Store, method: str) -> None:
    if method == "PUT":
        await made.ok("POST", "alias/a@ex.com")
    before = store.directory.dump()
    refused = await made.refused(method, "alias/a@ex.com", accessPolicy="domain", name="N")
    assert refused == (501, "NOT_SUPPORTED_BY_BACKEND", ["accessPolicy"])
    assert store.directory.dump() == before


async def test_a_normal_admin_too(made: Client, service: Service, store: Store) -> None:
    admin = await service.admin_of("ex.com")
    await admin.ok("PUT", f"user/{U}", addService="vpn")
    assert "vpn" in of_user(store)
