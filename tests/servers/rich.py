"""A server in use: two domains with everything that can be stored of them, in all databases.

Whatever a change of one thing damages besides is noticed, because there is something of each kind
next to it: ``ex.com`` with the similar ``other.com``, ``u@ex.com`` with ``v@ex.com`` and
``x@other.com``, ``list@ex.com`` with ``off@ex.com``, two standalone admins.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from tests.servers.store import Store

LONG_AGO: Final = datetime(2020, 2, 3, 4, 5, 6)
HASH: Final = "{PLAIN}Old-Pass1"
DOMAIN_SETTINGS: Final[Mapping[str, str]] = {
    "default_user_quota": "1024",
    "max_user_quota": "4096",
    "min_passwd_length": "9",
    "max_passwd_length": "60",
    "default_language": "de_DE",
    "timezone": "Asia/Shanghai",
    "enabled_services": "self-service",
    "disabled_domain_profiles": "bcc,relay",
    "disabled_user_profiles": "bcc,forwarding",
    "disabled_user_preferences": "quarantine,wblist",
    "of_the_future": "x,y",
}
ADMIN_SETTINGS: Final[Mapping[str, str]] = {
    "create_new_domains": "yes",
    "create_max_domains": "5",
    "create_max_quota": "10",
    "create_quota_unit": "GB",
    "create_max_users": "100",
    "create_max_aliases": "50",
    "create_max_lists": "20",
    "disable_viewing_mail_log": "yes",
    "timezone": "Asia/Shanghai",
    "of_the_future": "x,y",
}
MAILDIRS: Final = {
    "u@ex.com": "ex.com/u/_/_/u-2020.02.03.04.05.06/",
    "v@ex.com": "ex.com/v/_/_/v-2020.02.03.04.05.06/",
    "w@ex.com": "ex.com/w/_/_/w-2020.02.03.04.05.06/",
    "boss@ex.com": "ex.com/b/o/s/boss-2020.02.03.04.05.06/",
    "x@other.com": "other.com/x/_/_/x-2020.02.03.04.05.06/",
}


def changed(settings: Mapping[str, str], **new: str) -> str:
    """Return a settings column with some keys changed; an empty value takes a key away."""
    return "".join(f"{key}:{value};" for key, value in {**settings, **new}.items() if value)


def at(store: Store, moment: datetime = LONG_AGO) -> Any:
    """Return a moment as the driver takes it in plain SQL."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if store.name == "sqlite" else moment


def on(store: Store, day: date) -> Any:
    """Return a day as the driver takes it in plain SQL."""
    return day.isoformat() if store.name == "sqlite" else day


def as_bytes(store: Store, address: str) -> Any:
    """Return an address as Amavisd's columns hold it."""
    return address.encode() if store.name == "postgresql" else address


async def add_domain(store: Store, name: str, *, target_of: str = "", **columns: Any) -> None:
    """Insert a domain and its alias domains (separated by blanks)."""
    old = {"created": at(store), "modified": at(store)}
    await store.insert("domain", {"domain": name, "settings": "", **old, **columns})
    for alias in target_of.split():
        await store.insert("alias_domain", {"alias_domain": alias, "target_domain": name, **old})


async def add_user(store: Store, mail: str, **columns: Any) -> None:
    """Insert a mail user with its self row."""
    domain = mail.partition("@")[2]
    row = {
        "username": mail,
        "password": HASH,
        "domain": domain,
        "maildir": MAILDIRS.get(mail, f"{domain}/{mail.partition('@')[0]}-2020.02.03.04.05.06/"),
        "settings": "",
        "created": at(store),
        "modified": at(store),
        "passwordlastchange": at(store),
    }
    await store.insert("mailbox", row | columns)
    await add_route(store, mail, mail, is_forwarding=1, active=columns.get("active", 1))


async def add_alias(store: Store, address: str, members: str, **columns: Any) -> None:
    """Insert an alias account; members are separated by blanks."""
    domain = address.partition("@")[2]
    old = {"created": at(store), "modified": at(store)}
    await store.insert(
        "alias", {"address": address, "domain": domain, "accesspolicy": "public", **old, **columns}
    )
    for member in members.split():
        await add_route(store, address, member, is_list=1, active=columns.get("active", 1))


async def add_route(
    store: Store, address: str, forwarding: str, *, domain: str = "", **flags: int
) -> None:
    """Insert a row of ``forwardings``."""
    row = {
        "address": address,
        "forwarding": forwarding,
        "domain": domain or address.rpartition("@")[2],
        "dest_domain": forwarding.rpartition("@")[2],
    }
    await store.insert("forwardings", row | flags)


