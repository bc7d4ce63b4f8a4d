"""The test servers themselves: rows written by hand, as Postfix and Dovecot see them."""

from __future__ import annotations

import os
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.dovecot import Dovecot, Secured, version
from tests.servers.postfix import QUERIES, PostfixMaps
from tests.servers.process import ServerError
from tests.servers.store import DATABASES, Store
from tests.servers.submission import Submission

pytestmark = pytest.mark.sql_only(
    "rows by hand; tests/ldap/test_server.py and test_tables.py say the same of OpenLDAP"
)

MAILDIR = "ex.com/u/_/_/u-2026.01.02.03.04.05/"


async def arrange(store: Store) -> None:
    """Domain ex.com, alias domain al.com, user u@ex.com."""
    await store.insert("domain", {"domain": "ex.com", "transport": "dovecot"})
    await store.insert("alias_domain", {"alias_domain": "al.com", "target_domain": "ex.com"})
    await store.insert(
        "mailbox",
        {
            "username": "u@ex.com",
            "password": "{PLAIN}right",
            "domain": "ex.com",
            "storagebasedirectory": "/var/vmail",
            "storagenode": "vmail1",
            "maildir": MAILDIR,
            "quota": 100,
        },
    )
    await forward(store, "u@ex.com", "u@ex.com", is_forwarding=1)


async def forward(store: Store, address: str, forwarding: str, **flags: int) -> None:
    row = {"address": address, "forwarding": forwarding, "domain": "ex.com"}
    await store.insert("forwardings", {**row, "dest_domain": forwarding.split("@")[1], **flags})


async def test_reset_is_quick_and_complete(store: Store) -> None:
    await arrange(store)
    await store.reset()
    assert await store.rows("SELECT username FROM mailbox") == []
    started = time.perf_counter()
    for _ in range(5):
        await store.reset()
    assert (time.perf_counter() - started) / 5 < 0.5


async def test_product_logins_work(store: Store) -> None:
    for url in (*store.urls().values(), *filter(None, [store.vmail_reader])):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
        await engine.dispose()
    assert set(store.urls()) == set(DATABASES)


REFUSED = {
    "postgresql": [],
    "mariadb": [
        "CREATE TABLE extra (id INT)",
        "CREATE TEMPORARY TABLE extra (id INT)",
        "LOCK TABLES mailbox WRITE",
        "DROP TABLE mailbox",
        "TRUNCATE TABLE mailbox",
    ],
}


@pytest.mark.stores("postgresql", "mariadb")
async def test_rights_are_those_of_iredmail(store: Store) -> None:
    await arrange(store)
    insert = "INSERT INTO domain (domain) VALUES ('other.com')"
    admin, reader = create_async_engine(store.vmail), create_async_engine(store.vmail_reader)
    try:
        async with admin.begin() as connection:
            await connection.execute(text(insert))
            found = await connection.execute(text("SELECT * FROM mailbox FOR UPDATE"))
            assert len(found.all()) == 1
        for statement in REFUSED[store.name]:
            async with admin.connect() as connection:
                with pytest.raises(DBAPIError, match="denied"):
                    await connection.execute(text(statement))
        async with reader.connect() as connection:
            assert await connection.scalar(text("SELECT COUNT(*) FROM mailbox")) == 1
            with pytest.raises(DBAPIError, match="denied"):
                await connection.execute(text("DELETE FROM mailbox"))
    finally:
        await admin.dispose()
        await reader.dispose()


