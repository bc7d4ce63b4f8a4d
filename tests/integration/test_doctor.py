"""``iredapi doctor`` on SQL: each inconsistency is inserted, found and repaired, nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from iredapi.doctor.findings import CHECKS, Finding
from iredapi.doctor.removals import Removals
from iredapi.doctor.runner import Examination, Result
from iredapi.doctor.server_checks import RIGHTS
from tests.clients import Client, settings_for
from tests.conftest import _Services
from tests.integration.test_command_line import iredapi
from tests.servers import rich
from tests.servers.api import urls_of
from tests.servers.process import temporary_directory
from tests.servers.rich import add_alias, add_domain, add_route, add_user, as_bytes, on
from tests.servers.snapshot import MOMENTS, Arranged, Arrangement, Difference, difference, dump
from tests.servers.store import Database, Store

pytestmark = pytest.mark.stores("sqlite", "postgresql", "mariadb")


async def healthy(store: Store, _root: Client) -> None:
    """Write a server with everything in use and nothing wrong."""
    await add_domain(store, "ex.com", target_of="al.com", transport="dovecot")
    await add_domain(store, "other.com", transport="dovecot")
    await add_domain(store, "backup.com", transport="relay:[192.0.2.1]", backupmx=1)
    for mail in ("u@ex.com", "v@ex.com", "x@other.com"):
        await add_user(store, mail)
    await add_user(store, "idle@ex.com", active=0)
    await add_user(store, "boss@ex.com", isadmin=1)
    await add_user(store, "chief@ex.com", isglobaladmin=1)
    await add_route(store, "v@ex.com", "Far+Tag@gmail.com", is_forwarding=1)
    await add_route(store, "bob@ex.com", "u@ex.com", is_alias=1)
    await add_route(store, "bob@al.com", "u@ex.com", is_alias=1, domain="ex.com")
    await add_route(store, "other.com", "x@other.com", is_forwarding=1)
    await add_alias(store, "list@ex.com", "u@ex.com v@ex.com bob@ex.com x+tag@other.com")
    await add_route(store, "list@ex.com", "idle@ex.com", is_list=1, active=0)
    await add_alias(store, "off@ex.com", "u@ex.com", active=0)
    await add_route(store, "ml@ex.com", "ml@ex.com", is_maillist=1)
    await store.insert(
        "maillists",
        {"address": "ml@ex.com", "domain": "ex.com", "transport": "mlmmj:ex.com/ml", "mlid": "1"},
    )
    who = {"domain": "ex.com", "dest_domain": "ex.com"}
    for moderator in ("u@ex.com", "*@ex.com", "stranger@gmail.com", "bob@ex.com"):
        row = {"address": "list@ex.com", "moderator": moderator, **who}
        await store.insert("moderators", row)
    await store.insert("maillist_owners", {"address": "ml@ex.com", "owner": "v@ex.com", **who})
    for side in ("sender", "recipient"):
        bcc = {"bcc_address": "bcc@gmail.com"}
        await store.insert(f"{side}_bcc_user", {"username": "u@ex.com", "domain": "ex.com", **bcc})
        await store.insert(f"{side}_bcc_domain", {"domain": "ex.com", **bcc})
    for account in ("@ex.com", "u@ex.com", "@gone.com"):
        await store.insert("sender_relayhost", {"account": account, "relayhost": "smtp:25"})
    await store.insert("used_quota", {"username": "u@ex.com", "bytes": 1, "messages": 1})
    await store.insert("last_login", {"username": "u@ex.com", "domain": "ex.com", "imap": 1})
    await store.insert("share_folder", {"from_user": "u@ex.com", "to_user": "v@ex.com"})
    await store.insert("anyone_shares", {"from_user": "u@ex.com"})
    await store.insert(
        "deleted_mailboxes",
        {
            "username": "u@ex.com", "domain": "ex.com", "admin": "x",
            "maildir": LIVING, "timestamp": rich.at(store),
        },
    )  # fmt: skip
    await store.insert("admin", {"username": "norm@admins.test", "password": rich.HASH,
                                 "settings": "create_new_domains:yes;"})  # fmt: skip
    for admin, domain in (
        ("norm@admins.test", "ex.com"), ("boss@ex.com", "ex.com"), ("chief@ex.com", "ALL"),
    ):  # fmt: skip
        await store.insert("domain_admins", {"username": admin, "domain": domain})
    await _policies(store)


async def _policies(store: Store) -> None:
    await store.insert(
        "mailaddr",
        {"id": 100, "email": as_bytes(store, "friend@far.org"), "priority": 10},
        {"id": 101, "email": as_bytes(store, "192.0.2.1"), "priority": 9},
        database="amavisd",
    )
    for number, (account, m, a) in enumerate(
        (("u@ex.com", 10, 100), ("@ex.com", 5, 60), ("u@al.com", 10, 100), ("v+t@ex.com", 10, 100)),
        50,
    ):
        await store.insert("policy", {"id": number, "policy_name": account}, database="amavisd")
        await store.insert(
            "users",
            {"id": number, "policy_id": number, "email": as_bytes(store, account), "priority": m},
            database="amavisd",
        )
        for table, row in (
            ("wblist", {"rid": number, "sid": 100, "wb": "W"}),
            ("outbound_wblist", {"rid": 100, "sid": number, "wb": "B"}),
        ):
            await store.insert(table, row, database="amavisd")
        await store.insert(
            "throttle",
            {"id": number, "account": account, "kind": "outbound", "priority": a, "period": 60},
            database="iredapd",
        )
        await store.insert(
            "greylisting", {"account": account, "sender": "@.", "priority": a}, database="iredapd"
        )
        await store.insert(
            "greylisting_whitelists", {"account": account, "sender": "@far.org"},
            database="iredapd",
        )  # fmt: skip
    await store.insert("greylisting_whitelist_domains", {"domain": "far.org"}, database="iredapd")
    await store.insert(
        "greylisting_whitelist_domain_spf",
        {"account": "@.", "sender": "192.0.2.7", "comment": "AUTO-UPDATE: far.org"},
        database="iredapd",
    )
    for account in ("global", "ex.com", "u@ex.com", "norm@admins.test", "list@ex.com"):
        await store.insert(
            "settings", {"account": account, "k": "k", "v": "{}"}, database="iredadmin"
        )
    await store.insert(
        "domain_ownership",
        {"admin": "norm@admins.test", "domain": "ex.com", "verify_code": "c", "message": ""},
        database="iredadmin",
    )


@dataclass(frozen=True)
class Plant:
    """A change of the healthy server: statements, or rows that are inserted."""

    code: str
    subject: str
    statement: str = ""
    database: Database = "vmail"
    table: str = ""
    row: dict[str, Any] | None = None
    stores: tuple[str, ...] = ("sqlite", "postgresql", "mariadb")
    beside: frozenset[str] = frozenset()
    """Other codes that the same change brings about."""

    def __str__(self) -> str:
        """Name the case in a test's name."""
        return f"{self.code}-{self.subject}"

    async def do(self, store: Store) -> None:
        """Make the change."""
        if self.statement:
            await store.execute(self.statement, self.database)
        if self.row is not None:
            row = {key: _bound(store, value) for key, value in self.row.items()}
            await store.insert(self.table, row, database=self.database)


