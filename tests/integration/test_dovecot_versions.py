"""What depends on Dovecot's version: passwords, the quota trigger, users of backup MX domains."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import md5
from typing import Any, Final
from unittest.mock import ANY

import bonsai
import pytest
import pytest_asyncio

from iredapi.config.host_programs import Program
from iredapi.doctor.findings import Finding
from iredapi.doctor.runner import Examination
from iredapi.domain.passwords import Scheme, hash_password, verify_password
from tests.clients import PASSWORD, Service, serving, settings_for
from tests.integration.test_doctor import examine
from tests.integration.test_password_schemes import CRYPTED, rows, samples
from tests.servers import dovecot as dovecot_server
from tests.servers.dovecot import Dovecot
from tests.servers.openldap import ADMIN_BASE, account_dn
from tests.servers.rich import HASH, add_domain, add_user
from tests.servers.store import Store
from tests.unit.test_host_crypt import SECRET

SQL = pytest.mark.stores("sqlite", "postgresql", "mariadb")
MD5: Final = "{MD5}" + CRYPTED["$1$"]
STORED: Final = {
    "bare": CRYPTED["$6$"], "bare1": CRYPTED["$1$"], "argon": "$argon2id$v=19$m=65536,t=3,p=1$c$h",
    "weak": MD5, "des": "{CRYPT}abJduVZdJ07gA", "hex": "{SMD5.hex}00", "plain": "Secret-Word",
    "ntlm": "{NTLM}00", "argon2": "{ARGON2}$argon2id$v=19$m=65536,t=3,p=1$c$h", "good": HASH,
    "yescrypt": "{CRYPT}$y$j9T$x$y", "scram": "{SCRAM-SHA-256}4096,a,b,c",
}  # fmt: skip
"""Local part of a user → what is stored as its password."""
BARE, REFUSED = "PASSWORD_BARE_CRYPT", "PASSWORD_REFUSED_BY_DOVECOT"
WITHOUT: Final = "PASSWORD_WITHOUT_SCHEME"
FOUND: Final = {
    "2.3": {"bare": "PASSWORD_BARE_ON_23", "bare1": "PASSWORD_BARE_ON_23", "argon": BARE,
            "plain": WITHOUT, "ntlm": REFUSED, "argon2": REFUSED},
    "2.4": {"bare": BARE, "bare1": BARE, "argon": BARE, "plain": WITHOUT, "weak": REFUSED,
            "des": REFUSED, "hex": REFUSED, "ntlm": REFUSED},
    "": {"bare": BARE, "bare1": BARE, "argon": BARE, "plain": WITHOUT, "weak": REFUSED,
         "des": REFUSED, "hex": REFUSED, "ntlm": REFUSED, "argon2": REFUSED},
}  # fmt: skip
"""Version of Dovecot → the code of each user in SQL."""
RIGHT: Final = {
    "bare": "{CRYPT}" + STORED["bare"],
    "bare1": "{CRYPT}" + STORED["bare1"],
    "argon": "{ARGON2ID}" + STORED["argon"],
}
UNKNOWN: Final = "PASSWORD_UNKNOWN_TO_SLAPD"
PASSWORD_CODES: Final = (BARE, "PASSWORD_BARE_ON_23", REFUSED, WITHOUT, "ADMIN_PASSWORD_BARE")


@pytest.mark.parametrize("version", ["2.3", "2.4.1", ""])
@SQL
async def test_stored_passwords_are_judged_by_version(store: Store, version: str) -> None:
    """Each with the code of its release; ``--fix`` puts schemes in front, and touches no other."""
    await add_domain(store, "ex.com")
    for name, stored in STORED.items():
        await add_user(store, f"{name}@ex.com", password=stored)
        row = {"username": f"{name}@admins.test", "password": stored}
        await store.insert("admin", row)
    wanted = {f"{name}@ex.com": code for name, code in FOUND[version[:3]].items()}
    admins = {f"{name}@admins.test": "ADMIN_PASSWORD_BARE" for name in ("bare", "bare1", "argon")}
    admins |= {"plain@admins.test": WITHOUT}
    found, result = await examine(store, *PASSWORD_CODES, dovecot_version=version)
    assert {item.subject: item.code for item in found} == wanted | admins
    assert len(found) == len(wanted | admins)
    assert result.status == 1
    said = {item.subject: item.detail for item in found}
    assert not any(stored in detail for stored in STORED.values() for detail in said.values())
    if not version:
        assert "if Dovecot is 2.4" in said["bare@ex.com"]
        assert "Dovecot 2.4 refuses {MD5}" in said["weak@ex.com"]
        assert "Dovecot 2.3 does not know {ARGON2}" in said["argon2@ex.com"]
    await examine(store, *PASSWORD_CODES, fix=True, dovecot_version=version)
    for table, domain in (("mailbox", "ex.com"), ("admin", "admins.test")):
        now = await store.rows(f"SELECT username, password FROM {table}")
        kept = {**STORED, **RIGHT}
        for row in now:
            name, _, place = row["username"].partition("@")
            if place == domain:
                assert row["password"] == kept[name], name


async def password_of(service: Service, mail: str) -> Any:
    if service.store.openldap is not None:
        entry = service.store.directory.entry(account_dn(mail))
        return None if entry is None else entry["userPassword"]
    found = await service.store.rows(
        "SELECT password FROM mailbox WHERE username = :mail", mail=mail
    )
    return [row["password"] for row in found]


@pytest.mark.parametrize("version", ["2.3.19", "2.4.1"])
async def test_what_dovecot_refuses_is_not_stored(store: Store, version: str) -> None:
    """By create and update; and no value without a scheme is ever stored."""
    async with serving(store, dovecot_version=version) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password="An0ther-Secret")
        before = await password_of(service, "u@ex.com")
        for number, value in enumerate(
            (MD5, "{PLAIN-MD5}" + "0" * 32, "{SMD5}0AVRpeUTChRtsRFUVm6Sl0bpdDM=",
             CRYPTED["$1$"], "{CRYPT}abJduVZdJ07gA")
        ):  # fmt: skip
            for method, path in (("PUT", "user/u@ex.com"), ("POST", f"user/n{number}@ex.com")):
                status, answer = await root.call(method, path, data={"password_hash": value})
                if version == "2.3.19":
                    assert status == 200, answer
                    continue
                assert (status, answer["_msg"]) == (400, "INVALID_PASSWORD_SCHEME")
                (error,) = answer["_errors"]
                assert error["param"] == "password_hash"
                assert "Dovecot 2.4 refuses" in error["detail"]
                assert await password_of(service, "u@ex.com") == before
                assert await password_of(service, f"n{number}@ex.com") in (None, [])
        for value in (CRYPTED["$6$"], CRYPTED["$2y$"], CRYPTED["$y$"], "{PLAIN}Some-Secret1"):
            await root.ok("PUT", "user/u@ex.com", password_hash=value)
            (kept,) = await password_of(service, "u@ex.com")
            assert kept.startswith("{"), kept
            plain = "Some-Secret1" if "Some" in value else SECRET
            await root.ok("POST", "verify_password/user/u@ex.com", password=plain)


@pytest.mark.parametrize("scheme", ["SHA512-CRYPT", "SSHA512"])
async def test_the_same_password_again_adds_the_scheme(store: Store, scheme: str) -> None:
    """A bare hash of another program does not stay when its password is sent, or used to log in."""
    bare = hash_password(PASSWORD, Scheme.SHA512_CRYPT).removeprefix("{SHA512-CRYPT}")
    given: dict[str, Any] = {"password_scheme": scheme, "rehash_at_login": True}
    async with serving(store, **given) as service:
        await plant(store, service, {"u": bare})
        root = await service.root()
        await root.ok("PUT", "user/u@ex.com", password=PASSWORD)
        (kept,) = await password_of(service, "u@ex.com")
        assert kept.startswith("{"), kept
        assert verify_password(PASSWORD, kept)
        await root.ok("PUT", "user/u@ex.com", password=PASSWORD)
        assert await password_of(service, "u@ex.com") == [kept]
        if store.openldap is not None or scheme == "SSHA512":
            return  # slapd knows no bare hash; a weaker one never replaces it
        await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="yes")
        await store.execute("UPDATE mailbox SET password = :value", value=bare)
        service.context.invalidate_caches()
        await service.client().login("u@ex.com", PASSWORD)
        (kept,) = await password_of(service, "u@ex.com")
        assert kept.startswith("{SHA512-CRYPT}")


@SQL
async def test_verify_password_of_foreign_values(store: Store) -> None:
    """Rows of other programs: ``verify_password`` says what Dovecot 2.4 does; a login here not."""
    async with serving(store, dovecot_version="2.4") as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password="An0ther-Secret", isGlobalAdmin="yes")
        for value, plain, wanted in (
            (CRYPTED["$6$"], SECRET, False), (CRYPTED["$6$"], CRYPTED["$6$"], True),
            (MD5, SECRET, False), ("{ARGON2}" + "$argon2id$x", SECRET, False),
            ("Secret-Word", "Secret-Word", True), ("{CRYPT}" + CRYPTED["$6$"], SECRET, True),
        ):  # fmt: skip
            await store.execute("UPDATE mailbox SET password = :value", value=value)
            status, answer = await root.call(
                "POST", "verify_password/user/u@ex.com", data={"password": plain}
            )
            assert (status == 200) is wanted, (value, answer)
            if value == MD5:
                assert (status, answer["_msg"]) == (403, "INVALID_CREDENTIALS")
                assert "Dovecot 2.4 refuses {MD5}" in answer["_detail"]
                service.context.invalidate_caches()
                await service.client().login("u@ex.com", SECRET)
                await root.ok("POST", "verify_password/admin/u@ex.com", password=SECRET)


MERGE: Final = """
    CREATE FUNCTION mergequota() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        UPDATE used_quota SET bytes = bytes + NEW.bytes, messages = messages + NEW.messages
         WHERE username = NEW.username;
        IF NOT FOUND THEN
            NEW.domain = split_part(NEW.username, '@', 2);
            RETURN NEW;
        END IF;
        RETURN NULL;
    END $body$"""
TRIGGER: Final = """
    CREATE TRIGGER mergequota BEFORE INSERT ON used_quota
    FOR EACH ROW EXECUTE FUNCTION mergequota()"""
TRIGGER_CODES: Final = ("QUOTA_TRIGGER_OUTDATED", "QUOTA_TRIGGER_MISSING")


async def delivered(store: Store, version: str, size: int, messages: int, new: int = 1000) -> None:
    """What each Dovecot sends after a delivery of ``new`` bytes (seen in PostgreSQL's log)."""
    where = "WHERE username = 'u@ex.com'"
    if version == "2.3":
        await store.execute(f"UPDATE used_quota SET bytes=bytes+{new},messages=messages+1 {where}")
        if await sizes(store):
            return
        await store.execute(f"DELETE FROM used_quota {where}")
    await store.execute(
        f"INSERT INTO used_quota (bytes,messages,username) VALUES ({size},{messages},'u@ex.com')"
        f" ON CONFLICT (username) DO UPDATE SET bytes={size},messages={messages}"
    )


async def around_the_table(store: Store) -> list[Any]:
    """The owner, rights and triggers of ``used_quota``, and functions for triggers."""
    (table,) = await store.rows(
        "SELECT relowner::regrole::text AS owner, relacl::text AS rights FROM pg_class"
        " WHERE oid = 'used_quota'::regclass"
    )
    triggers = await store.rows(
        "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = 'used_quota'::regclass"
        " ORDER BY 1"
    )
    functions = await store.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
    )
    return [table, triggers, functions]


