"""``iredapi doctor`` on OpenLDAP: each thing that can be wrong is planted, found and repaired.

The server is one that the API has filled; nothing is wrong with it before.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from iredapi.backends.ldap.directories import Directories
from iredapi.backends.ldap.write_plan import Delete
from iredapi.backends.ldap.write_plan_journal import dump
from iredapi.doctor.findings import CHECKS
from iredapi.runtime.startup import open_state
from tests.clients import PASSWORD, Client, settings_for
from tests.conftest import _Services
from tests.contract.histories import RICH, play, step
from tests.integration.test_command_line import iredapi
from tests.integration.test_doctor import examine, lasting
from tests.servers import snapshot
from tests.servers.api import urls_of
from tests.servers.openldap import (
    ADMIN_BASE,
    BASE,
    READER_DN,
    OpenldapServer,
    account_dn,
    domain_dn,
)
from tests.servers.snapshot import Arranged, Arrangement, difference
from tests.servers.store import Database, Store

pytestmark = pytest.mark.stores("openldap")

# fmt: off
MORE: Final = (
    step("PUT", "domain/ex.com", numberOfLists="0"),
    step("POST", "maillist/news@ex.com", members="alice@ex.com,crew@ex.com,far@far.org"),
    step("POST", "maillist/empty@ex.com"),
    step("POST", "maillist/brief@ex.com", members="alice@ex.com,x@far.org"),
    step("DELETE", "maillist/brief@ex.com"),
    step("POST", "ml/talk@ex.com", owner="alice@ex.com", moderators="robert@ex.com",
         extra_addresses="talks@ex.com"),
    step("POST", "user/late@ex.com", password=PASSWORD, quota="10"),
    step("PUT", "domain/ex.com", addAliasDomain="dl.com"),
    step("PUT", "domain/ex.com", accountStatus="disabled"),
    step("POST", "user/meanwhile@ex.com", password=PASSWORD),
    step("PUT", "domain/ex.com", accountStatus="active", removeAliasDomain="al.com"),
    step("POST", "user/off@off.com", password=PASSWORD),
    step("POST", "throttle/alice@ex.com/outbound", period="60", max_msgs="5"),
    step("POST", "wblist/inbound/blacklist/ex.com", addresses="spam@far.org"),
    step("PUT", "spampolicy/user/robert@ex.com", spam_score="5"),
    step("POST", "greylisting/ex.com", status="enable"),
)
# fmt: on


async def fill(store: Store, root: Client) -> None:
    """Run histories that use every feature, and add rows as written by Dovecot."""
    for told in await play(root, HISTORY):
        assert " -> 200 " in told, told
    await store.insert(
        "used_quota", {"username": "alice@ex.com", "bytes": 1, "messages": 1}, database="iredadmin"
    )
    await store.insert(
        "last_login", {"username": "alice@ex.com", "domain": "ex.com", "imap": 1},
        database="iredadmin",
    )  # fmt: skip
    await store.insert(
        "share_folder", {"from_user": "alice@ex.com", "to_user": "robert@ex.com"},
        database="iredadmin",
    )  # fmt: skip
    store.directory.modify(domain_dn("plain.com"), replace={"mtaTransport": "relay:[192.0.2.1]"})


HISTORY: Final = (*RICH, *MORE)
_server = Arrangement(fill)


@pytest_asyncio.fixture(loop_scope="session")
async def server(selected_store: Store, _services: _Services) -> AsyncIterator[Arranged]:
    """A server without inconsistencies."""
    async with _server.on(selected_store, _services) as arranged:
        yield arranged


async def test_a_healthy_server(server: Arranged) -> None:
    """The doctor finds nothing and changes nothing."""
    found, result = await examine(server.store, fix=True)
    assert found == []
    assert result.status == 0
    assert await server.changes() == {}


@dataclass(frozen=True)
class Plant:
    """A change of the healthy server, and what it is after a repair, if not as before."""

    code: str
    subject: str
    do: Callable[[OpenldapServer], None] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    table: str = ""
    database: Database = "iredadmin"
    beside: frozenset[str] = frozenset()
    """Further codes found because of the same change."""
    left: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def __str__(self) -> str:
        """Name the case in a test's name."""
        return f"{self.code}-{self.name or self.subject}"

    async def plant(self, store: Store) -> None:
        """Make the change."""
        if self.do is not None:
            self.do(store.directory)
        if self.table:
            await store.insert(self.table, self.row, database=self.database)