def _bound(store: Store, value: Any) -> Any:
    if isinstance(value, date):
        return on(store, value)
    return as_bytes(store, value.decode()) if isinstance(value, bytes) else value


def change(code: str, subject: str, statement: str, **more: Any) -> Plant:
    return Plant(code, subject, statement, **more)


def insert(code: str, subject: str, table: str, beside: str = "", **row: Any) -> Plant:
    database: Database = row.pop("database", "vmail")
    stores = row.pop("stores", ("sqlite", "postgresql", "mariadb"))
    return Plant(
        code, subject, database=database, table=table, row=row, stores=stores,
        beside=frozenset(beside.split()),
    )  # fmt: skip


def route(code: str, address: str, forwarding: str, beside: str = "", **row: Any) -> Plant:
    whole = {
        "address": address,
        "forwarding": forwarding,
        "domain": address.rpartition("@")[2],
        "dest_domain": forwarding.rpartition("@")[2],
    }
    return insert(code, address, "forwardings", beside, **(whole | row))


LIVING: Final = "/var/vmail/vmail1/ex.com/u/_/_/u-2020.02.03.04.05.06"
CASED: Final = ("sqlite", "postgresql")
PLANTS: Final = [
    insert("ALIAS_DOMAIN_IS_DOMAIN", "other.com", "alias_domain", alias_domain="other.com",
           target_domain="ex.com"),
    insert("ALIAS_DOMAIN_WITHOUT_TARGET", "dead.com", "alias_domain", alias_domain="dead.com",
           target_domain="gone.com"),
    insert("ALIAS_DOMAIN_OF_ALIAS_DOMAIN", "far.com", "alias_domain", alias_domain="far.com",
           target_domain="al.com"),
    change("TRANSPORT_EMPTY", "ex.com", "UPDATE domain SET transport = '' WHERE domain = 'ex.com'"),
    change("TRANSPORT_BARE_ADDRESS", "backup.com",
           "UPDATE domain SET transport = 'relay:192.0.2.1' WHERE domain = 'backup.com'"),
    change("BACKUP_MX_DELIVERS_HERE", "other.com",
           "UPDATE domain SET backupmx = 1 WHERE domain = 'other.com'",
           beside=frozenset({"BACKUP_MX_USER"})),
    change("BACKUP_MX_USER", "x@other.com",
           r"UPDATE domain SET backupmx = 1, transport = 'relay\:[192.0.2.1]'"
           " WHERE domain = 'other.com'"),
    change("PASSWORD_REFUSED_BY_DOVECOT", "u@ex.com",
           "UPDATE mailbox SET password = '{MD5}$1$abc$hash' WHERE username = 'u@ex.com'"),
    change("SETTINGS_UNREADABLE", "ex.com",
           r"UPDATE domain SET settings = 'timezone\:GMT+08\:00;' WHERE domain = 'ex.com'"),
    change("SETTINGS_UNREADABLE", "norm@admins.test",
           "UPDATE admin SET settings = 'create_new_domains;' WHERE username = 'norm@admins.test'"),
    insert("NOT_LOWER_CASE", "Big@ex.com", "alias", address="Big@ex.com", domain="ex.com"),
    insert("NOT_LOWER_CASE", "Big.com", "domain", domain="Big.com", settings=""),
    insert("ACCOUNT_WITHOUT_DOMAIN", "z@gone.com", "alias", address="z@gone.com",
           domain="gone.com"),
    insert("ACCOUNT_WITHOUT_DOMAIN", "z@gone.com", "maillists", address="z@gone.com",
           domain="gone.com", mlid="2", beside="LIST_WITHOUT_ROUTE"),
    change("ACCOUNT_DOMAIN_WRONG", "u@ex.com",
           "UPDATE mailbox SET domain = 'other.com' WHERE username = 'u@ex.com'"),
    change("ACCOUNT_DOMAIN_WRONG", "list@ex.com",
           "UPDATE alias SET domain = 'other.com' WHERE address = 'list@ex.com'"),
    change("ACCOUNT_DOMAIN_WRONG", "ml@ex.com",
           "UPDATE maillists SET domain = 'other.com' WHERE address = 'ml@ex.com'"),
    insert("ADDRESS_TWICE", "v@ex.com", "alias", address="v@ex.com", domain="ex.com"),
    insert("ADDRESS_TWICE", "list@ex.com", "maillists", address="list@ex.com", domain="ex.com",
           mlid="2", beside="LIST_WITHOUT_ROUTE"),
    route("ADDRESS_TWICE", "v@ex.com", "u@ex.com", is_alias=1),
    route("ALIAS_ADDRESS_SHARED", "bob@ex.com", "v@ex.com", is_alias=1),
    change("MAILBOX_SHARED", "u@ex.com",
           "UPDATE mailbox SET storagebasedirectory = '/', storagenode = 'var', maildir ="
           " 'vmail/vmail1/ex.com/U/_/_/u-2020.02.03.04.05.06' WHERE username = 'v@ex.com'"),
    insert("MAILBOX_IN_REMOVAL_QUEUE", LIVING, "deleted_mailboxes", username="old@ex.com",
           domain="ex.com", maildir=LIVING + "/", delete_date=date(2030, 1, 1), admin="x"),
    change("USER_NAME_REFUSED", "r&d@ex.com",
           "UPDATE mailbox SET username = 'r&d@ex.com' WHERE username = 'idle@ex.com'",
           beside=frozenset({"USER_WITHOUT_ROUTE", "DEAD_DESTINATION", "DISABLED_USER_ROUTED",
                             "ACTIVE_ALIAS_NOT_ROUTED", "SELF_ROUTE_WITHOUT_ACCOUNT"})),
    change("DATE_UNKNOWN", "u@ex.com",
           "UPDATE mailbox SET passwordlastchange = '0000-00-00 00\\:00\\:00'"
           " WHERE username = 'u@ex.com'", stores=("sqlite", "mariadb")),
    change("DATE_UNKNOWN", "ex.com",
           "UPDATE domain SET expired = '2020-00-07 01\\:01\\:01' WHERE domain = 'ex.com'",
           stores=("sqlite", "mariadb")),
    change("DATE_UNKNOWN", "norm@admins.test",
           "UPDATE admin SET created = 'infinity' WHERE username = 'norm@admins.test'",
           stores=("sqlite", "postgresql")),
    change("LOGIN_NETWORKS_EMPTY", "u@ex.com",
           "UPDATE mailbox SET allow_nets = '' WHERE username = 'u@ex.com'"),
    change("SOGO_SWITCH_NUMERIC", "u@ex.com",
           "UPDATE mailbox SET enablesogocalendar = '1' WHERE username = 'u@ex.com'"),
    change("PASSWORD_WITHOUT_SCHEME", "u@ex.com",
           "UPDATE mailbox SET password = 'Secret-Word' WHERE username = 'u@ex.com'"),
    change("PASSWORD_WITHOUT_SCHEME", "norm@admins.test",
           "UPDATE admin SET password = '' WHERE username = 'norm@admins.test'"),
    change("INTERNAL_SERVICE_OFF", "u@ex.com",
           "UPDATE mailbox SET enabledoveadm = 0 WHERE username = 'u@ex.com'"),
    change("LIST_WITHOUT_ID", "ml@ex.com", "UPDATE maillists SET mlid = ''"),
    change("USER_WITHOUT_ROUTE", "u@ex.com",
           "DELETE FROM forwardings WHERE address = 'u@ex.com'"),
    change("USER_WITHOUT_ROUTE", "idle@ex.com",
           "DELETE FROM forwardings WHERE address = 'idle@ex.com'"),
    change("DISABLED_USER_ROUTED", "list@ex.com",
           "UPDATE forwardings SET active = 1 WHERE address = 'list@ex.com'"
           " AND forwarding = 'idle@ex.com'"),
    change("DISABLED_USER_ROUTED", "idle@ex.com",
           "UPDATE forwardings SET active = 1 WHERE address = 'idle@ex.com'"),
    change("ACTIVE_USER_NOT_ROUTED", "u@ex.com",
           "UPDATE forwardings SET active = 0 WHERE address = 'u@ex.com'"),
    change("DISABLED_ALIAS_ROUTED", "off@ex.com",
           "UPDATE forwardings SET active = 1 WHERE address = 'off@ex.com'"),
    change("ACTIVE_ALIAS_NOT_ROUTED", "list@ex.com",
           "UPDATE forwardings SET active = 0 WHERE address = 'list@ex.com'"
           " AND forwarding = 'u@ex.com'"),
    change("ACTIVE_ALIAS_NOT_ROUTED", "ml@ex.com",
           "UPDATE forwardings SET active = 0 WHERE address = 'ml@ex.com'"),
    change("LIST_WITHOUT_ROUTE", "ml@ex.com",
           "DELETE FROM forwardings WHERE address = 'ml@ex.com'"),
    route("SELF_ROUTE_WITHOUT_ACCOUNT", "ghost@ex.com", "ghost@ex.com", is_forwarding=1),
    route("SELF_ROUTE_WITHOUT_ACCOUNT", "gml@ex.com", "gml@ex.com", is_maillist=1),
    route("FORWARDING_WITHOUT_USER", "ghost@ex.com", "x@gmail.com", is_forwarding=1),
    route("MEMBERS_WITHOUT_ALIAS", "ghost@ex.com", "u@ex.com", is_list=1),
    route("ALIAS_ADDRESS_WITHOUT_USER", "jim@ex.com", "ghost@ex.com", is_alias=1),
    route("ALIAS_OF_ITSELF", "list@ex.com", "list@ex.com", is_list=1),
    route("DEAD_DESTINATION", "list@ex.com", "ghost@ex.com", is_list=1),
    route("DEAD_DESTINATION", "u@ex.com", "ghost@ex.com", is_forwarding=1),
    route("DEAD_DESTINATION", "ex.com", "ghost@ex.com"),
    route("ROUTE_WITHOUT_DOMAIN", "jim@gone.com", "u@ex.com", is_alias=1),
    route("ROUTE_OF_FOREIGN_ADDRESS", "jim@gmail.com", "u@ex.com", is_alias=1, domain="ex.com"),
    change("ROUTE_DOMAIN_WRONG", "bob@al.com",
           "UPDATE forwardings SET domain = 'al.com' WHERE address = 'bob@al.com'"),
    change("ROUTE_DOMAIN_WRONG", "bob@ex.com",
           "UPDATE forwardings SET domain = 'other.com' WHERE address = 'bob@ex.com'"),
    change("ROUTE_DESTINATION_WRONG", "bob@ex.com",
           "UPDATE forwardings SET dest_domain = 'other.com' WHERE address = 'bob@ex.com'"),
    route("ROUTE_WITHOUT_KIND", "ghost@ex.com", "u@ex.com"),
    change("BCC_DOMAIN_WRONG", "u@ex.com", "UPDATE sender_bcc_user SET domain = ''"),
    insert("BCC_WITHOUT_ACCOUNT", "ghost@ex.com", "recipient_bcc_user", username="ghost@ex.com",
           domain="ex.com", bcc_address="b@gmail.com"),
    insert("BCC_WITHOUT_ACCOUNT", "gone.com", "sender_bcc_domain", domain="gone.com",
           bcc_address="b@gmail.com"),
    insert("BCC_INACTIVE_BUT_USED", "other.com", "sender_bcc_domain", domain="other.com",
           bcc_address="b@gmail.com", active=0),
    insert("RELAY_EMPTY", "v@ex.com", "sender_relayhost", account="v@ex.com", relayhost=""),
    insert("RELAY_WITHOUT_ACCOUNT", "ghost@ex.com", "sender_relayhost", account="ghost@ex.com",
           relayhost="[192.0.2.1]"),
    insert("RELAY_OF_ALIAS", "off@ex.com", "sender_relayhost", account="off@ex.com",
           relayhost="[192.0.2.1]"),
    insert("USAGE_WITHOUT_USER", "ghost@ex.com", "used_quota", username="ghost@ex.com"),
    insert("USAGE_WITHOUT_USER", "ghost@ex.com", "last_login", username="ghost@ex.com",
           domain="ex.com"),
    insert("SHARE_WITHOUT_USER", "u@ex.com", "share_folder", from_user="u@ex.com",
           to_user="ghost@ex.com"),
    insert("SHARE_WITHOUT_USER", "ghost@ex.com", "anyone_shares", from_user="ghost@ex.com"),
    change("ALIAS_CLOSED", "off@ex.com",
           "UPDATE alias SET accesspolicy = 'AllowedOnly' WHERE address = 'off@ex.com'"),
    Plant("LIST_ADDRESS_OPEN", "crew@ex.com",
          "UPDATE maillists SET accesspolicy = 'domain' WHERE address = 'ml@ex.com'",
          table="forwardings",
          row={"address": "crew@ex.com", "forwarding": "ml@ex.com", "domain": "ex.com",
               "dest_domain": "ex.com", "is_alias": 1}),
    insert("MODERATOR_WITHOUT_LIST", "glist@ex.com", "moderators", address="glist@ex.com",
           moderator="u@ex.com", domain="ex.com", dest_domain="ex.com"),
    insert("MODERATOR_WITHOUT_LIST", "glist@ex.com", "maillist_owners", address="glist@ex.com",
           owner="u@ex.com", domain="ex.com", dest_domain="ex.com"),
    insert("MODERATOR_GONE", "list@ex.com", "moderators", address="list@ex.com",
           moderator="ghost@ex.com", domain="ex.com", dest_domain="ex.com"),
    insert("MODERATOR_GONE", "ml@ex.com", "maillist_owners", address="ml@ex.com",
           owner="ghost@ex.com", domain="ex.com", dest_domain="ex.com"),
    insert("ADMIN_WITHOUT_ACCOUNT", "ghost@ex.com", "domain_admins", username="ghost@ex.com",
           domain="ALL"),
    insert("ADMIN_OF_NO_DOMAIN", "norm@admins.test", "domain_admins",
           username="norm@admins.test", domain="gone.com"),
    change("GLOBAL_MARK_WITHOUT_ALL", "chief@ex.com",
           "DELETE FROM domain_admins WHERE username = 'chief@ex.com'"),
    change("ALL_WITHOUT_GLOBAL_MARK", "chief@ex.com",
           "UPDATE mailbox SET isglobaladmin = 0 WHERE username = 'chief@ex.com'"),
    change("ADMIN_MARK_WITHOUT_DOMAIN", "v@ex.com",
           "UPDATE mailbox SET isadmin = 1 WHERE username = 'v@ex.com'"),
    change("DOMAIN_WITHOUT_ADMIN_MARK", "boss@ex.com",
           "UPDATE mailbox SET isadmin = 0 WHERE username = 'boss@ex.com'"),
    insert("ADMIN_IN_HOSTED_DOMAIN", "a@al.com", "admin", username="a@al.com",
           password=rich.HASH, settings="", beside="ADMIN_WITHOUT_RIGHTS"),
    insert("ADMIN_WITHOUT_RIGHTS", "poor@admins.test", "admin", username="poor@admins.test",
           password=rich.HASH, settings=""),
    insert("POLICY_WITHOUT_ACCOUNT", "ghost@ex.com", "policy", database="amavisd", id=90,
           policy_name="ghost@ex.com"),
    insert("POLICY_WITHOUT_ACCOUNT", "@gone.com", "users", database="amavisd", id=90,
           policy_id=0, priority=5, email=b"@gone.com"),
    insert("THROTTLE_WITHOUT_ACCOUNT", "ghost@al.com", "throttle", database="iredapd", id=90,
           account="ghost@al.com", kind="inbound", priority=100, period=5),
    insert("GREYLISTING_WITHOUT_ACCOUNT", "@gone.com", "greylisting", database="iredapd",
           account="@gone.com", sender="@.", priority=60),
    insert("GREYLISTING_WITHOUT_ACCOUNT", "ghost@ex.com", "greylisting_whitelists",
           database="iredapd", account="ghost@ex.com", sender="@far.org"),
    insert("PANEL_SETTING_WITHOUT_ACCOUNT", "gone.com", "settings", database="iredadmin",
           account="gone.com", k="k", v="{}"),
    insert("PANEL_SETTING_WITHOUT_ACCOUNT", "ghost@ex.com", "settings", database="iredadmin",
           account="ghost@ex.com", k="k", v="{}"),
    insert("POLICY_OF_ANOTHER", "v@ex.com", "users", database="amavisd", id=90, policy_id=50,
           priority=10, email=b"v@ex.com"),
    change("POLICY_LOSES_MAIL", "@ex.com",
           "UPDATE policy SET spam_lover = 'N', spam_quarantine_to = ''"
           " WHERE policy_name = '@ex.com'", database="amavisd"),
    change("PRIORITY_WRONG", "@ex.com", "UPDATE users SET priority = 7 WHERE id = 51",
           database="amavisd"),
    change("PRIORITY_WRONG", "192.0.2.1", "UPDATE mailaddr SET priority = 7 WHERE id = 101",
           database="amavisd"),
    change("PRIORITY_WRONG", "u@ex.com", "UPDATE throttle SET priority = 10 WHERE id = 50",
           database="iredapd"),
    change("PRIORITY_WRONG", "@ex.com",
           "UPDATE greylisting SET priority = 0 WHERE account = '@ex.com'", database="iredapd"),
    insert("WBLIST_DANGLING", "999", "wblist", database="amavisd", rid=999, sid=100, wb="W"),
    insert("WBLIST_DANGLING", "50", "outbound_wblist", database="amavisd", rid=999, sid=50,
           wb="W"),
    insert("POLICY_NOT_LOWER_CASE", "V@ex.com", "users", database="amavisd", id=90, policy_id=0,
           priority=10, email=b"V@ex.com"),
    insert("WIDER_SETTING", "bob", "users", database="amavisd", id=90, policy_id=0, priority=10,
           email=b"bob"),
    insert("GREYLISTING_OF_SENDER", "u@ex.com", "greylisting", database="iredapd", id=90,
           account="u@ex.com", sender="@far.org", priority=100),
    insert("THROTTLE_TWICE", "u@ex.com", "throttle", database="iredapd", id=90,
           account="u@ex.com", kind="outbound", priority=100, period=5, stores=("postgresql",)),
    insert("THROTTLE_WITHOUT_PERIOD", "v@ex.com", "throttle", database="iredapd", id=90,
           account="v@ex.com", kind="inbound", priority=100, period=0),
    insert("SPF_ROW_WITHOUT_DOMAIN", "192.0.2.9", "greylisting_whitelist_domain_spf",
           database="iredapd", account="@.", sender="192.0.2.9",
           comment="AUTO-UPDATE: gone.org"),
    change("OWNERSHIP_EXPIRES_AT_ONCE", "ex.com",
           "UPDATE domain_ownership SET expire = 1700000000", database="iredadmin"),
]  # fmt: skip
REPAIRED: Final = {
    "PASSWORD_BARE_CRYPT": (
        change("PASSWORD_BARE_CRYPT", "u@ex.com",
               "UPDATE mailbox SET password = '$6$salt$hash' WHERE username = 'u@ex.com'"),
        {"~mailbox u@ex.com": {"password": "{CRYPT}$6$salt$hash"}},
    ),
    "ADMIN_PASSWORD_BARE": (
        change("ADMIN_PASSWORD_BARE", "norm@admins.test",
               "UPDATE admin SET password = '$1$salt$hash' WHERE username = 'norm@admins.test'"),
        {"~admin norm@admins.test": {"password": "{CRYPT}$1$salt$hash"}},
    ),
    "PASSWORD_BCRYPT": (
        change("PASSWORD_BARE_CRYPT", "u@ex.com",
               "UPDATE mailbox SET password = '{BCRYPT}$2b$04$x' WHERE username = 'u@ex.com'"),
        {"~mailbox u@ex.com": {"password": "{BLF-CRYPT}$2b$04$x"}},
    ),
    "SOGO_OFF": (
        change("SOGO_SWITCH_NUMERIC", "u@ex.com",
               "UPDATE mailbox SET enablesogocalendar = '0' WHERE username = 'u@ex.com'"),
        {"~mailbox u@ex.com": {"enablesogocalendar": "n"}},
    ),
    "RELAY_WITH_PREFIX": (
        insert("RELAY_WITH_PREFIX", "v@ex.com", "sender_relayhost", account="v@ex.com",
               relayhost="smtp:[192.0.2.1]:25"),
        {"+sender_relayhost v@ex.com": {"relayhost": "[192.0.2.1]:25"}},
    ),
    "POLICY_OF_EVERYBODY": (
        insert("POLICY_OF_EVERYBODY", "v@ex.com", "users", database="amavisd", id=90,
               policy_id=1, priority=10, email=b"v@ex.com"),
        {"+users 90": {"email": "v@ex.com", "priority": 10}},
    ),
    "POLICY_MISSING": (
        insert("POLICY_MISSING", "v@ex.com", "users", database="amavisd", id=90,
               policy_id=4711, priority=10, email=b"v@ex.com"),
        {"+users 90": {"email": "v@ex.com", "priority": 10}},
    ),
}  # fmt: skip
"""Changes whose repair does not restore the healthy rows, with the rows after the repair."""