async def fill(store: Store) -> None:
    """Insert everything."""
    await _domains(store)
    await _accounts(store)
    await _routes(store)
    await _side_rows(store)
    await _policies(store)
    await _panel(store)


async def _domains(store: Store) -> None:
    both: dict[str, Any] = {
        "description": "Example",
        "disclaimer": "Kept.",
        "aliases": 10,
        "mailboxes": 20,
        "maillists": 5,
        "maxquota": 100_000,
        "quota": 77,
        "transport": "lmtp:inet:127.0.0.1:24",
    }
    await add_domain(
        store, "ex.com", target_of="al.com al2.com", settings=changed(DOMAIN_SETTINGS), **both
    )
    plain = changed(DOMAIN_SETTINGS, enabled_services="")
    await add_domain(store, "other.com", target_of="oal.com", settings=plain, **both)


async def _accounts(store: Store) -> None:
    rich = {
        "name": "U",
        "first_name": "Ursula",
        "last_name": "Uhl",
        "mobile": "1",
        "telephone": "2",
        "recovery_email": "u@gmail.com",
        "birthday": on(store, date(1990, 1, 2)),
        "language": "de_DE",
        "quota": 1000,
        "transport": "lmtp:inet:127.0.0.1:24",
        "department": "D",
        "rank": "high",
        "employeeid": "4711",
        "enablepop3": 0,
        "enablesogocalendar": "n",
        "enabledsync": 0,
        "allow_nets": "10.0.0.0/8",
        "disclaimer": "Kept.",
        "settings": "timezone:Asia/Shanghai;",
    }
    await add_user(store, "u@ex.com", **rich)
    await add_user(store, "v@ex.com", **rich)
    await add_user(store, "w@ex.com", active=0)
    await add_user(store, "boss@ex.com", isadmin=1)
    await add_user(store, "x@other.com", **rich, isadmin=1)
    settings = changed(ADMIN_SETTINGS)
    for mail in ("norm@admins.test", "gone@admins.test"):
        await store.insert(
            "admin",
            {
                "username": mail,
                "password": HASH,
                "name": "N",
                "language": "de_DE",
                "settings": settings,
                "passwordlastchange": at(store),
                "created": at(store),
                "modified": at(store),
            },
        )
    for admin, domain in (
        ("norm@admins.test", "ex.com"), ("norm@admins.test", "other.com"),
        ("gone@admins.test", "other.com"), ("boss@ex.com", "ex.com"), ("x@other.com", "ex.com"),
        ("x@other.com", "other.com"),
    ):  # fmt: skip
        await store.insert(
            "domain_admins",
            {
                "username": admin,
                "domain": domain,
                "created": at(store),
                "modified": at(store),
            },
        )


async def _routes(store: Store) -> None:
    await add_route(store, "u@ex.com", "far@gmail.com", is_forwarding=1)
    await add_route(store, "v@ex.com", "far@gmail.com", is_forwarding=1)
    await add_route(store, "x@other.com", "u@ex.com", is_forwarding=1)
    await add_route(store, "bob@ex.com", "u@ex.com", is_alias=1)
    await add_route(store, "bob@al.com", "u@ex.com", is_alias=1, domain="ex.com")
    await add_route(store, "val@al.com", "v@ex.com", is_alias=1, domain="ex.com")
    await add_route(store, "xav@oal.com", "x@other.com", is_alias=1, domain="other.com")
    await add_route(store, "ex.com", "u@ex.com")
    await add_route(store, "other.com", "x@other.com", is_forwarding=1)
    await add_alias(store, "list@ex.com", "u@ex.com v@ex.com far@gmail.com", name="L")
    await add_alias(store, "off@ex.com", "u@ex.com v@ex.com", active=0)
    await add_alias(store, "olist@other.com", "u@ex.com x@other.com list@ex.com")
    await add_route(store, "ml@ex.com", "ml@ex.com", is_maillist=1)
    await add_route(store, "oml@other.com", "oml@other.com", is_maillist=1)
    for address in ("ml@ex.com", "oml@other.com"):
        local, _, domain = address.partition("@")
        await store.insert(
            "maillists",
            {
                "address": address,
                "domain": domain,
                "transport": f"mlmmj:{domain}/{local}",
                "mlid": f"0b5e8fb5-5d3b-4ba6-8f1f-4a3a1c6c9a{len(local)}1",
            },
        )
    for table, column, addresses in (
        ("moderators", "moderator", ("ml@ex.com", "list@ex.com", "olist@other.com")),
        ("maillist_owners", "owner", ("ml@ex.com", "oml@other.com")),
    ):
        for address in addresses:
            for who in ("u@ex.com", "v@ex.com", "x@other.com"):
                await store.insert(
                    table,
                    {
                        "address": address,
                        column: who,
                        "domain": address.partition("@")[2],
                        "dest_domain": who.partition("@")[2],
                    },
                )


