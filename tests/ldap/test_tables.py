"""Postfix' tables and Dovecot's lookups in a hand-written tree.

These prove the harness: entries are put there past all rules, and the answers are those that an
iRedMail server with OpenLDAP gives.
"""

from __future__ import annotations

import os

import pytest

from iredapi.domain.passwords import Scheme, hash_password
from tests.clients import PASSWORD
from tests.ldap.seeds import SERVICES, Seeds
from tests.servers import lookups
from tests.servers.dovecot import Dovecot, Secured, version
from tests.servers.lookups import MailServer, RealMailServer
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.postfix_ldap import MAPS
from tests.servers.process import ServerError
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
U, B = "u@ex.com", "b@ex.com"
ALIASED = {"domainAliasName": "al.com", "enabledService": ["mail", "domainalias"]}


def without(*names: str) -> list[str]:
    return [name for name in SERVICES if name not in names]


@pytest.fixture
def seeds(store: Store) -> Seeds:
    """Domain ex.com with alias domain al.com, users u and b."""
    seeds = Seeds(store.directory)
    seeds.domain("ex.com", **ALIASED)  # type: ignore[arg-type]
    seeds.user(U, shadowAddress="u@al.com")
    seeds.user(B, shadowAddress="b@al.com")
    return seeds


@pytest.fixture
def server(postfix: PostfixMaps, dovecot: Dovecot) -> MailServer:
    return RealMailServer(postfix, dovecot)


# Postfix: domains ------------------------------------------------------------------------------


def test_domains(seeds: Seeds, postfix: PostfixMaps) -> None:
    assert postfix.query("virtual_mailbox_domains", "ex.com") == {"ex.com"}
    assert postfix.query("virtual_mailbox_domains", "EX.com") == {"ex.com"}
    # The answer is the primary name; that there is one is what counts.
    assert postfix.query("virtual_mailbox_domains", "al.com") == {"ex.com"}
    assert postfix.query("virtual_mailbox_domains", "other.com") == set()
    assert postfix.query("relay_domains", "ex.com") == set()
    for domain in ("ex.com", "al.com"):
        assert postfix.query("transport_maps_domain", domain) == {"dovecot"}


@pytest.mark.parametrize(
    "name, value", [("accountStatus", "disabled"), ("accountStatus", ""), ("enabledService", "")]
)
def test_a_domain_that_is_not_active(
    seeds: Seeds, postfix: PostfixMaps, name: str, value: str
) -> None:
    seeds.directory.modify(domain_dn("ex.com"), replace={name: [value] if value else []})
    for domain in ("ex.com", "al.com"):
        for table in ("virtual_mailbox_domains", "relay_domains", "transport_maps_domain"):
            assert postfix.query(table, domain) == set(), table


def test_an_alias_domain_needs_the_service(seeds: Seeds, postfix: PostfixMaps) -> None:
    seeds.directory.modify(
        domain_dn("ex.com"),
        delete={"enabledService": "domainalias"},
        replace={"domainPendingAliasName": "wait.com"},
    )
    assert postfix.query("virtual_mailbox_domains", "ex.com") == {"ex.com"}
    assert postfix.query("virtual_mailbox_domains", "al.com") == set()
    assert postfix.query("transport_maps_domain", "al.com") == {"dovecot"}
    assert postfix.query("transport_maps_domain", "wait.com") == set()


def test_a_backup_mx_is_only_in_relay_domains(seeds: Seeds, postfix: PostfixMaps) -> None:
    seeds.directory.modify(
        domain_dn("ex.com"),
        replace={"domainBackupMX": "yes", "mtaTransport": "relay:[10.0.0.1]:25"},
    )
    for domain in ("ex.com", "al.com"):
        assert postfix.query("virtual_mailbox_domains", domain) == set()
        assert postfix.query("relay_domains", domain) == {"ex.com"}
        assert postfix.query("transport_maps_domain", domain) == {"relay:[10.0.0.1]:25"}


# Postfix: users --------------------------------------------------------------------------------