@asynccontextmanager
async def restored(store: Store) -> AsyncIterator[None]:
    """Turn the table's own trigger off on PostgreSQL; at the end everything is as before.

    The doctor does not see a trigger that is off, so nothing drops it.
    """
    if store.name != "postgresql":
        yield
        return
    before = await around_the_table(store)
    await store.execute("ALTER TABLE used_quota DISABLE TRIGGER USER")
    try:
        yield
    finally:
        await store.execute("REVOKE ALL ON used_quota FROM PUBLIC")
        await store.execute(f"ALTER TABLE used_quota OWNER TO {before[0]['owner']}")
        for trigger in ("mergequota", "iredapi_used_quota_domain"):
            await store.execute(f"DROP TRIGGER IF EXISTS {trigger} ON used_quota")
            await store.execute(f"DROP FUNCTION IF EXISTS {trigger}")
        await store.execute("ALTER TABLE used_quota ENABLE TRIGGER USER")
        assert await around_the_table(store) == before


@pytest_asyncio.fixture(loop_scope="session")
async def quota(store: Store) -> AsyncIterator[Store]:
    """A database with the trigger that iRedMail makes for Dovecot 2.3."""
    async with restored(store):
        await store.execute(MERGE)
        await store.execute(TRIGGER)
        yield store