ONLY_IN_TREES: Final = {
    "ALIAS_ADDRESS_WITHOUT_DOMAIN", "ALIAS_DOMAINS_OFF", "ALIAS_DOMAIN_TWICE",
    "CONTAINER_MISSING", "COUNTER_WRONG", "DOMAIN_STATUS_LEFT", "DOMAIN_STATUS_MISSING",
    "ENTRY_MISPLACED", "LIST_MARK_WRONG", "LIST_UNDELIVERABLE", "MEMBER_NAME_DEAD",
    "MEMBER_OF_NO_LIST", "PASSWORD_SPELLING", "PASSWORD_UNKNOWN_TO_SLAPD", "TWIN_MISSING",
    "WRITE_UNFINISHED", "DIRECTORY_READS_ONLY", "PASSWORD_VALUES_IGNORED", "PASSWORD_CHECK_WRONG",
}  # fmt: skip
"""Codes that SQL cannot have: the tests of LDAP insert them."""

_server = Arrangement(healthy)


@pytest_asyncio.fixture(loop_scope="session")
async def server(selected_store: Store, _services: _Services) -> AsyncIterator[Arranged]:
    """The healthy server."""
    async with _server.on(selected_store, _services) as arranged:
        yield arranged


async def examine(
    store: Store, *only: str, fix: bool = False, most: int = 0, **given: Any
) -> tuple[list[Finding], Result]:
    """Run the doctor on a store."""
    found: list[Finding] = []
    removals = Removals(temporary_directory("doctor"), most)
    examination = Examination(settings_for(store, **given), fix=fix, only=only, removals=removals)
    result = await examination.run(found.append)
    return found, result