async def test_a_user_without_forwarding(
    seeds: Seeds, postfix: PostfixMaps, server: MailServer
) -> None:
    for address in (U, "u@al.com"):
        path = {"/var/vmail/vmail1/ex.com/u//Maildir/"}
        assert postfix.query("virtual_mailbox_maps", address) == path
        assert postfix.query("virtual_alias_maps", address) == set()
        assert postfix.query("virtual_group_members_maps", address) == {U}
        assert postfix.query("sender_login_maps", address) == {U}
        assert await lookups.delivery(server, address) == {U}
    # The group map answers for other addresses of a user, not for the user's own.
    assert postfix.query("virtual_group_maps", U) == set()
    assert postfix.query("virtual_group_maps", "u@al.com") == {U}
    assert postfix.query("virtual_group_members_maps", "nobody@ex.com") == set()
    assert not await lookups.accepts(server, "nobody@ex.com")


async def test_forwarding(seeds: Seeds, postfix: PostfixMaps, server: MailServer) -> None:
    far = ["x@far.com", U]
    seeds.directory.modify(account_dn(U), add={"mailForwardingAddress": far})
    for address in (U, "u@al.com"):
        assert postfix.query("virtual_alias_maps", address) == set(far)
        assert await lookups.delivery(server, address) == set(far)
    seeds.directory.modify(account_dn(U), delete={"mailForwardingAddress": U})
    assert await lookups.delivery(server, U) == {"x@far.com"}
    seeds.directory.modify(account_dn(U), delete={"enabledService": "forward"})
    assert postfix.query("virtual_alias_maps", U) == set()
    assert postfix.query("virtual_group_members_maps", U) == {U}
    assert await lookups.delivery(server, U) == {U}


async def test_without_deliver_mail_is_still_forwarded(
    seeds: Seeds, postfix: PostfixMaps, server: MailServer
) -> None:
    seeds.directory.modify(
        account_dn(U),
        replace={"mailForwardingAddress": "x@far.com", "enabledService": without("deliver")},
    )
    assert postfix.query("virtual_alias_maps", U) == set()
    assert postfix.query("virtual_mailbox_maps", U) == set()
    assert postfix.query("catchall_maps", U) == {"x@far.com"}
    assert await lookups.delivery(server, U) == {"x@far.com"}


@pytest.mark.parametrize("name", ["accountStatus", "domainStatus"])
async def test_a_disabled_user_gets_no_mail(
    seeds: Seeds, postfix: PostfixMaps, server: MailServer, name: str
) -> None:
    seeds.catch_all("ex.com", "c@far.com", shadowAddress="@al.com")
    seeds.directory.modify(account_dn(U), replace={name: "disabled"})
    for table in set(MAPS) - {"virtual_mailbox_domains", "relay_domains"}:
        if not table.endswith("_domain"):
            assert postfix.query(table, U) == set(), table
    # The catch-all gets the mail.
    for address in (U, "u@al.com"):
        assert await lookups.delivery(server, address) == {"c@far.com"}
    for service, secured in LOGINS:
        assert not await server.login(U, PASSWORD, service, secured)
    assert await server.user(U) is None


async def test_a_disabled_domain_needs_status_of_all_accounts(
    seeds: Seeds, postfix: PostfixMaps, server: MailServer
) -> None:
    seeds.directory.modify(domain_dn("ex.com"), replace={"accountStatus": "disabled"})
    assert await lookups.delivery(server, U) == set()
    assert postfix.query("virtual_group_members_maps", U) == {U}
    assert await server.login(U, PASSWORD)
    seeds.directory.modify(account_dn(U), replace={"domainStatus": "disabled"})
    assert postfix.query("virtual_group_members_maps", U) == set()
    assert not await server.login(U, PASSWORD)


async def test_catch_all(seeds: Seeds, server: MailServer) -> None:
    seeds.catch_all("ex.com", B, "c@far.com", shadowAddress="@al.com")
    for domain in ("ex.com", "al.com"):
        assert await lookups.delivery(server, f"nobody@{domain}") == {B, "c@far.com"}
        assert await lookups.accepts(server, f"nobody@{domain}")
        assert await lookups.delivery(server, f"u@{domain}") == {U}
    assert not await server.login("@ex.com", "")


async def test_transports(seeds: Seeds, postfix: PostfixMaps, server: MailServer) -> None:
    assert await lookups.transport(server, U) == "dovecot"
    seeds.directory.modify(account_dn(U), replace={"mtaTransport": "smtp:[10.0.0.9]"})
    assert postfix.query("transport_maps_user", U) == {"smtp:[10.0.0.9]"}
    # The base has the primary domain in it.
    assert postfix.query("transport_maps_user", "u@al.com") == set()
    assert await lookups.transport(server, U) == "smtp:[10.0.0.9]"
    assert await lookups.transport(server, "u@al.com") == "dovecot"