def edit(
    code: str, subject: str, dn: str, beside: str = "", name: str = "",
    left: dict[str, Any] | None = None, **how: Any,
) -> Plant:  # fmt: skip
    def do(directory: OpenldapServer) -> None:
        directory.modify(dn, **how)

    return Plant(
        code, subject, do, beside=frozenset(beside.split()), name=name,
        left={f"~entry {dn}": left} if left else {},
    )  # fmt: skip


def new(code: str, subject: str, dn: str, beside: str = "", **attributes: Any) -> Plant:
    def do(directory: OpenldapServer) -> None:
        directory.add(dn, attributes)

    return Plant(code, subject, do, beside=frozenset(beside.split()))


def row(
    code: str, subject: str, table: str, database: Database = "iredadmin", **columns: Any
) -> Plant:
    return Plant(
        code, subject, row=columns, table=table, database=database, name=f"{table}-{subject}"
    )


def external(group: str) -> str:
    return f"memberOfGroup={group},ou=Externals,{domain_dn(group.partition('@')[2])}"


EX, PLAIN = domain_dn("ex.com"), domain_dn("plain.com")
ALICE, LATE = account_dn("alice@ex.com"), account_dn("late@ex.com")
CREW = account_dn("crew@ex.com", "Aliases")
NEWS, TALK = account_dn("news@ex.com", "Groups"), account_dn("talk@ex.com", "Groups")
CATCH_ALL = account_dn("@ex.com")
CRYPT: Final = "$6$salt$5B0"
LIVING: Final = "/var/vmail/vmail1/ex.com/alice-2020"
STRAY: Final[dict[str, Any]] = {
    "objectClass": "mailAlias", "accountStatus": "active", "enabledService": ["mail", "deliver"],
}  # fmt: skip
ADMIN: Final[dict[str, Any]] = {
    "objectClass": "mailAdmin", "accountStatus": "active", "userPassword": "{CRYPT}$6$salt$5B0",
}  # fmt: skip
# fmt: off
PLANTS: Final = [
    edit("ALIAS_DOMAIN_IS_DOMAIN", "plain.com", EX, add={"domainPendingAliasName": "plain.com"}),
    edit("ALIAS_DOMAIN_TWICE", "cl.com", PLAIN, "TWIN_MISSING",
         add={"domainAliasName": "cl.com", "enabledService": "domainalias"}),
    edit("ALIAS_DOMAINS_OFF", "ex.com", EX, delete={"enabledService": "domainalias"}),
    Plant("CONTAINER_MISSING", "plain.com", lambda d: d.delete(f"ou=Externals,{PLAIN}")),
    edit("COUNTER_WRONG", "ex.com", EX, replace={"domainCurrentUserNumber": "77"}),
    edit("COUNTER_WRONG", "ex.com", EX, replace={"domainCurrentQuotaSize": "77"}, name="quota"),
    edit("TRANSPORT_BARE_ADDRESS", "plain.com", PLAIN,
         replace={"mtaTransport": "relay:192.0.2.1"}),
    edit("BACKUP_MX_DELIVERS_HERE", "backup.com", domain_dn("backup.com"),
         replace={"mtaTransport": "dovecot"}),
    edit("RELAY_WITH_PREFIX", "late@ex.com", LATE, add={"senderRelayHost": "smtp:[192.0.2.9]:25"},
         left={"senderRelayHost": ["[192.0.2.9]:25"]}),
    edit("SETTINGS_UNREADABLE", "late@ex.com", LATE, add={"accountSetting": "nonsense"}),
    Plant(
        "USER_NAME_REFUSED", "r&d@ex.com",
        lambda d: d.add(account_dn("r&d@ex.com"), {**(d.entry(LATE) or {}), "mail": "r&d@ex.com"}),
        beside=frozenset(
            {"ALIAS_ADDRESS_SHARED", "COUNTER_WRONG", "MAILBOX_SHARED", "TWIN_MISSING"}
        ),
    ),
    new("ENTRY_MISPLACED", "stray@ex.com", f"mail=stray@ex.com,ou=Users,{EX}",
        "COUNTER_WRONG TWIN_MISSING", mail="stray@ex.com", **STRAY),
    new("ENTRY_MISPLACED", "stray@far.org", f"mail=stray@far.org,ou=Aliases,{EX}",
        mail="stray@far.org", **STRAY),
    new("ADDRESS_TWICE", "late@ex.com", account_dn("late@ex.com", "Aliases"),
        "COUNTER_WRONG TWIN_MISSING", mail="late@ex.com", **STRAY),
    edit("ADDRESS_TWICE", "late@ex.com", ALICE, add={"shadowAddress": "late@ex.com"},
         name="shadow"),
    edit("ALIAS_ADDRESS_SHARED", "al@ex.com", LATE, add={"shadowAddress": "al@ex.com"}),
    edit("MAILBOX_SHARED", "late@ex.com", LATE, replace={"homeDirectory": LIVING}),
    row("MAILBOX_IN_REMOVAL_QUEUE", LIVING, "deleted_mailboxes", username="old@ex.com",
        domain="ex.com", maildir=LIVING + "/", delete_date=date(2030, 1, 1), admin="x"),
    edit("PASSWORD_BARE_CRYPT", "late@ex.com", LATE, replace={"userPassword": CRYPT},
         left={"userPassword": [f"{{CRYPT}}{CRYPT}"]}),
    edit("PASSWORD_SPELLING", "late@ex.com", LATE,
         replace={"userPassword": f"{{SHA512-CRYPT}}{CRYPT}"},
         left={"userPassword": [f"{{CRYPT}}{CRYPT}"]}),
    edit("PASSWORD_UNKNOWN_TO_SLAPD", "late@ex.com", LATE,
         replace={"userPassword": "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA"}),
    edit("INTERNAL_SERVICE_OFF", "late@ex.com", LATE, delete={"enabledService": "doveadm"}),
    edit("DOMAIN_STATUS_MISSING", "off@off.com", account_dn("off@off.com"),
         delete=["domainStatus"]),
    edit("DOMAIN_STATUS_LEFT", "late@ex.com", LATE, add={"domainStatus": "disabled"}),
    edit("DOMAIN_STATUS_LEFT", "news@ex.com", external("news@ex.com"),
         add={"domainStatus": "disabled"}),
    edit("TWIN_MISSING", "late@ex.com", LATE, delete={"shadowAddress": "late@cl.com"}),
    edit("TWIN_MISSING", "alice@ex.com", ALICE, delete={"memberOfGroup": "news@cl.com"}),
    edit("TWIN_MISSING", "news@ex.com", external("news@ex.com"),
         delete={"shadowAddress": "news@cl.com"}),
    edit("TWIN_MISSING", "@ex.com", CATCH_ALL, delete={"shadowAddress": "@cl.com"}),
    edit("TWIN_MISSING", "talk@ex.com", TALK, delete={"shadowAddress": "talks@dl.com"}),
    edit("ALIAS_ADDRESS_WITHOUT_DOMAIN", "late@ex.com", LATE,
         add={"shadowAddress": "late@gone.org"}),
    edit("ALIAS_ADDRESS_WITHOUT_DOMAIN", "alice@ex.com", ALICE,
         add={"memberOfGroup": "news@gone.org"}),
    edit("ALIAS_ADDRESS_WITHOUT_DOMAIN", "news@ex.com", external("news@ex.com"),
         add={"shadowAddress": "news@gone.org"}),
    edit("LIST_WITHOUT_ID", "talk@ex.com", TALK, delete=["mailingListID"]),
    edit("LIST_UNDELIVERABLE", "talk@ex.com", TALK, delete={"enabledService": "deliver"}),
    edit("LIST_UNDELIVERABLE", "talk@ex.com", TALK, delete=["mtaTransport"], name="transport"),
    edit("LIST_MARK_WRONG", "empty@ex.com", account_dn("empty@ex.com", "Groups"),
         replace={"hasMember": "yes"}),
    edit("MEMBER_OF_NO_LIST", "late@ex.com", LATE, add={"memberOfGroup": "ghosts@ex.com"}),
    new("MEMBER_OF_NO_LIST", "ghosts@ex.com", external("ghosts@ex.com"),
        objectClass="mailExternalUser", memberOfGroup="ghosts@ex.com", mail="x@far.org",
        accountStatus="active"),
    edit("MEMBER_NAME_DEAD", "news@ex.com", NEWS, add={"member": account_dn("ghost@ex.com")}),
    edit("ALIAS_OF_ITSELF", "crew@ex.com", CREW, add={"mailForwardingAddress": "crew@ex.com"}),
    edit("DEAD_DESTINATION", "crew@ex.com", CREW,
         add={"mailForwardingAddress": "ghost@plain.com"}),
    edit("DEAD_DESTINATION", "late@ex.com", LATE,
         add={"userSenderBccAddress": "ghost@plain.com"}),
    edit("DEAD_DESTINATION", "@ex.com", CATCH_ALL, add={"mailForwardingAddress": "ghost@ex.com"}),
    edit("DEAD_DESTINATION", "news@ex.com", external("news@ex.com"),
         add={"mail": "ghost@plain.com"}),
    edit("MODERATOR_GONE", "talk@ex.com", TALK, add={"listOwner": "ghost@plain.com"}),
    edit("ADMIN_WITHOUT_ACCOUNT", "ghost@plain.com", EX, add={"domainAdmin": "ghost@plain.com"}),
    edit("DOMAIN_WITHOUT_ADMIN_MARK", "alice@ex.com", ALICE,
         delete={"enabledService": "domainadmin"}),
    edit("ADMIN_MARK_WITHOUT_DOMAIN", "late@ex.com", LATE, add={"enabledService": "domainadmin"}),
    new("ADMIN_IN_HOSTED_DOMAIN", "a@cl.com", f"mail=a@cl.com,{ADMIN_BASE}", mail="a@cl.com",
        domainGlobalAdmin="yes", **ADMIN),
    new("ADMIN_WITHOUT_RIGHTS", "poor@admins.test", f"mail=poor@admins.test,{ADMIN_BASE}",
        mail="poor@admins.test", **ADMIN),
    row("POLICY_WITHOUT_ACCOUNT", "ghost@ex.com", "policy", "amavisd", id=90,
        policy_name="ghost@ex.com"),
    row("POLICY_WITHOUT_ACCOUNT", "@gone.org", "users", "amavisd", id=90, policy_id=0,
        priority=5, email="@gone.org"),
    row("THROTTLE_WITHOUT_ACCOUNT", "ghost@cl.com", "throttle", "iredapd", id=90,
        account="ghost@cl.com", kind="inbound", priority=100, period=5),
    row("GREYLISTING_WITHOUT_ACCOUNT", "@gone.org", "greylisting", "iredapd",
        account="@gone.org", sender="@.", priority=60),
    row("PANEL_SETTING_WITHOUT_ACCOUNT", "ghost@ex.com", "settings", account="ghost@ex.com",
        k="k", v="{}"),
    row("USAGE_WITHOUT_USER", "ghost@ex.com", "used_quota", username="ghost@ex.com", bytes=1,
        messages=1),
    row("USAGE_WITHOUT_USER", "ghost@ex.com", "last_login", username="ghost@ex.com",
        domain="ex.com", imap=1),
    row("SHARE_WITHOUT_USER", "ghost@ex.com", "share_folder", from_user="alice@ex.com",
        to_user="ghost@ex.com"),
    row("SHARE_WITHOUT_USER", "ghost@ex.com", "anyone_shares", from_user="ghost@ex.com"),
]
# fmt: on