def lasting(difference: Difference) -> Difference:
    """Return a difference without times, and without rows that differ in times only."""
    found = {
        name: {
            column: value.decode() if isinstance(value, bytes) else value
            for column, value in values.items()
            if column not in MOMENTS
        }
        for name, values in difference.items()
    }
    return {name: values for name, values in found.items() if values or name[0] != "~"}


async def test_a_healthy_server(server: Arranged) -> None:
    """The doctor finds nothing and changes nothing."""
    found, result = await examine(server.store, fix=True)
    assert found == []
    assert result.status == 0
    assert await server.changes() == {}


@pytest.mark.parametrize("plant", PLANTS, ids=str)
async def test_inconsistency_is_found_and_repaired(server: Arranged, plant: Plant) -> None:
    """A dry run changes nothing; a repair changes only the inserted inconsistency."""
    store = server.store
    if store.name not in plant.stores:
        await examine(store, plant.code)  # cannot be stored here; the probe runs nevertheless
        return
    await plant.do(store)
    planted = await dump(store)
    found, result = await examine(store, plant.code)
    assert [(item.code, item.subject) for item in found] == [(plant.code, plant.subject)]
    check = CHECKS[plant.code]
    assert result.status == (check.severity.value != "note")
    assert difference(planted, await dump(store)) == {}
    found, result = await examine(store, plant.code, fix=True)
    assert [item.fixed for item in found] == [bool(check.fix)]
    if not check.fix:
        assert difference(planted, await dump(store)) == {}
        return
    assert result.status == 0
    assert lasting(await server.changes()) == {}
    assert (await examine(store, plant.code))[0] == []