@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_copies(seeds: Seeds, server: MailServer, side: str) -> None:
    name = side.capitalize()
    domain, user = domain_dn("ex.com"), account_dn(U)
    seeds.directory.modify(domain, replace={f"domain{name}BccAddress": "d@far.com"})
    # The attribute alone does nothing.
    assert await lookups.copies(server, side, U) == set()
    seeds.directory.modify(domain, add={"enabledService": f"{side}bcc"})
    for address in (U, "u@al.com"):
        assert await lookups.copies(server, side, address) == {"d@far.com"}
    seeds.directory.modify(user, replace={f"user{name}BccAddress": "b@far.com"})
    assert await lookups.copies(server, side, U) == {"b@far.com"}
    assert await lookups.copies(server, side, "u@al.com") == {"d@far.com"}
    seeds.directory.modify(user, replace={"enabledService": without(f"{side}bcc")})
    assert await lookups.copies(server, side, U) == {"d@far.com"}


async def test_relayhosts(seeds: Seeds, server: MailServer) -> None:
    assert await lookups.relayhost(server, U) is None
    seeds.directory.modify(domain_dn("ex.com"), replace={"senderRelayHost": "[10.0.0.2]:25"})
    assert await lookups.relayhost(server, U) == "[10.0.0.2]:25"
    assert await lookups.relayhost(server, "u@al.com") == "[10.0.0.2]:25"
    seeds.directory.modify(account_dn(U), replace={"senderRelayHost": "[10.0.0.3]:25"})
    assert await lookups.relayhost(server, U) == "[10.0.0.3]:25"
    assert await lookups.relayhost(server, B) == "[10.0.0.2]:25"


async def test_service_smtp(seeds: Seeds, server: MailServer) -> None:
    assert await lookups.sends_as(server, U) == {U}
    seeds.directory.modify(account_dn(U), delete={"enabledService": "smtp"})
    assert await lookups.sends_as(server, U) == set()


# Postfix: aliases and lists --------------------------------------------------------------------


async def test_aliases(seeds: Seeds, postfix: PostfixMaps, server: MailServer) -> None:
    dn = seeds.alias("all@ex.com", U, "x@far.com", "more@ex.com", shadowAddress="all@al.com")
    seeds.alias("more@ex.com", B)
    for address in ("all@ex.com", "all@al.com"):
        direct = {U, "x@far.com", "more@ex.com"}
        assert postfix.query("virtual_alias_maps", address) == direct
        assert await lookups.delivery(server, address) == {U, B, "x@far.com"}
    seeds.directory.modify(dn, replace={"accountStatus": "disabled"})
    assert await lookups.delivery(server, "all@ex.com") == set()
    assert not await lookups.accepts(server, "all@ex.com")


@pytest.fixture
def everybody(seeds: Seeds) -> Seeds:
    """A list l@ex.com with all kinds of members."""
    seeds.maillist("l@ex.com", shadowAddress="l@al.com")
    for mail in (U, B):
        seeds.directory.modify(account_dn(mail), add={"memberOfGroup": "l@ex.com"})
    seeds.alias("a@ex.com", "a@far.com", memberOfGroup="l@ex.com")
    seeds.ml("ml@ex.com", memberOfGroup="l@ex.com")
    seeds.externals("l@ex.com", "x@far.com", "y@far.com")
    return seeds


async def test_a_list_with_members_of_all_kinds(
    everybody: Seeds, postfix: PostfixMaps, server: MailServer
) -> None:
    all_of_them = {U, B, "a@ex.com", "ml@ex.com", "x@far.com", "y@far.com"}
    assert postfix.query("virtual_group_maps", "l@ex.com") == all_of_them
    ends = all_of_them - {"a@ex.com"} | {"a@far.com"}
    assert await lookups.delivery(server, "l@ex.com") == ends


def test_a_list_in_an_alias_domain_is_its_members(everybody: Seeds, postfix: PostfixMaps) -> None:
    # The shadowAddress of the list itself is not looked at.
    assert postfix.query("virtual_group_maps", "l@al.com") == set()
    everybody.directory.modify(account_dn(U), add={"memberOfGroup": "l@al.com"})
    assert postfix.query("virtual_group_maps", "l@al.com") == {U}


