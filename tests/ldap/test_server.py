"""The OpenLDAP server of the tests is as iRedMail sets it up: schema, logins, access rules."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bonsai
import pytest
from bonsai import LDAPEntry, LDAPModOp, LDAPSearchScope

from iredapi.backends.ldap.schema_definitions import SCHEMAS
from tests.clients import PASSWORD
from tests.ldap.seeds import Seeds
from tests.servers.openldap import (
    ADMIN_BASE,
    BASE,
    BIND_DN,
    READER_DN,
    SUFFIX,
    OpenldapServer,
    account_dn,
    domain_dn,
)
from tests.servers.process import find_program

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "openldap"


@pytest.fixture
def seeds(directory: OpenldapServer) -> Seeds:
    """Domains ex.com and other.com with a user each."""
    seeds = Seeds(directory)
    for domain in ("ex.com", "other.com"):
        seeds.domain(domain)
    seeds.user("u@ex.com", mailForwardingAddress="x@far.com")
    seeds.user("b@ex.com")
    seeds.user("u@other.com")
    return seeds


def change(connection: Any, dn: str, **attributes: str) -> None:
    entry: Any = LDAPEntry(dn, connection)
    for name, value in attributes.items():
        entry.change_attribute(name, LDAPModOp.REPLACE, value)
    entry.modify()


# Definitions -----------------------------------------------------------------------------------


def _definitions(directory: OpenldapServer, kind: str) -> list[str]:
    found = directory.root.search("cn=Subschema", LDAPSearchScope.BASE, attrlist=[kind])
    return [value.decode() if isinstance(value, bytes) else str(value) for value in found[0][kind]]


def _words(definition: str, keyword: str) -> list[str]:
    """What follows a keyword of a definition: one word, or several in parentheses."""
    found = re.search(rf" {keyword} (\([^)]*\)|\S+)", definition)
    return found[1].strip("()").replace("$", " ").replace("'", "").split() if found else []


def test_slapd_has_understood_every_attribute(directory: OpenldapServer) -> None:
    told = {text.split()[1]: text for text in _definitions(directory, "attributeTypes")}
    for schema in SCHEMAS.values():
        for item in schema.attributes:
            text = told[item.oid]
            size = f"{{{item.length}}}" if item.length else ""
            assert _words(text, "NAME") == [item.name]
            assert _words(text, "SYNTAX") == [item.kind.syntax + size]
            assert _words(text, "EQUALITY") == [item.kind.equality]
            assert _words(text, "SUBSTR") == [item.kind.substrings] * bool(item.kind.substrings)
            assert ("SINGLE-VALUE" in text) == item.single_value


def test_slapd_has_understood_every_class(directory: OpenldapServer) -> None:
    told = {text.split()[1]: text for text in _definitions(directory, "objectClasses")}
    for schema in SCHEMAS.values():
        for item in schema.classes:
            text = told[item.oid]
            assert _words(text, "NAME") == [item.name]
            assert _words(text, "SUP") == ["top"]
            assert item.kind in text
            # slapd writes a name the way its attribute spells it.
            for keyword, names in (("MUST", item.must), ("MAY", item.may)):
                assert {name.lower() for name in _words(text, keyword)} == {
                    name.lower() for name in names
                }


# Logins and access -----------------------------------------------------------------------------


@pytest.mark.parametrize("password, error", [("wrong", 49), ("", 53)])
def test_a_wrong_password_is_refused(directory: OpenldapServer, password: str, error: int) -> None:
    with pytest.raises(bonsai.LDAPError) as refused:
        directory.connect(BIND_DN, password)
    assert refused.value.code == error


def test_anonymous_access_is_refused(directory: OpenldapServer) -> None:
    with pytest.raises(bonsai.LDAPError):
        bonsai.LDAPClient(directory.uri).connect(timeout=10)


def test_the_product_writes_below_both_bases_and_nowhere_else(seeds: Seeds) -> None:
    with seeds.directory.connect(BIND_DN) as connection:
        change(connection, domain_dn("ex.com"), cn="changed")
        admin = LDAPEntry(f"mail=a@admins.test,{ADMIN_BASE}")
        admin["objectClass"], admin["mail"] = ["mailAdmin"], ["a@admins.test"]
        connection.add(admin)
        connection.delete(account_dn("b@ex.com"))
        container = LDAPEntry(f"o=more,{SUFFIX}")
        container["objectClass"], container["o"] = ["organization"], ["more"]
        with pytest.raises(bonsai.InsufficientAccess):
            connection.add(container)
    assert account_dn("b@ex.com") not in seeds.directory.dump()


def test_the_reader_reads_passwords_and_writes_nothing(seeds: Seeds) -> None:
    with seeds.directory.connect(READER_DN) as connection:
        (found,) = connection.search(account_dn("u@ex.com"), LDAPSearchScope.BASE)
        assert found["userPassword"][0].startswith(b"{SSHA512}")
        assert found["mailForwardingAddress"] == [b"x@far.com"]
        with pytest.raises(bonsai.InsufficientAccess):
            change(connection, account_dn("u@ex.com"), cn="changed")


@pytest.fixture
def user(seeds: Seeds) -> Iterator[Any]:
    """A connection of u@ex.com, by its own password: a bind checks {SSHA512}."""
    with seeds.directory.connect(account_dn("u@ex.com"), PASSWORD) as connection:
        yield connection


# Access rules of iRedMail: attributes that a mail user may change in its own entry.
WRITABLE = {
    "userPassword": "new", "mailForwardingAddress": "y@far.com", "employeeNumber": "7",
    "cn": "n", "sn": "n", "givenName": "n", "telephoneNumber": "7",
    "accountSetting": "create_new_domains:yes", "disabledService": "x", "allowNets": "::1",
    "mailboxFolder": "x", "mailboxFormat": "x", "senderRelayHost": "x", "shadowLastChange": "7",
    "preferredLanguage": "en_US",
}  # fmt: skip
PROTECTED = {
    "mtaTransport": "x", "enabledService": "domainadmin", "domainGlobalAdmin": "yes",
    "accountStatus": "disabled", "domainStatus": "disabled", "userSenderBccAddress": "x@far.com",
    "userRecipientBccAddress": "x@far.com", "mailQuota": "0", "backupMailAddress": "x@far.com",
    "shadowAddress": "boss@ex.com", "memberOfGroup": "l@ex.com", "storageBaseDirectory": "/x",
    "homeDirectory": "/x", "mailMessageStore": "x", "objectClass": "mailUser",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITABLE)
def test_a_user_may_change(user: Any, name: str) -> None:
    change(user, account_dn("u@ex.com"), **{name: WRITABLE[name]})


@pytest.mark.parametrize("name", PROTECTED)
def test_a_user_may_not_change(user: Any, name: str) -> None:
    with pytest.raises(bonsai.InsufficientAccess):
        change(user, account_dn("u@ex.com"), **{name: PROTECTED[name]})


def test_a_user_reads_its_own_domain_without_secrets(user: Any) -> None:
    found = {str(entry.dn): entry for entry in user.search(domain_dn("ex.com"), 2)}
    assert account_dn("b@ex.com") in found
    assert "userPassword" not in found[account_dn("b@ex.com")]
    assert found[account_dn("u@ex.com")]["mailForwardingAddress"] == [b"x@far.com"]
    assert "userPassword" in found[account_dn("u@ex.com")]
    assert user.search(domain_dn("other.com"), 2) == []
    for other in ("b@ex.com", "u@other.com"):
        with pytest.raises(bonsai.InsufficientAccess):
            change(user, account_dn(other), cn="changed")


# The harness -----------------------------------------------------------------------------------


def test_reset_is_quick_and_complete(seeds: Seeds) -> None:
    directory = seeds.directory
    assert len(directory.dump()) == 15
    empty = {BASE, ADMIN_BASE}
    times = []
    for _ in range(3):
        for number in range(20):
            seeds.user(f"user{number}@ex.com")
        started = time.perf_counter()
        directory.reset()
        times.append(time.perf_counter() - started)
        assert directory.dump().keys() == empty
        seeds.domain("ex.com")
    assert min(times) < 0.1


def test_values_come_back_as_they_are(seeds: Seeds) -> None:
    given = {"cn": ["007", "TRUE", "0x10"], "givenName": "Zoë", "description": ["+3", " 42"]}
    dn = seeds.user("v@ex.com", **given)  # type: ignore[arg-type]
    entry = seeds.directory.entry(dn)
    assert entry is not None
    assert entry["cn"] == ["007", "0x10", "TRUE"]
    assert entry["givenName"] == ["Zoë"]
    assert entry["description"] == [" 42", "+3"]
    assert seeds.directory.entry(account_dn("nobody@ex.com")) is None


def test_what_is_written_survives_a_restart(seeds: Seeds) -> None:
    before = seeds.directory.dump()
    seeds.directory.restart()
    assert seeds.directory.dump() == before
    # A second start needs no passwords and changes none.
    seeds.directory.connect(BIND_DN).close()


def test_two_servers_at_once(seeds: Seeds) -> None:
    other = OpenldapServer()
    try:
        assert other.port != seeds.directory.port
        assert other.dump().keys() == {BASE, ADMIN_BASE}
    finally:
        other.stop()
    assert not other.directory.exists()


@pytest.mark.skipif(find_program("ldapwhoami") is None, reason="ldap-utils is not installed")
def test_tls() -> None:
    server = OpenldapServer(tls=True)
    try:
        for uri, options in ((server.tls_uri, []), (server.uri, ["-ZZ"])):
            for authority, status in ((str(server.ca_file), 0), ("/dev/null", 1)):
                done = subprocess.run(
                    ["ldapwhoami", "-x", *options, "-H", uri, "-D", BIND_DN, "-w", server.password],
                    env={"PATH": os.environ["PATH"], "LDAPTLS_CACERT": authority},
                    capture_output=True,
                    check=False,
                )
                assert (done.returncode == 0) == (status == 0), (uri, authority, done.stderr)
    finally:
        server.stop()


def start(directory: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run the deployed script in an empty directory; it has to end by itself."""
    settings = {name: str(directory) for name in ("LDAP_CONFIG", "LDAP_DATA", "LDAP_RUN")}
    return subprocess.run(
        [DEPLOYED / "entrypoint"],
        env={"PATH": "/usr/sbin:/usr/bin:/bin", **settings, **given},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    "given, word",
    [
        ({}, "LDAP_SUFFIX"),
        ({"LDAP_SUFFIX": "o=example"}, "LDAP_SUFFIX"),
        ({"LDAP_SUFFIX": 'dc=a"\nrootpw x'}, "LDAP_SUFFIX"),
        ({"LDAP_SUFFIX": "dc=a", "LDAP_VMAILADMIN_PASSWORD": "x"}, "LDAP_VMAIL_PASSWORD"),
        ({"LDAP_SUFFIX": "dc=a", "LDAP_VMAIL_PASSWORD": "x"}, "LDAP_VMAILADMIN_PASSWORD"),
    ],
)
def test_a_start_without_what_it_needs(tmp_path: Path, given: dict[str, str], word: str) -> None:
    done = start(tmp_path, **given)
    assert done.returncode != 0
    assert word in done.stderr
    assert not (tmp_path / "data.mdb").exists()