async def test_postfix_finds_a_user(store: Store, postfix: PostfixMaps) -> None:
    await arrange(store)
    assert postfix.query("virtual_mailbox_domains", "ex.com") == {"ex.com"}
    assert postfix.query("virtual_mailbox_domains", "al.com") == {"al.com"}
    assert postfix.query("virtual_mailbox_domains", "other.com") == set()
    assert postfix.query("relay_domains", "ex.com") == set()
    assert postfix.query("transport_domain", "ex.com") == {"dovecot"}
    assert postfix.query("transport_user", "u@ex.com") == set()
    assert postfix.query("virtual_alias_maps", "u@ex.com") == {"u@ex.com"}
    assert postfix.query("virtual_alias_maps", "U@EX.com") == {"u@ex.com"}
    assert postfix.query("virtual_alias_maps", "u@al.com") == set()
    assert postfix.query("domain_alias_maps", "u@al.com") == {"u@ex.com"}
    assert postfix.query("domain_alias_maps", "al.com") == set()
    assert postfix.query("virtual_mailbox_maps", "u@ex.com") == {f"vmail1/{MAILDIR}/Maildir/"}
    assert postfix.query("sender_login_maps", "u@ex.com") == {"u@ex.com"}


async def test_postfix_answers_with_all_rows(store: Store, postfix: PostfixMaps) -> None:
    await arrange(store)
    await forward(store, "u@ex.com", "x@gmail.com", is_forwarding=1)
    assert postfix.query("virtual_alias_maps", "u@ex.com") == {"u@ex.com", "x@gmail.com"}
    await store.execute("UPDATE forwardings SET active = 0 WHERE forwarding = 'u@ex.com'")
    assert postfix.query("virtual_alias_maps", "u@ex.com") == {"x@gmail.com"}


async def test_postfix_and_a_catch_all(store: Store, postfix: PostfixMaps) -> None:
    await arrange(store)
    await forward(store, "ex.com", "u@ex.com")
    assert postfix.query("catchall_maps", "nobody@ex.com") == {"u@ex.com"}
    assert postfix.query("catchall_maps", "nobody+t@ex.com") == set()
    assert postfix.query("catchall_maps", "nobody@al.com") == set()
    assert postfix.query("domain_alias_catchall_maps", "nobody@al.com") == {"u@ex.com"}
    assert postfix.query("domain_alias_catchall_maps", "nobody+t@al.com") == {"u@ex.com"}
    assert postfix.query("domain_alias_catchall_maps", "nobody@ex.com") == set()


async def test_postfix_transports_relays_and_copies(store: Store, postfix: PostfixMaps) -> None:
    await arrange(store)
    await store.execute("UPDATE mailbox SET transport = 'lmtp:unix:private/dovecot-lmtp'")
    await store.insert("sender_relayhost", {"account": "@ex.com", "relayhost": "[10.0.0.2]:25"})
    for direction in ("sender", "recipient"):
        user = {"username": "u@ex.com", "bcc_address": "b@x.com", "domain": "ex.com"}
        await store.insert(f"{direction}_bcc_user", user)
        domain = {"domain": "ex.com", "bcc_address": "d@x.com", "active": 0}
        await store.insert(f"{direction}_bcc_domain", domain)
    await store.insert(
        "maillists",
        {
            "address": "ml@ex.com",
            "domain": "ex.com",
            "transport": "mlmmj:ex.com/ml",
            "mlid": "0b5e8fb5-5d3b-4ba6-8f1f-4a3a1c6c9a11",
        },
    )
    assert postfix.query("transport_user", "u@ex.com") == {"lmtp:unix:private/dovecot-lmtp"}
    assert postfix.query("transport_maillist", "ml@ex.com") == {"mlmmj:ex.com/ml"}
    assert postfix.query("sender_relayhost", "@ex.com") == {"[10.0.0.2]:25"}
    for direction in ("sender", "recipient"):
        assert postfix.query(f"{direction}_bcc_user", "u@ex.com") == {"b@x.com"}
        assert postfix.query(f"{direction}_bcc_user", "any@ex.com") == set()
        # The row's own active flag does not count here.
        assert postfix.query(f"{direction}_bcc_domain", "any@ex.com") == {"d@x.com"}
        await store.execute(f"UPDATE {direction}_bcc_user SET domain = 'al.com'")
        assert postfix.query(f"{direction}_bcc_user", "u@ex.com") == set()
        await store.execute(f"UPDATE {direction}_bcc_user SET domain = 'ex.com', active = 0")
        assert postfix.query(f"{direction}_bcc_user", "u@ex.com") == set()