async def sizes(store: Store) -> list[Any]:
    rows = await store.rows("SELECT bytes, messages, domain FROM used_quota")
    return [tuple(row.values()) for row in rows]


@pytest.mark.stores("postgresql")
async def test_the_trigger_of_23_is_replaced_on_24(quota: Store) -> None:
    """Sizes add up; ``--fix`` ends that, and the next delivery corrects what is stored."""
    for number in (1, 2):
        await delivered(quota, "2.4", 1000 * number, number)
    assert await sizes(quota) == [(3000, 3, "ex.com")]
    found, result = await examine(quota, *TRIGGER_CODES, dovecot_version="2.4.1")
    assert [(item.code, item.detail) for item in found] == [(TRIGGER_CODES[0], "mergequota")]
    assert result.status == 1
    found, result = await examine(quota, *TRIGGER_CODES, fix=True, dovecot_version="2.4.1")
    assert ([item.fixed for item in found], result.status) == ([True], 0)
    for number in (3, 4):
        await delivered(quota, "2.4", 1000 * number, number)
    assert await sizes(quota) == [(4000, 4, "ex.com")]
    await quota.execute("DELETE FROM used_quota")
    await delivered(quota, "2.4", 5, 1)
    assert await sizes(quota) == [(5, 1, "ex.com")]
    assert await examine(quota, *TRIGGER_CODES, fix=True, dovecot_version="2.4.1") == ([], ANY)