@pytest.mark.parametrize("plant", PLANTS, ids=str)
async def test_inconsistency_is_found_and_repaired(server: Arranged, plant: Plant) -> None:
    """Only it is found. A dry run changes nothing; a repair changes only the inconsistency."""
    store = server.store
    await plant.plant(store)
    planted = await snapshot.dump(store)
    found, result = await examine(store)
    assert (plant.code, plant.subject) in {(item.code, item.subject) for item in found}
    assert {item.code for item in found} - {plant.code} <= plant.beside, found
    assert difference(planted, await snapshot.dump(store)) == {}
    check = CHECKS[plant.code]
    found, result = await examine(store, plant.code, fix=True)
    assert {item.subject for item in found} >= {plant.subject}
    assert result.status == (check.severity.value != "note" and not check.fix)
    assert {item.fixed for item in found} == {bool(check.fix)}
    if not check.fix:
        assert difference(planted, await snapshot.dump(store)) == {}
        return
    assert lasting(await server.changes()) == plant.left
    if plant.left:
        assert (await examine(store, plant.code))[0] == []


def test_every_ldap_check_has_a_case() -> None:
    """Every code is inserted by a test."""
    from iredapi.doctor import ldap_checks, ldap_runner

    named = {
        word.strip('"')
        for module in (ldap_runner, ldap_checks)
        for word in Path(module.__file__ or "").read_text().split("(")
        for word in word.split(",")[:1]
        if word.strip('"') in CHECKS
    }
    elsewhere = {"SERVER_AWAY", "SCHEMA_LACKS", "SCHEMA_OLDER", "RIGHT_MISSING"}
    elsewhere |= {"NO_GLOBAL_ADMIN", "WRITE_UNFINISHED", "DIRECTORY_READS_ONLY"}
    elsewhere |= {"DATABASE_READS_ONLY"}
    elsewhere |= {"BACKUP_MX_USER"}  # test_dovecot_versions
    assert len(named) > 30
    assert named - elsewhere <= {plant.code for plant in PLANTS}