@pytest.mark.parametrize("name", REPAIRED)
async def test_repair_writes_the_right_values(server: Arranged, name: str) -> None:
    """Repairs that do not restore the healthy rows write the expected ones."""
    plant, wanted = REPAIRED[name]
    await plant.do(server.store)
    found, _ = await examine(server.store, plant.code)
    assert [item.subject for item in found] == [plant.subject]
    found, _ = await examine(server.store, plant.code, fix=True)
    assert [item.fixed for item in found] == [True]
    assert lasting(await server.changes()) == wanted
    assert (await examine(server.store, plant.code))[0] == []


async def test_no_global_admin(server: Arranged) -> None:
    await server.store.execute("UPDATE admin SET active = 0")
    await server.store.execute("UPDATE mailbox SET active = 0 WHERE username = 'chief@ex.com'")
    found, result = await examine(server.store, "NO_GLOBAL_ADMIN", fix=True)
    assert [item.code for item in found] == ["NO_GLOBAL_ADMIN"]
    assert result.status == 1


def test_every_check_has_a_case() -> None:
    """Every code is inserted by a test."""
    planted = {plant.code for plant in PLANTS} | {plant.code for plant, _ in REPAIRED.values()}
    servers = {
        "REMOVAL_HELD_BACK",
        "SERVER_AWAY",
        "DATABASE_READS_ONLY",  # availability/test_read_only_servers
        "SCHEMA_LACKS",
        "SCHEMA_OLDER",
        "RIGHT_MISSING",
        "STATE_OUTDATED",
        "SEVERAL_WRITERS",  # contract/test_written_servers
        "LIST_TEXT_OUTDATED",  # lists/test_list_texts
        "LIST_FILE_EMPTY_LINES",  # lists/test_list_texts
        "LIST_HEADERS_EMPTY_LINES",  # lists/test_list_texts
        "FOLDER_SHARED",  # test_doctor_fix: only with --only
        "PASSWORD_BARE_ON_23",  # test_dovecot_versions: these depend on the version
        "DOVECOT_VERSION_DIFFERS",
        "QUOTA_TRIGGER_OUTDATED",
        "QUOTA_TRIGGER_MISSING",
    }
    assert planted | servers | {"NO_GLOBAL_ADMIN"} | ONLY_IN_TREES == CHECKS.keys()