@pytest.mark.stores("postgresql")
async def test_the_trigger_is_kept_for_23_and_unknown_versions(quota: Store) -> None:
    """No alarm where it is needed; with 2.3 its absence is one; unknown: nothing is judged."""
    for version in ("2.3.19", ""):
        assert await examine(quota, *TRIGGER_CODES, fix=True, dovecot_version=version) == ([], ANY)
    for number in (1, 2):
        await delivered(quota, "2.3", 1000 * number, number)
    assert await sizes(quota) == [(2000, 2, "ex.com")]
    await quota.execute("DROP TRIGGER mergequota ON used_quota")
    found, result = await examine(quota, *TRIGGER_CODES, fix=True, dovecot_version="2.3")
    assert [(item.code, item.fixed) for item in found] == [(TRIGGER_CODES[1], False)]
    assert result.status == 1
    assert await examine(quota, *TRIGGER_CODES, dovecot_version="") == ([], ANY)


@pytest.mark.stores("postgresql")
async def test_without_the_right_the_statements_are_printed(quota: Store) -> None:
    """The login may not drop the trigger: the finding has what the table's owner has to run."""
    await quota.execute("ALTER TABLE used_quota OWNER TO CURRENT_USER")
    await quota.execute("GRANT ALL ON used_quota TO PUBLIC")
    found, result = await examine(quota, *TRIGGER_CODES, fix=True, dovecot_version="2.4")
    assert ([item.fixed for item in found], result.status) == ([False], 1)
    statements = found[0].detail.removeprefix("as the owner of the table: ")
    async with quota.connect("vmail") as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute(statements)  # several at once, as psql sends them
    await delivered(quota, "2.4", 7, 1)
    await delivered(quota, "2.4", 9, 2)
    assert await sizes(quota) == [(9, 2, "ex.com")]