async def test_postfix_and_a_backup_mx(store: Store, postfix: PostfixMaps) -> None:
    await arrange(store)
    await store.execute("UPDATE domain SET backupmx = 1, transport = 'relay:[10.0.0.1]'")
    assert postfix.query("virtual_mailbox_domains", "ex.com") == set()
    assert postfix.query("virtual_mailbox_domains", "al.com") == set()
    assert postfix.query("relay_domains", "ex.com") == {"ex.com"}
    assert postfix.query("relay_domains", "al.com") == set()
    assert postfix.query("transport_domain", "ex.com") == {"relay:[10.0.0.1]"}
    assert postfix.query("virtual_alias_maps", "u@ex.com") == set()


async def test_postfix_finds_nothing_of_an_inactive_domain(
    store: Store, postfix: PostfixMaps
) -> None:
    await arrange(store)
    await store.execute("UPDATE domain SET active = 0")
    for name in QUERIES:
        keys = ["u@ex.com"]
        if name in ("virtual_mailbox_domains", "relay_domains", "transport_domain"):
            keys = ["ex.com", "al.com"]
        for key in keys:
            assert postfix.query(name, key) == set(), name


async def test_a_failing_lookup_is_not_an_answer(store: Store, postfix: PostfixMaps) -> None:
    broken = PostfixMaps(store)
    path = broken._directory / "transport_domain.cf"
    path.write_text(path.read_text(encoding="utf-8").replace("own.active", "own.no_such"))
    os.utime(path, (0, 0))
    with pytest.raises(ServerError):
        broken.query("transport_domain", "ex.com")
    broken.close()
    with pytest.raises(ValueError, match="no such map"):
        postfix.query("transport", "ex.com")


SECURED: tuple[Secured, ...] = ("", "secured", "tls")
SERVICES = [
    (service, secured)
    for service in ("imap", "pop3", "smtp", "sieve", "lda", "lmtp", "doveadm")
    for secured in SECURED
    if service not in ("lda", "lmtp", "doveadm") or secured == ""
    if (service, secured) != ("smtp", "tls")
]


async def test_dovecot_lets_a_user_in(store: Store, dovecot: Dovecot) -> None:
    await arrange(store)
    for service, secured in SERVICES:
        for password in ("right", "wrong"):
            let_in = dovecot.auth_test("u@ex.com", password, service=service, secured=secured)
            assert let_in == (password == "right"), (service, secured)
    assert not dovecot.auth_test("n@ex.com", "right")
    for service in ("lda", "lmtp", "quota-status", "lib-storage", "indexer-worker", "dsync"):
        assert dovecot.user("u@ex.com", service) == {
            "home": f"/var/vmail/vmail1/{MAILDIR}",
            "mail": "maildir:~/Maildir",
            "quota_rule": "*:bytes=104857600",
        }
    assert dovecot.user("n@ex.com") is None


@pytest.mark.parametrize("column", ["enableimaptls", "enableimapsecured", "enableimap"])
async def test_dovecot_reads_the_column_of_the_connection(
    store: Store, dovecot: Dovecot, column: str
) -> None:
    await arrange(store)
    await store.execute(f"UPDATE mailbox SET {column} = 0")
    let_in = {
        f"enableimap{secured}": dovecot.auth_test("u@ex.com", "right", secured=secured)
        for secured in SECURED
    }
    assert {name for name, ok in let_in.items() if not ok} == {column}
    assert (dovecot.user("u@ex.com", "imap") is None) == (column == "enableimap")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE mailbox SET active = 0",
        "UPDATE domain SET active = 0",
        "DELETE FROM mailbox",
    ],
)
async def test_dovecot_keeps_a_disabled_user_out(
    store: Store, dovecot: Dovecot, postfix: PostfixMaps, change: str
) -> None:
    await arrange(store)
    await store.execute(change)
    for service, secured in SERVICES:
        assert not dovecot.auth_test("u@ex.com", "right", service=service, secured=secured)
    assert dovecot.user("u@ex.com", "lmtp") is None
    assert postfix.query("sender_login_maps", "u@ex.com") == set()