async def test_many_repairs_in_one_run(server: Arranged) -> None:
    """Repairs do not interfere with each other, and are in iRedAdmin's log."""
    fixable = [plant for plant in PLANTS if CHECKS[plant.code].fix and plant.do and not plant.left]
    for plant in fixable:
        await plant.plant(server.store)
    found, result = await examine(server.store, fix=True)
    assert result.status == 0, [item for item in found if not item.fixed]
    assert lasting(await server.changes()) == {}
    log = await server.store.rows("SELECT msg FROM log WHERE msg LIKE '%Doctor%'", "iredadmin")
    told = " ".join(item["msg"] for item in log)
    assert all(plant.code in told for plant in fixable)


async def test_member_names_of_existing_users_are_kept(server: Arranged) -> None:
    """The DN of an existing user in ``member`` is correct, also of one who is no member."""
    dead = account_dn("ghost@ex.com")
    server.store.directory.modify(NEWS, add={"member": [LATE, dead]})
    found, _ = await examine(server.store, fix=True)
    assert [(item.code, item.detail, item.fixed) for item in found] == [
        ("MEMBER_NAME_DEAD", dead, True)
    ]
    entry = server.store.directory.entry(NEWS)
    assert entry is not None
    assert LATE in entry["member"]


async def test_no_false_findings_while_the_service_writes(server: Arranged) -> None:
    """While the API creates and removes accounts that others name, nothing wrong is reported."""
    done = asyncio.Event()

    async def write() -> None:
        for number in range(12):
            mail = f"busy{number}@plain.com"
            await server.root.ok("POST", f"user/{mail}", password=PASSWORD)
            await server.root.ok("PUT", "alias/crew@ex.com", addMember=mail)
            await server.root.ok("PUT", "domain/ex.com", addAliasDomain=f"busy{number}.com")
            await server.root.ok("DELETE", f"user/{mail}")
            await server.root.ok("PUT", "domain/ex.com", removeAliasDomain=f"busy{number}.com")
        done.set()

    writing = asyncio.create_task(write())
    rounds = 0
    while not done.is_set():
        found, _ = await examine(server.store, fix=True)
        assert found == []
        rounds += 1
        if writing.done():
            break
    await writing
    assert rounds > 1
    assert (await examine(server.store))[0] == []