async def plant(store: Store, service: Service, values: dict[str, str]) -> None:
    """Make users of ``ex.com`` with stored passwords as other programs write them."""
    root = await service.root()
    await root.ok("POST", "domain/ex.com")
    for name, value in values.items():
        mail = f"{name}@ex.com"
        await root.ok("POST", f"user/{mail}", password="An0ther-Secret")
        if store.openldap is not None:
            store.directory.modify(account_dn(mail), replace={"userPassword": value})
            continue
        await store.execute(
            "UPDATE mailbox SET password = :value WHERE username = :mail", value=value, mail=mail
        )


SLAPD: Final = {"weak": "PASSWORD_SPELLING", "hex": UNKNOWN, "ntlm": UNKNOWN, "argon2": UNKNOWN,
                "good": "PASSWORD_SPELLING", "scram": UNKNOWN}  # fmt: skip
"""Users whose passwords slapd cannot check as they are written."""
FOUND_IN_LDAP: Final[dict[str, list[dict[str, str]]]] = {
    "2.3": [dict.fromkeys(("bare", "bare1", "argon"), BARE), SLAPD],
    "2.4": [dict.fromkeys(("bare", "bare1", "argon"), BARE), {"plain": WITHOUT},
            dict.fromkeys(("weak", "des", "hex", "ntlm"), REFUSED)],
}  # fmt: skip
FOUND_IN_LDAP[""] = [*FOUND_IN_LDAP["2.4"], SLAPD]


@pytest.mark.parametrize("version", FOUND_IN_LDAP)
@pytest.mark.stores("openldap")
async def test_passwords_in_openldap_are_judged_by_version(store: Store, version: str) -> None:
    """A bare hash is the password for a bind; a bare text is a temporary failure with 2.4."""
    async with serving(store) as service:
        await plant(store, service, STORED)
        found, _ = await examine(
            store, *PASSWORD_CODES, UNKNOWN, "PASSWORD_SPELLING", fix=True, dovecot_version=version
        )
        wanted = [
            (f"{name}@ex.com", code)
            for codes in FOUND_IN_LDAP[version]
            for name, code in codes.items()
        ]
        assert sorted((item.subject, item.code) for item in found) == sorted(wanted)
        for name, right in RIGHT.items():
            assert await password_of(service, f"{name}@ex.com") == [right]
        said = {(item.subject, item.code): item.detail for item in found}
        if not version:
            assert said["plain@ex.com", WITHOUT].endswith(", if Dovecot is 2.4")
        if version != "2.4":  # plain text with a scheme is hashed: slapd knows no {PLAIN}
            (hashed,) = await password_of(service, "good@ex.com")
            assert hashed.startswith("{SSHA}")
            assert verify_password("Old-Pass1", hashed)


@pytest.mark.parametrize("version", ["2.3", "2.4", ""])
@pytest.mark.stores("openldap")
async def test_what_the_api_stores_is_never_a_finding(store: Store, version: str) -> None:
    """Plain text with a scheme is hashed for a bind and kept for Dovecot; the doctor agrees."""
    for check in ("auto", "slapd", "dovecot"):
        given: dict[str, Any] = {"dovecot_version": version, "ldap_password_check": check}
        kept = check == "dovecot" or (check == "auto" and version == "2.4")
        async with serving(store, **given) as service:
            await plant(store, service, {})
            root = await service.root()
            form = {"password_hash": "{PLAIN}" + PASSWORD}
            await root.ok("POST", "user/u@ex.com", **form)
            (stored,) = await password_of(service, "u@ex.com")
            assert stored.startswith("{PLAIN}" if kept else "{SSHA}"), (check, version)
            codes = (*PASSWORD_CODES, UNKNOWN, "PASSWORD_SPELLING")
            assert await examine(store, *codes, **given) == ([], ANY), (check, version)
            await root.ok("DELETE", "domain/ex.com")