async def test_dovecot_and_a_backup_mx(
    store: Store, dovecot: Dovecot, postfix: PostfixMaps
) -> None:
    """iRedMail's look-up of passwords for 2.4 does not ask whether a domain is a backup MX."""
    await arrange(store)
    await store.execute("UPDATE domain SET backupmx = 1")
    for service, secured in SERVICES:
        let_in = dovecot.auth_test("u@ex.com", "right", service=service, secured=secured)
        assert let_in == (version() >= (2, 4)), (service, secured)
    assert dovecot.user("u@ex.com", "lmtp") is None
    assert postfix.query("sender_login_maps", "u@ex.com") == set()


@pytest.mark.parametrize("tls", [True, False])
async def test_a_real_imap_login(store: Store, dovecot_logins: Dovecot, tls: bool) -> None:
    """Loopback without TLS is "secured" for Dovecot."""
    await arrange(store)
    column = "enableimaptls" if tls else "enableimapsecured"
    assert dovecot_logins.imap_login("u@ex.com", "right", tls=tls) == "yes"
    assert dovecot_logins.imap_login("u@ex.com", "wrong", tls=tls) == "no"
    await store.execute(f"UPDATE mailbox SET {column} = 0")
    assert dovecot_logins.imap_login("u@ex.com", "right", tls=tls) == "no"
    assert dovecot_logins.imap_login("u@ex.com", "right", tls=not tls) == "yes"
    weak = "7c4f29407893c334a6cb7a87bf045c0d"
    await store.execute(f"UPDATE mailbox SET password = '{{PLAIN-MD5}}{weak}'")
    answer = dovecot_logins.imap_login("u@ex.com", "right", tls=not tls)
    assert answer == ("temporary failure" if version() >= (2, 4) else "yes")


@pytest.mark.parametrize("tls", [True, False])
async def test_a_real_login_for_sending(
    store: Store, dovecot_logins: Dovecot, submission: Submission, tls: bool
) -> None:
    """Users of a backup MX may send where Dovecot is 2.4, and have no mailbox."""
    await arrange(store)
    assert submission.login("u@ex.com", "right", tls=tls) == "yes"
    assert submission.login("u@ex.com", "wrong", tls=tls) == "no"
    await store.execute(f"UPDATE mailbox SET {'enablesmtpsecured' if tls else 'enablesmtp'} = 0")
    assert submission.login("u@ex.com", "right", tls=tls) == "no"
    assert submission.login("u@ex.com", "right", tls=not tls) == "yes"
    await store.execute("UPDATE domain SET backupmx = 1")
    newer = version() >= (2, 4)
    assert submission.login("u@ex.com", "right", tls=not tls) == ("yes" if newer else "no")
    # Of 2.4 both are seen: the password is right, and there is no mailbox.
    expected = {"cut off", "temporary failure"} if newer else {"no"}
    assert dovecot_logins.imap_login("u@ex.com", "right", tls=tls) in expected


async def test_dovecot_and_allowed_networks(store: Store, dovecot: Dovecot) -> None:
    await arrange(store)
    await store.execute("UPDATE mailbox SET allow_nets = '10.0.0.0/8,192.168.1.1'")
    assert dovecot.auth_test("u@ex.com", "right", remote_ip="10.9.8.7")
    assert dovecot.auth_test("u@ex.com", "right", remote_ip="192.168.1.1")
    assert not dovecot.auth_test("u@ex.com", "right", remote_ip="192.168.1.2")
    assert not dovecot.auth_test("u@ex.com", "wrong", remote_ip="10.9.8.7")


async def test_a_failing_login_lookup_is_not_a_refusal(store: Store, dovecot: Dovecot) -> None:
    await arrange(store)
    with pytest.raises(ServerError, match="enablenosuch"):
        dovecot.auth_test("u@ex.com", "right", service="nosuch")
    with pytest.raises(ServerError, match="enablenosuch"):
        dovecot.user("u@ex.com", "nosuch")
