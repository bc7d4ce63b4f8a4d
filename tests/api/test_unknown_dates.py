"""Invalid dates that other programs stored: every operation works with them."""

from __future__ import annotations

from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from tests.clients import PASSWORD, ROOT, Client, Service, settings_for
from tests.servers.openldap import ADMIN_BASE, account_dn
from tests.servers.store import Store

DATES = {
    "sqlite": (
        "0000-00-00 00:00:00", "2020-00-00 00:00:00", "2020-02-31 10:00:00", "never", "",
        "12026-01-01 00:00:00",
    ),
    "postgresql": ("infinity", "-infinity", "12026-01-01", "0044-03-15 BC"),
    "mariadb": ("0000-00-00 00:00:00", "2020-00-00 00:00:00", "2020-07-00 10:00:00"),
    "openldap": ("-1", "99999999999999"),
}  # fmt: skip
"""On OpenLDAP, which has a number of days."""
DAYS = {
    "sqlite": ("0000-00-00", "no day"),
    "postgresql": ("infinity", "20260-01-01"),
    "mariadb": ("0000-00-00", "2020-00-00"),
}
USER, ADMIN = "boss@ex.com", "norm@admins.test"
_STATE = ("created", "modified", "expired")
MOMENTS = {
    "domain": _STATE,
    "alias_domain": _STATE[:2],
    "mailbox": (*_STATE, "passwordlastchange"),
    "alias": _STATE,
    "maillists": _STATE,
    "admin": (*_STATE, "passwordlastchange"),
    "domain_admins": _STATE,
    "recipient_bcc_user": _STATE,
    "recipient_bcc_domain": _STATE,
}


async def _arrange(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", recipientBcc="copy@far.org", addAliasDomain="al.com")
    await root.ok("POST", f"user/{USER}", password=PASSWORD, quota="1")
    await root.ok("PUT", f"user/{USER}", isGlobalAdmin="yes", recipientBcc="copy@far.org")
    await root.ok("POST", "alias/list@ex.com", members=USER)
    await root.ok("POST", "ml/news@ex.com")
    await root.ok("POST", f"admin/{ADMIN}", password=PASSWORD)
    await root.ok("PUT", "domain/admins/ex.com", addAdmin=ADMIN)


async def _plant(store: Store, date: str, day: str) -> None:
    """Write what is no date wherever there is one."""
    if store.openldap is None:
        text = date.replace(":", r"\:")
        for table, columns in MOMENTS.items():
            values = ", ".join(f"{column} = '{text}'" for column in columns)
            who = f" WHERE username <> '{ROOT}'" if table in ("admin", "domain_admins") else ""
            await store.execute(f"UPDATE {table} SET {values}{who}")
        await store.execute(f"UPDATE mailbox SET birthday = '{day}'")
    else:
        store.openldap.modify(account_dn(USER), replace={"shadowLastChange": date})
        store.openldap.modify(f"mail={ADMIN},{ADMIN_BASE}", replace={"shadowLastChange": date})
    await store.execute("DELETE FROM deleted_mailboxes", store.accounts)
    await store.execute("DELETE FROM last_login", store.accounts)
    queued = {"username": "old@ex.com", "domain": "ex.com", "maildir": "/var/x", "admin": "x"}
    await store.insert("deleted_mailboxes", queued, database=store.accounts)
    await store.execute(f"UPDATE deleted_mailboxes SET delete_date = '{day}'", store.accounts)
    seen = {"username": USER, "domain": "ex.com", "imap": -1, "pop3": 2147483647}
    if store.name in ("sqlite", "postgresql"):
        seen["pop3"] = 10**15  # milliseconds, or worse
    await store.insert("last_login", seen, database=store.accounts)


async def _read(service: Service, root: Client) -> None:
    store = service.store
    for mail in (USER, ADMIN):
        reader = await service.client().login(mail)
        assert (await reader.ok("GET", "whoami"))["username"] == mail
    for path in (
        "domain/ex.com", f"user/{USER}", f"admin/{ADMIN}", "alias/list@ex.com", "ml/news@ex.com",
        "domains", "users/ex.com", "aliases/ex.com", "mls/ex.com",
    ):  # fmt: skip
        found = await root.ok("GET", path)
        await root.ok("GET", path, view="canonical")
        profile = found[0] if isinstance(found, list) else found
        for name in {"created", "modified", "expired", "passwordlastchange"} & profile.keys():
            assert store.openldap is not None or profile[name] == "", (path, name)
    seen = (await root.ok("GET", f"user/{USER}"))["last_login_by_service"]
    assert seen["lda"] is None
    if store.name in ("sqlite", "postgresql"):
        assert seen["pop3"] is None
    for path in ("domain/ex.com", f"user/{USER}", f"admin/{ADMIN}", "alias/list@ex.com"):
        await root.ok("PUT", path, name="New name")


async def test_unknown_dates(service: Service, root: Client) -> None:
    """Every read, list, login and write works; what is no date is shown as none."""
    store = service.store
    await _arrange(root)
    days = DAYS[store.dialect]
    for number, date in enumerate(DATES[store.name]):
        await _plant(store, date, days[number % len(days)])
        service.context.invalidate_caches()
        await _read(service, root)

    told: list[Finding] = []
    only = ["DATE_UNKNOWN", "NO_GLOBAL_ADMIN"]
    await Examination(settings_for(store), only=only).run(told.append)
    places = {(item.code, item.detail) for item in told}
    assert ("DATE_UNKNOWN", "deleted_mailboxes.delete_date") in places
    if store.openldap is None:
        for table in MOMENTS:
            assert ("DATE_UNKNOWN", f"{table}.expired") in places or table == "alias_domain"
    assert "NO_GLOBAL_ADMIN" not in {item.code for item in told}
    await root.ok("POST", f"user/{USER}/change_email/chief@ex.com")
    await root.ok("DELETE", "user/chief@ex.com/keep_mailbox_days/3")
    await root.ok("DELETE", f"admin/{ADMIN}")
    await root.ok("DELETE", "domain/ex.com")