@pytest.mark.parametrize("plant", PLANTS, ids=str)
@pytest.mark.stores("sqlite")
async def test_one_inconsistency_has_one_code(server: Arranged, plant: Plant) -> None:
    """An inconsistency is reported once, with its own code."""
    if server.store.name not in plant.stores:
        return
    await plant.do(server.store)
    found, _ = await examine(server.store)
    codes = {item.code for item in found}
    assert plant.code in codes
    assert codes - {plant.code} <= plant.beside


async def test_several_pages_of_findings(server: Arranged) -> None:
    """Findings on several pages are all reported and repaired."""
    rows = [
        {"address": f"jim{n:04d}@gone.com", "forwarding": "u@ex.com", "domain": "gone.com",
         "dest_domain": "ex.com", "is_alias": 1}
        for n in range(1101)
    ]  # fmt: skip
    await server.store.insert("forwardings", *rows)
    found, result = await examine(server.store, "ROUTE_WITHOUT_DOMAIN", fix=True, most=1101)
    assert len(found) == 1101
    assert result.fixed == {"ROUTE_WITHOUT_DOMAIN": 1101}
    assert await server.changes() == {}
    log = await server.store.rows("SELECT msg FROM log WHERE msg LIKE '%Doctor%'", "iredadmin")
    assert any("ROUTE_WITHOUT_DOMAIN" in row["msg"] and "more" in row["msg"] for row in log)


