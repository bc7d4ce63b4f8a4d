"""A mail server is upgraded in place: Debian 12's data, then Debian 13's Dovecot and mlmmj."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from iredapi.config.host_programs import Host
from iredapi.config.settings import Settings
from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from tests.clients import PASSWORD
from tests.integration.test_dovecot_versions import MD5, MERGE, TRIGGER, delivered, restored, sizes
from tests.integration.test_password_schemes import CRYPTED
from tests.lists.conftest import TEAM, Lists
from tests.lists.test_list_texts import OLD, texts, version
from tests.lists.test_subscribers_and_mail import post
from tests.servers.dovecot import Dovecot
from tests.servers.openldap import account_dn
from tests.servers.store import Store
from tests.unit.test_host_crypt import SECRET

pytestmark = [pytest.mark.needs("mlmmj")]
BARE, WEAK = "bare@list.test", "weak@list.test"
ALWAYS: Final = {
    "PASSWORD_BARE_CRYPT": (BARE, True),
    "PASSWORD_REFUSED_BY_DOVECOT": (WEAK, False),
    "LIST_TEXT_OUTDATED": (TEAM, True),
}
ALSO: Final = {
    "postgresql": {"QUOTA_TRIGGER_OUTDATED": ("vmail.used_quota", True)},
    "openldap": {"PASSWORD_CHECK_WRONG": ("IREDAPI_LDAP_PASSWORD_CHECK", False)},
}
"""Store → code → subject, and whether there is one right repair."""


async def store_password(store: Store, mail: str, value: str) -> None:
    if store.openldap is not None:
        store.directory.modify(account_dn(mail), replace={"userPassword": value})
        return
    await store.execute(
        "UPDATE mailbox SET password = :value WHERE username = :mail", value=value, mail=mail
    )


async def examine(settings: Settings, *, fix: bool = False) -> list[Finding]:
    found: list[Finding] = []
    await Examination(settings, fix=fix).run(found.append)
    return found


async def settings_after(lists: Lists, place: Path) -> Settings:
    """The settings of before with the versions of after, whatever is installed here."""
    settings = lists.service.settings
    installed = await asyncio.to_thread(Host(path=settings.mlmmj_programs).mlmmj)
    changed: dict[str, Any] = {"dovecot_version": "2.4", "ldap_password_check": "slapd"}
    if installed is None or installed.version.startswith("1.3"):
        changed["mlmmj_programs"] = str(version(place / "mlmmj", "mlmmj-sub version 1.5.2"))
    return settings.model_copy(update=changed)


@pytest.mark.list_servers("spool")
@pytest.mark.stores("postgresql", "openldap")
async def test_doctor_repairs_a_server_after_its_upgrade(
    lists: Lists, dovecot_logins: Dovecot, tmp_path: Path
) -> None:
    """Everything is named, what has one right answer is repaired; then mail and logins work."""
    store = lists.store
    await lists.create(subscribers="ann@else.test,bob@else.test", require_confirm="no")
    await lists.user("bare", "weak", "u")
    for name, text in OLD.items():
        (lists.directory() / "text" / name).write_text(text)
    await store_password(store, BARE, CRYPTED["$6$"])
    await store_password(store, WEAK, MD5)
    after = await settings_after(lists, tmp_path)
    async with restored(store):
        if store.name == "postgresql":
            await store.execute(MERGE)
            await store.execute(TRIGGER)
            await delivered(store, "2.3", 1000, 1)
        wanted = ALWAYS | ALSO[store.name]
        found = await examine(after)
        named = {item.code: item.subject for item in found}
        assert {code: named.get(code) for code in wanted} == {
            code: subject for code, (subject, _) in wanted.items()
        }
        assert not any(item.fixed for item in found)
        fixed = {item.code: item.fixed for item in await examine(after, fix=True)}
        assert {code: fixed[code] for code in wanted} == {
            code: repaired for code, (_, repaired) in wanted.items()
        }
        left = {item.code for item in await examine(after)} & wanted.keys()
        assert left == {code for code, (_, repaired) in wanted.items() if not repaired}
        if store.name == "postgresql":
            for number in (2, 3):
                await delivered(store, "2.4", 1000 * number, number)
            assert await sizes(store) == [(3000, 3, "ex.com")]
    assert "$confaddr$" not in texts(lists)["confirm"]
    assert dovecot_logins.imap_login(BARE, SECRET) == "yes"
    assert dovecot_logins.imap_login(BARE, CRYPTED["$6$"]) == "no"
    await lists.root.ok("PUT", f"user/{WEAK}", password=PASSWORD)
    assert dovecot_logins.imap_login(WEAK, PASSWORD) == "yes"
    await asyncio.to_thread(post, lists, "ann@else.test")
    mail = await asyncio.to_thread(lists.sink.to, "bob@else.test")
    assert mail["Subject"] == "Hello"
    await lists.update(add_subscribers="dan@else.test", require_confirm="yes")
    mail = await asyncio.to_thread(lists.sink.to, "dan@else.test")
    assert "team+confsub-" in str(mail["Reply-To"])