async def _side_rows(store: Store) -> None:
    old = {"created": at(store), "modified": at(store)}
    for side in ("sender", "recipient"):
        for mail in ("u@ex.com", "v@ex.com", "x@other.com"):
            await store.insert(
                f"{side}_bcc_user",
                {
                    "username": mail,
                    "bcc_address": "bcc@x.com" if mail != "x@other.com" else "u@ex.com",
                    "domain": mail.partition("@")[2],
                    **old,
                },
            )
        for domain in ("ex.com", "other.com"):
            await store.insert(
                f"{side}_bcc_domain",
                {
                    "domain": domain,
                    "bcc_address": "bcc@x.com" if domain == "ex.com" else "u@ex.com",
                    **old,
                },
            )
    for account in ("@ex.com", "@other.com", "u@ex.com", "v@ex.com"):
        await store.insert("sender_relayhost", {"account": account, "relayhost": "[10.0.0.1]:25"})
    for mail in ("u@ex.com", "v@ex.com", "x@other.com"):
        domain = mail.partition("@")[2]
        await store.insert("used_quota", {"username": mail, "bytes": 1_048_577, "messages": 3})
        await store.insert(
            "last_login", {"username": mail, "domain": domain, "imap": 1_580_000_000, "lda": 1}
        )
        await store.insert("anyone_shares", {"from_user": mail, "dummy": "1"})
        await store.insert(
            "deleted_mailboxes",
            {
                "username": mail,
                "domain": domain,
                "maildir": "/var/vmail/vmail1/old-2019.01.01.00.00.00/",
                "timestamp": at(store),
                "admin": "root@admins.test",
            },
        )
    for owner, reader in (
        ("u@ex.com", "v@ex.com"), ("v@ex.com", "u@ex.com"), ("x@other.com", "u@ex.com"),
        ("v@ex.com", "x@other.com"),
    ):  # fmt: skip
        await store.insert("share_folder", {"from_user": owner, "to_user": reader, "dummy": "1"})


ACCOUNTS: Final = ("u@ex.com", "v@ex.com", "list@ex.com", "@ex.com", "x@other.com", "@other.com")
"""Whom the rows of Amavisd and iRedAPD are for."""


async def _policies(store: Store) -> None:
    remote = {"id": 100, "email": as_bytes(store, "friend@far.org")}
    await store.insert("mailaddr", remote, database="amavisd")
    for number, account in enumerate(ACCOUNTS, 101):
        await store.insert(
            "policy", {"id": number, "policy_name": account, "spam_lover": "Y"}, database="amavisd"
        )
        await store.insert(
            "users",
            {"id": number, "policy_id": number, "email": as_bytes(store, account), "priority": 9},
            database="amavisd",
        )
        for table, row in (
            ("wblist", {"rid": number, "sid": 100, "wb": "W"}),
            ("outbound_wblist", {"rid": 100, "sid": number, "wb": "B"}),
        ):
            await store.insert(table, row, database="amavisd")
        await store.insert(
            "throttle",
            {"id": number, "account": account, "kind": "outbound", "priority": 9, "period": 60},
            database="iredapd",
        )
        await store.insert(
            "throttle_tracking", {"tid": number, "account": account, "period": 60},
            database="iredapd",
        )  # fmt: skip
        for table in ("greylisting", "greylisting_whitelists"):
            await store.insert(
                table, {"account": account, "sender": "@far.org"}, database="iredapd"
            )
        if "@" in account[1:]:
            await store.insert(
                "greylisting_tracking",
                {
                    "sender": "friend@far.org",
                    "recipient": account,
                    "client_address": "10.0.0.9",
                    "sender_domain": "far.org",
                    "rcpt_domain": account.partition("@")[2],
                },
                database="iredapd",
            )


async def _panel(store: Store) -> None:
    for account in ("global", "ex.com", "u@ex.com", "list@ex.com", "other.com", "norm@admins.test"):
        await store.insert(
            "settings", {"account": account, "k": "of_ours", "v": '{"value": 1}'},
            database="iredadmin",
        )  # fmt: skip
    for admin, domain, alias, verified in (
        ("norm@admins.test", "ex.com", "", 1),
        ("norm@admins.test", "ex.com", "al2.com", 0),
        ("norm@admins.test", "other.com", "", 0),
        ("boss@ex.com", "ex.com", "", 1),
    ):
        await store.insert(
            "domain_ownership",
            {
                "admin": admin, "domain": domain, "alias_domain": alias, "verify_code": "c",
                "verified": verified, "message": "",
            },
            database="iredadmin",
        )  # fmt: skip