def test_only_the_members_count_and_not_the_list(everybody: Seeds, postfix: PostfixMaps) -> None:
    full = postfix.query("virtual_group_maps", "l@ex.com")
    maillist = account_dn("l@ex.com", "Groups")
    everybody.directory.modify(maillist, replace={"accountStatus": "disabled"})
    assert postfix.query("virtual_group_maps", "l@ex.com") == full
    everybody.directory.modify(account_dn(U), replace={"accountStatus": "disabled"})
    everybody.directory.modify(account_dn(B), replace={"enabledService": without("deliver")})
    assert postfix.query("virtual_group_maps", "l@ex.com") == full - {U, B}
    everybody.directory.delete(maillist)
    assert postfix.query("virtual_group_maps", "l@ex.com") == full - {U, B}


async def test_a_list_without_members_does_not_exist(seeds: Seeds, server: MailServer) -> None:
    seeds.maillist("l@ex.com")
    assert not await lookups.accepts(server, "l@ex.com")
    seeds.catch_all("ex.com", "c@far.com")
    assert await lookups.delivery(server, "l@ex.com") == {"c@far.com"}


async def test_a_mlmmj_list(seeds: Seeds, postfix: PostfixMaps, server: MailServer) -> None:
    dn = seeds.ml("ml@ex.com", shadowAddress="ml@al.com")
    for address in ("ml@ex.com", "ml@al.com"):
        assert postfix.query("virtual_group_maps", address) == {"ml@ex.com"}
        assert await lookups.delivery(server, address) == {"ml@ex.com"}
    assert postfix.query("transport_maps_user", "ml@ex.com") == {"mlmmj:ex.com/ml"}
    seeds.directory.modify(dn, replace={"accountStatus": "disabled"})
    assert not await lookups.accepts(server, "ml@ex.com")
    assert postfix.query("transport_maps_user", "ml@ex.com") == set()


def test_a_failing_table_is_not_an_answer(store: Store, postfix: PostfixMaps) -> None:
    broken = PostfixMaps(store)
    path = broken._directory / "virtual_alias_maps.cf"
    path.write_text(path.read_text(encoding="utf-8").replace("bind_pw = ", "bind_pw = x"))
    os.utime(path, (0, 0))
    with pytest.raises(ServerError):
        broken.query("virtual_alias_maps", U)
    broken.close()
    with pytest.raises(ValueError, match="no such map"):
        postfix.query("domain_alias_maps", "ex.com")


# Dovecot ---------------------------------------------------------------------------------------

LOGINS: list[tuple[str, Secured]] = [
    ("imap", ""), ("imap", "secured"), ("imap", "tls"), ("pop3", ""), ("pop3", "secured"),
    ("pop3", "tls"), ("sieve", ""), ("sieve", "secured"), ("sieve", "tls"), ("smtp", ""),
    ("smtp", "secured"), ("smtp", "tls"), ("lda", ""), ("lmtp", ""), ("doveadm", ""),
]  # fmt: skip


def test_a_user_logs_in(seeds: Seeds, dovecot: Dovecot) -> None:
    for service, secured in LOGINS:
        assert dovecot.auth_test(U, PASSWORD, service=service, secured=secured), service
        assert not dovecot.auth_test(U, "wrong", service=service, secured=secured), service
    assert not dovecot.auth_test("nobody@ex.com", PASSWORD)
    seeds.directory.modify(account_dn(U), replace={"homeDirectory": "/var/vmail/vmail1/ex.com/U/"})
    for service in ("lda", "lmtp", "quota-status", "lib-storage", "indexer-worker", "dsync"):
        assert dovecot.user(U, service) == {
            "home": "/var/vmail/vmail1/ex.com/u/",
            "mail": "maildir:~/Maildir",
            "quota_rule": "*:bytes=104857600",
        }
    assert dovecot.user("nobody@ex.com") is None
    assert dovecot.users() == {U, B}


def test_what_is_absent_has_a_default(seeds: Seeds, dovecot: Dovecot) -> None:
    seeds.directory.modify(account_dn(U), delete=["mailQuota"])
    seeds.directory.modify(account_dn(B), add={"mailboxFormat": "mdbox", "mailboxFolder": "Mail"})
    fields, other = dovecot.user(U), dovecot.user(B)
    assert fields is not None
    assert fields["quota_rule"] == "*:bytes=0"
    assert other is not None
    assert other["mail"] == "mdbox:~/Mail"