@pytest.mark.parametrize("scheme", ["SSHA512", "SHA512-CRYPT", "ARGON2ID", "PBKDF2"])
@pytest.mark.stores("openldap")
async def test_standalone_admins_can_always_bind(store: Store, scheme: str) -> None:
    """iRedAdmin binds as an admin, also where Dovecot 2.4 reads the passwords of users itself."""
    given: dict[str, Any] = {"dovecot_version": "2.4", "password_scheme": scheme}
    one, other, dn = "One-Secret1", "0ther-Secret", f"mail=a@admins.test,{ADMIN_BASE}"
    codes = (*PASSWORD_CODES, UNKNOWN, "PASSWORD_SPELLING")
    async with serving(store, **given, rehash_at_login=True) as service:
        root = await service.root()
        await root.ok("POST", "admin/a@admins.test", password=one)
        for password in (one, other):
            await root.ok("PUT", "admin/a@admins.test", password=password)
            store.directory.connect(dn, password).close()
            with pytest.raises(bonsai.AuthenticationError):
                store.directory.connect(dn, "Wr0ng-Secret")
            before = store.directory.entry(dn)
            await service.client().login("a@admins.test", password)
            await root.ok("PUT", "admin/a@admins.test", password=password)
            assert store.directory.entry(dn) == before, "the password was the same"
        store.directory.modify(dn, replace={"userPassword": "{MD5}" + md5_base64(other)})
        await service.client().login("a@admins.test", other)
        (renewed,) = (store.directory.entry(dn) or {})["userPassword"]
        assert not renewed.startswith("{MD5}")
        store.directory.connect(dn, other).close()
        assert await examine(store, *codes, **given) == ([], ANY)


def md5_base64(plain: str) -> str:
    return b64encode(md5(plain.encode(), usedforsecurity=False).digest()).decode()


@pytest.mark.stores("postgresql", "openldap")
async def test_logins_are_those_of_the_table(store: Store, dovecot_logins: Dovecot) -> None:
    """IMAP and SMTP AUTH with each scheme, through the Dovecot that is installed."""
    release = dovecot_server.version()
    column = (store.openldap is not None) * 2 + (release >= (2, 4))
    asked = [
        (f"s{number}-{index}", name, cells, value)
        for number, (name, cells) in enumerate(rows())
        for index, value in enumerate(samples(name))
    ]
    version = ".".join(map(str, release))
    async with serving(store, dovecot_version=version, login_failures=1000) as service:
        await plant(store, service, {user: value for user, _, _, value in asked})
        mails = [f"{user}@ex.com" for user, *_ in asked]
        for index, login in enumerate((dovecot_logins.imap_login, dovecot_logins.smtp_login)):
            with ThreadPoolExecutor(24) as pool:  # Dovecot delays temporary failures
                answers = list(pool.map(login, mails, [SECRET] * len(mails)))
            wrong = {
                f"{name} {value[:12]}": answer
                for (_, name, cells, value), answer in zip(asked, answers, strict=True)
                if answer != cells[column] and "DIGEST" not in name
            }
            assert wrong == {}, ("IMAP", "SMTP")[index]
        root = await service.root()
        for mail, (_, name, cells, value) in zip(mails, asked, strict=True):
            data = {"password": SECRET}
            status, answer = await root.call("POST", f"verify_password/user/{mail}", data=data)
            unknown_here = value.startswith(("{PLAIN-MD4}", "{DIGEST-MD5}", "{OTP}"))
            wanted = cells[column] == "yes" and not unknown_here
            assert (status == 200) is wanted, (name, answer)