@pytest.mark.stores("postgresql", "mariadb")
async def test_missing_rights_are_reported(server: Arranged) -> None:
    """Each revoked right of the login is reported, and nothing changes."""
    store = server.store
    from sqlalchemy.engine import make_url

    login = make_url(store.amavisd).username
    host = "@'%'" if store.name == "mariadb" else ""
    if store.name == "mariadb":
        found = await store.rows("SELECT Host FROM mysql.user WHERE User = :u", u=login)
        host = f"@'{found[0]['Host']}'"
    name = f"'{login}'{host}" if store.name == "mariadb" else f'"{login}"'
    if store.name == "mariadb":
        # Rights on a database cannot be taken from one of its tables.
        database = make_url(store.amavisd).database
        take = f"REVOKE DELETE ON `{database}`.* FROM {name}"
        give = f"GRANT DELETE ON `{database}`.* TO {name}"
    else:
        take = f"REVOKE DELETE ON policy FROM {name}"
        give = f"GRANT DELETE ON policy TO {name}"
    await store.execute(take, "amavisd")
    try:
        found_, result = await examine(store, "RIGHT_MISSING")
    finally:
        await store.execute(give, "amavisd")
    told = {(item.subject, item.detail) for item in found_}
    assert ("amavisd.policy", "DELETE") in told
    assert {detail for _, detail in told} == {"DELETE"}
    assert result.status == 1
    assert await server.changes() == {}