@pytest.mark.parametrize("service, secured", LOGINS)
def test_a_login_needs_its_service(
    seeds: Seeds, dovecot: Dovecot, service: str, secured: Secured
) -> None:
    seeds.directory.modify(account_dn(U), delete={"enabledService": service + secured})
    let_in = {
        name + how: dovecot.auth_test(U, PASSWORD, service=name, secured=how)
        for name, how in LOGINS
        if name == service
    }
    assert {name for name, ok in let_in.items() if not ok} == {service + secured}


def test_managesieve_is_called_sieve(seeds: Seeds, dovecot: Dovecot) -> None:
    seeds.directory.modify(account_dn(U), delete={"enabledService": ["managesieve"]})
    assert dovecot.auth_test(U, PASSWORD, service="sieve", secured="")
    seeds.directory.modify(account_dn(U), delete={"enabledService": ["sieve"]})
    assert not dovecot.auth_test(U, PASSWORD, service="sieve", secured="")


def test_login_by_an_alias_address(seeds: Seeds, dovecot: Dovecot) -> None:
    assert dovecot.auth_test("u@al.com", PASSWORD)
    assert dovecot.user("u@al.com") == dovecot.user(U)
    seeds.directory.modify(account_dn(U), delete={"enabledService": "shadowaddress"})
    assert not dovecot.auth_test("u@al.com", PASSWORD)
    assert dovecot.auth_test(U, PASSWORD)


def test_allowed_networks(seeds: Seeds, dovecot: Dovecot) -> None:
    seeds.directory.modify(account_dn(U), add={"allowNets": "10.0.0.0/8,192.168.1.1"})
    assert dovecot.auth_test(U, PASSWORD, remote_ip="10.9.8.7")
    assert not dovecot.auth_test(U, PASSWORD, remote_ip="192.168.1.2")


def test_a_login_without_an_address(seeds: Seeds, dovecot: Dovecot) -> None:
    """iRedMail's files for 2.4 have all networks as the default: no address is in none of them."""
    assert dovecot.auth_test(U, PASSWORD, remote_ip=None) == (version() < (2, 4))


# Dovecot 2.3 binds as the user, and these are the schemes that slapd can check; 2.4 reads the hash.
# BCRYPT is written as {CRYPT}$2b$….
CHECKED = frozenset({Scheme.SSHA, Scheme.SSHA512, Scheme.SHA512, Scheme.BCRYPT})


@pytest.mark.parametrize("scheme", Scheme)
def test_which_schemes_are_checked(seeds: Seeds, dovecot: Dovecot, scheme: Scheme) -> None:
    hashed = hash_password(PASSWORD, scheme, bcrypt_cost=4)
    seeds.directory.modify(account_dn(U), replace={"userPassword": hashed})
    assert dovecot.auth_test(U, PASSWORD) == (scheme in CHECKED or version() >= (2, 4))
    assert not dovecot.auth_test(U, "wrong")


@pytest.mark.parametrize("prefix", ["", "{PLAIN}", "{CLEARTEXT}", "{CRYPT}"])
def test_what_becomes_of_plain_text(seeds: Seeds, dovecot: Dovecot, prefix: str) -> None:
    """A bind takes it without a prefix only; 2.4 then takes it for a hash of crypt(3)."""
    hashed = hash_password(PASSWORD, Scheme.SHA512_CRYPT).removeprefix("{SHA512-CRYPT}")
    text = f"{prefix}{hashed if prefix == '{CRYPT}' else PASSWORD}"
    seeds.directory.modify(account_dn(U), replace={"userPassword": text})
    if version() < (2, 4):
        assert dovecot.auth_test(U, PASSWORD) == (prefix in ("", "{CRYPT}"))
    elif prefix:
        assert dovecot.auth_test(U, PASSWORD)
    else:
        with pytest.raises(ServerError):
            dovecot.auth_test(U, PASSWORD)


def test_a_directory_that_is_down_is_not_a_refusal(
    seeds: Seeds, store: Store, dovecot: Dovecot
) -> None:
    store.directory.halt()
    try:
        with pytest.raises(ServerError):
            dovecot.auth_test(U, PASSWORD)
    finally:
        store.directory.resume()
    assert dovecot.auth_test(U, PASSWORD)