def test_without_a_root_password_there_is_no_root(tmp_path: Path) -> None:
    passwords = {"LDAP_VMAIL_PASSWORD": "x", "LDAP_VMAILADMIN_PASSWORD": "x"}
    # slapd does not get to its address, so it ends.
    listen = {"LDAP_LISTEN": "ldap://192.0.2.1:1/"}
    assert start(tmp_path, LDAP_SUFFIX="dc=a", **passwords, **listen).returncode != 0
    assert "rootpw" not in (tmp_path / "slapd.generated").read_text()
    assert (tmp_path / "data.mdb").exists()


def test_the_health_check_of_the_container(directory: OpenldapServer) -> None:
    (command,) = re.findall(
        r'test: \[CMD-SHELL, "(ldapwhoami .*)"\]', (ROOT / "docker-compose.yml").read_text()
    )
    command = command.replace("$$", "$")
    for port, status in ((directory.port, 0), (1, 1)):
        done = subprocess.run(
            ["sh", "-c", command.replace(":1389", f":{port}")], capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr


def test_the_deployed_files_are_the_ones_that_run(directory: OpenldapServer) -> None:
    deployed = (DEPLOYED / "slapd.conf").read_text()
    rules = [line for line in deployed.splitlines() if "@" not in line]
    running = (directory.directory / "config" / "slapd.generated").read_text().splitlines()
    assert set(rules) <= set(running)
    assert not re.findall("@[A-Z]+@", "".join(running))