@pytest.mark.stores("openldap")
async def test_the_second_value_of_a_password(store: Store, dovecot_logins: Dovecot) -> None:
    """Dovecot 2.4 reads the first value of ``userPassword``, a bind takes all; doctor says so."""
    release = dovecot_server.version()
    version = ".".join(map(str, release))
    async with serving(store, dovecot_version=version) as service:
        await plant(store, service, {"u": "{PLAIN}x"})
        values = ["{CRYPT}" + CRYPTED["$6$"], "{CRYPT}" + CRYPTED["$5$"].replace("$5$", "$5$q")]
        for first, second in (values, reversed(values)):
            store.directory.modify(
                account_dn("u@ex.com"), replace={"userPassword": [first, second]}
            )
            wanted = release < (2, 4) or first == values[0]
            assert (dovecot_logins.imap_login("u@ex.com", SECRET) == "yes") is wanted
            root = await service.root()
            data = {"password": SECRET}
            status, _ = await root.call("POST", "verify_password/user/u@ex.com", data=data)
            assert (status == 200) is wanted
    for told, codes in (("2.4", ["PASSWORD_VALUES_IGNORED"]), ("2.3", [])):
        found, _ = await examine(store, "PASSWORD_VALUES_IGNORED", dovecot_version=told)
        assert [item.code for item in found] == codes


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_users_of_backup_mx_domains(store: Store, dovecot_logins: Dovecot) -> None:
    """With 2.4 they authenticate for sending; the doctor names those who are active."""
    release = dovecot_server.version()
    async with serving(store) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        for name in ("u", "off"):
            await root.ok("POST", f"user/{name}@ex.com", password=PASSWORD)
        await root.ok("PUT", "user/off@ex.com", accountStatus="disabled")
        await root.ok("PUT", "domain/ex.com", is_backupmx="yes", primarymx="192.0.2.1")
    sends = release >= (2, 4) or store.openldap is not None
    assert dovecot_logins.smtp_login("u@ex.com", PASSWORD) == ("yes" if sends else "no")
    assert dovecot_logins.smtp_login("off@ex.com", PASSWORD) == "no"
    for version in ("2.3", "2.4", ""):
        found, _ = await examine(store, "BACKUP_MX_USER", dovecot_version=version)
        named = version != "2.3" or store.openldap is not None
        assert [item.subject for item in found] == (["u@ex.com"] if named else [])


async def settings_findings(store: Store, installed: str, **given: Any) -> list[Finding]:
    dovecot = Program("Dovecot", installed, "/usr/sbin/dovecot") if installed else None
    examination = Examination(
        settings_for(store, **given),
        only=["DOVECOT_VERSION_DIFFERS", "PASSWORD_CHECK_WRONG"],
        dovecot=dovecot,
    )
    found: list[Finding] = []
    await examination.run(found.append)
    return found


@pytest.mark.stores("sqlite", "openldap")
async def test_settings_that_do_not_fit_dovecot(store: Store) -> None:
    """The version that is set, and the program that checks passwords in OpenLDAP."""
    assert await settings_findings(store, "2.4.1", dovecot_version="2.4") == []
    assert await settings_findings(store, "", dovecot_version="2.3") == []
    (found,) = await settings_findings(store, "2.4.1", dovecot_version="2.3.19")
    assert found.code == "DOVECOT_VERSION_DIFFERS"
    assert found.detail == "2.3.19 is set, and there is Dovecot 2.4.1 (/usr/sbin/dovecot)"
    for check, version, wrong in (
        ("slapd", "2.4.1", True), ("dovecot", "2.3.19", True), ("slapd", "2.3", False),
        ("dovecot", "2.4", False), ("auto", "2.4", False), ("slapd", "", False),
    ):  # fmt: skip
        given = {"ldap_password_check": check, "dovecot_version": version}
        codes = [item.code for item in await settings_findings(store, "", **given)]
        expected = wrong and store.openldap is not None
        assert codes == ["PASSWORD_CHECK_WRONG"] * expected, (check, version)