async def test_no_global_admin(server: Arranged) -> None:
    directory = server.store.directory
    for base in (ADMIN_BASE, BASE):
        for dn in directory.find(base, "(domainGlobalAdmin=yes)"):
            directory.modify(dn, delete=["domainGlobalAdmin"])
    found, result = await examine(server.store, "NO_GLOBAL_ADMIN", fix=True)
    assert [item.code for item in found] == ["NO_GLOBAL_ADMIN"]
    assert result.status == 1


async def test_interrupted_write_is_undone(
    server: Arranged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that an interrupted write had deleted is restored."""

    async def nothing(_self: Directories) -> None:
        pass

    # The service of the tests looks every 15 seconds, and would undo it, too.
    monkeypatch.setattr(Directories, "recover", nothing)
    directory = server.store.directory
    entry = directory.root.search(LATE, 0)[0]
    attributes = {name: tuple(values) for name, values in entry.items() if name != "dn"}
    state = await open_state(settings_for(server.store))
    try:
        before = state.journal._clock
        state.journal._clock = lambda: time.time() - 3600
        record = await state.journal.write(["ex.com"], dump([Delete(LATE, attributes)]))
        state.journal._clock = before
        directory.delete(LATE)
        found, result = await examine(server.store, "WRITE_UNFINISHED")
        assert [(item.code, item.subject) for item in found] == [("WRITE_UNFINISHED", "ex.com")]
        assert directory.entry(LATE) is None
        found, result = await examine(server.store, "WRITE_UNFINISHED", fix=True)
        assert ([item.fixed for item in found], result.status) == ([True], 0)
        assert await server.changes() == {}
        assert await state.journal.read(record) is None
    finally:
        await state.connections.close()


async def test_missing_rights_are_reported(server: Arranged) -> None:
    """A login with read access only is reported, and nothing changes."""
    directory = server.store.directory
    given: Any = {"ldap_bind_dn": READER_DN, "ldap_bind_password": directory.reader_password}
    found, result = await examine(server.store, **given)
    assert {item.code for item in found} == {"RIGHT_MISSING"}
    assert {item.detail for item in found} == {"write description", "write userPassword"}
    assert len(found) == 7
    assert result.status == 1
    found, result = await examine(server.store, ldap_bind_password="wrong")
    assert [(item.code, item.detail) for item in found] == [
        ("RIGHT_MISSING", "the bind is refused")
    ]
    assert await server.changes() == {}


@asynccontextmanager
async def older(own: OpenldapServer, **names: str) -> AsyncIterator[dict[str, Any]]:
    """Yield settings for a server whose schema lacks some names."""
    own.halt()
    file = own.directory / "iredmail.schema"
    text = file.read_text()
    changed = text
    for old, renamed in names.items():
        changed = re.sub(rf"\b{old}\b", renamed, changed)
    file.write_text(changed)
    own.resume()
    try:
        yield {"ldap_uri": own.uri, "ldap_bind_password": own.password}
    finally:
        file.write_text(text)


async def test_missing_attributes_are_reported(
    server: Arranged, own_server: OpenldapServer
) -> None:
    """A missing attribute of newer releases is a note, others are errors."""
    async with older(own_server, recoveryEmail="formerEmail") as given:
        found, result = await examine(server.store, "SCHEMA_OLDER", **given)
        assert [item.subject for item in found] == ["ldap.recoveryEmail"]
        assert result.status == 0
    async with older(own_server, mailExternalUser="formerUser") as given:
        found, result = await examine(server.store, "SCHEMA_LACKS", **given)
        assert [item.subject for item in found] == ["ldap.mailexternaluser"]
        assert result.status == 1


async def test_unreachable_server_is_reported(server: Arranged) -> None:
    found, result = await examine(server.store, ldap_uri="ldap://127.0.0.1:1")
    assert [(item.code, item.subject) for item in found] == [("SERVER_AWAY", "ldap")]
    assert result.status == 3


async def test_command(server: Arranged, tmp_path: Path) -> None:
    """Exit status and JSON of the command."""
    given: Any = {"given": urls_of(server.store), "cwd": tmp_path}
    done = iredapi("doctor", **given)
    assert (done.returncode, done.stdout) == (0, "Nothing is wrong.\n"), done.stderr
    server.store.directory.modify(LATE, delete={"shadowAddress": "late@cl.com"})
    done = iredapi("doctor", "--json", "--fix", **given)
    answer = json.loads(done.stdout)
    assert answer["summary"]["fixed"] == {"TWIN_MISSING": 1}
    assert done.returncode == 0
    assert await server.changes() == {}