@pytest.mark.stores("sqlite")
async def test_missing_columns_are_reported(server: Arranged) -> None:
    """A missing column of newer releases is a note, others are errors."""
    store = server.store
    await store.execute("ALTER TABLE mailbox RENAME COLUMN mobile TO mobile_")
    await store.execute("ALTER TABLE policy RENAME COLUMN spam_lover TO lover_", "amavisd")
    try:
        found, result = await examine(store, fix=True)
    finally:
        await store.execute("ALTER TABLE mailbox RENAME COLUMN mobile_ TO mobile")
        await store.execute("ALTER TABLE policy RENAME COLUMN lover_ TO spam_lover", "amavisd")
    assert {(item.code, item.subject) for item in found} == {
        ("SCHEMA_OLDER", "vmail.mailbox.mobile"),
        ("SCHEMA_LACKS", "amavisd.policy.spam_lover"),
    }
    assert result.status == 1


async def test_unreachable_servers_are_reported(server: Arranged) -> None:
    """The other servers are examined."""
    away = {
        "sqlite": "sqlite:////nowhere/amavisd.db",
        "postgresql": "postgresql://u:p@127.0.0.1:1/amavisd",
        "mariadb": "mysql://u:p@127.0.0.1:1/amavisd",
    }[server.store.name]
    found, result = await examine(server.store, amavisd_url=away)
    assert [(item.code, item.subject) for item in found] == [("SERVER_AWAY", "amavisd")]
    assert result.status == 3


async def test_command(server: Arranged, tmp_path: Path) -> None:
    """Exit status, text and JSON of the command."""
    given: Any = {"given": urls_of(server.store), "cwd": tmp_path}
    done = iredapi("doctor", **given)
    assert (done.returncode, done.stdout) == (0, "Nothing is wrong.\n"), done.stderr
    done = iredapi("doctor", "--json", **given)
    empty = {"findings": [], "summary": {"found": {}, "fixed": {}, "status": 0}}
    answer = json.loads(done.stdout)
    assert "Dovecot" in (known := answer["summary"].pop("versions"))
    assert "vmail" in known
    assert f"iredapi: vmail: {known['vmail']}\n" in done.stderr
    assert (done.returncode, answer) == (0, empty)
    await route("SELF_ROUTE_WITHOUT_ACCOUNT", "g@ex.com", "g@ex.com", is_forwarding=1).do(
        server.store
    )
    await route("ROUTE_WITHOUT_KIND", "h@ex.com", "u@ex.com").do(server.store)
    done = iredapi("doctor", **given)
    assert done.returncode == 1
    assert "error: SELF_ROUTE_WITHOUT_ACCOUNT" in done.stdout
    assert "  - g@ex.com" in done.stdout
    done = iredapi("doctor", "--json", "--fix", **given)
    answer = json.loads(done.stdout)
    assert done.returncode == answer["summary"]["status"] == 1
    assert {(item["subject"], item["fixed"]) for item in answer["findings"]} == {
        ("g@ex.com", True), ("h@ex.com", False),
    }  # fmt: skip
    done = iredapi("doctor", "--only", "SELF_ROUTE_WITHOUT_ACCOUNT", **given)
    assert done.returncode == 0
    assert iredapi("doctor", "--only", "NO_SUCH_CODE", **given).returncode == 2


async def test_before_the_first_start(server: Arranged, tmp_path: Path) -> None:
    """A state database that the service has not made yet is no finding, and is not made."""
    given = urls_of(server.store)
    given.pop("IREDAPI_STATE_URL", None)
    given["IREDAPI_DATA_DIR"] = str(tmp_path / "new")
    done = iredapi("doctor", given=given, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "Nothing is wrong.\n"), done.stderr
    assert not (tmp_path / "new").exists()


def test_rights_name_tables() -> None:
    """A table that is renamed must be renamed in the list of rights too."""
    from tests.servers.snapshot import all_tables

    assert RIGHTS.keys() <= {name for _, name in all_tables()} | {"log"}
