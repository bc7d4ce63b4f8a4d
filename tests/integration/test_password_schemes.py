"""``docs/passwords.md`` against the programs: ``doveadm pw``, slapd's bind, and this service."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import bonsai
import pytest

from iredapi.domain.passwords import check_hash, verify_password
from iredapi.domain.slapd_passwords import for_slapd
from tests.clients import Client, Service
from tests.servers.dovecot import Dovecot
from tests.servers.openldap import OpenldapServer, account_dn
from tests.servers.process import find_program
from tests.unit.test_host_crypt import SECRET, SETTINGS, made
from tests.unit.test_passwords import ONE_OF_EACH

PAGE = Path(__file__).parents[2] / "docs" / "passwords.md"
SHA512 = made(b"$6$abcdefgh$")
CRYPTED = {
    "$1$": made(b"$1$abc$"),
    "$5$": made(b"$5$abc$"),
    "$6$": SHA512,
    "$2y$": made(b"$2y$04$" + b"a" * 22),
    "$y$": made(SETTINGS["yescrypt"]),
    "$gy$": made(SETTINGS["gost-yescrypt"]),
    "$7$": made(SETTINGS["scrypt"]),
    "$sha1$": made(SETTINGS["sha1"]),
    "$md5": made(SETTINGS["sunmd5"]),
    "_": made(SETTINGS["bsdi"]),
}
BARE = {"des": made(b"ab"), "text": SECRET}
OTHERS = {
    "{BCRYPT}": "{BCRYPT}" + CRYPTED["$2y$"],
    "{PLAIN-MD4}": "{PLAIN-MD4}933b0e3ac8c018da7549b42cfd3ae944",
    "{DIGEST-MD5}": "{DIGEST-MD5}"
    + hashlib.md5(b"u:ex.com:" + SECRET.encode(), usedforsecurity=False).hexdigest(),
    "{OTP}": "{OTP}sha1 1024 e90c1f86830f3ca3 30c9391b404b3370",
}


def rows() -> list[tuple[str, list[str]]]:
    """The rows of the page's table: the name of a scheme, and the other columns."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith(("| `{", "| bare")):
            found.append((cells[0], cells[1:]))
    return found


def samples(name: str) -> list[str]:
    """A hash of ``SECRET`` of each kind that a row names."""
    if name.startswith("bare"):
        return [BARE.get(kind) or CRYPTED[kind] for kind in re.findall(r"`([^`]+)`", name)]
    scheme = re.findall(r"`([^`]+)`", name)[0]
    prefix, brace, kind = scheme.partition("}")
    if kind:
        return [prefix + brace + CRYPTED[kind]]
    return [OTHERS.get(scheme) or ONE_OF_EACH[scheme.strip("{}")]]


def stored(cell: str, value: str) -> bool:
    """Whether a value begins as a cell says."""
    return any(value.startswith(prefix) for prefix in re.findall(r"`([^`]+)`", cell))


def doveadm(value: str) -> bool:
    command = [find_program("doveadm") or "doveadm", "pw", "-u", "u@ex.com", "-p", SECRET]
    done = subprocess.run(
        [*command, "-t", value], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode == 0 and "(verified)" in done.stdout


def binds(directory: OpenldapServer, dn: str) -> bool:
    try:
        directory.connect(dn, SECRET).close()
    except bonsai.AuthenticationError:
        return False
    return True


@pytest.mark.needs("doveadm")
@pytest.mark.parametrize("name, cells", rows(), ids=[name for name, _ in rows()])
def test_what_is_stored_on_sql(name: str, cells: list[str]) -> None:
    for value in samples(name):
        if cells[4] == "-":
            with pytest.raises(ValueError, match="INVALID_PASSWORD_SCHEME"):
                check_hash(value)
            continue
        kept = check_hash(value)
        assert stored(cells[4], kept), kept[:30]
        assert verify_password(SECRET, kept)
        assert not verify_password(SECRET.lower(), kept)
        assert doveadm(kept) is (name != "`{NTLM}`")


@pytest.mark.stores("openldap")
async def test_slapd(service: Service, root: Client) -> None:
    """slapd binds with everything that is stored there, and with nothing that is refused."""
    directory = service.store.directory
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password="An0ther-Secret")
    dn = account_dn("u@ex.com")
    for name, cells in rows():
        for value in samples(name):
            directory.modify(dn, replace={"userPassword": value})
            assert binds(directory, dn) is (cells[2] == "yes"), name
            if cells[5] == "-":
                status, code, _ = await root.refused("PUT", "user/u@ex.com", password_hash=value)
                assert (status, code) == (400, "INVALID_PASSWORD_SCHEME"), name
                continue
            await root.ok("PUT", "user/u@ex.com", password_hash=value)
            entry = directory.entry(dn)
            assert entry is not None
            (kept,) = entry["userPassword"]
            assert stored(cells[5], kept), (name, kept[:30])
            assert binds(directory, dn), name
            if not value.startswith("{PLAIN}"):  # hashed with a salt
                assert for_slapd(check_hash(value)) == kept


async def test_hashes_of_other_programs(service: Service, root: Client) -> None:
    """They are taken through the API, log their owner in here, and a refusal says who refuses."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password="An0ther-Secret")
    await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="yes")
    php = made(b"$6$rounds=5000$si=ly,st@$")
    for value in (CRYPTED["$y$"], "{CRYPT}" + CRYPTED["$gy$"], "{CRYPT}" + CRYPTED["$7$"], php,
                  "{SHA512-CRYPT}" + php, CRYPTED["$1$"], CRYPTED["$5$"]):  # fmt: skip
        await root.ok("PUT", "user/u@ex.com", password_hash=value)
        await service.client().login("u@ex.com", SECRET)
        bad = {"username": "u@ex.com", "password": SECRET + "x"}
        assert (await service.client().refused("POST", "login", **bad))[0] == 401
        service.context.invalidate_caches()
    _, answer = await root.call("PUT", "user/u@ex.com", data={"password_hash": "{OTP}x"})
    assert "this service" in answer["_errors"][0]["detail"], answer
    assert "mail server" not in str(answer)


@pytest.mark.stores("postgresql", "mariadb")
async def test_dovecot_logs_in(root: Client, dovecot: Dovecot) -> None:
    """The running Dovecot, which asks the database."""
    scram = "{SCRAM-SHA-256}" + ONE_OF_EACH["SCRAM-SHA-256"].partition("}")[2]
    odd = "{ARGON2}" + ONE_OF_EACH["ARGON2ID"].partition("}")[2]
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password="An0ther-Secret")
    for value in (CRYPTED["$y$"], scram, odd, made(b"$6$a=b,c$")):
        await root.ok("PUT", "user/u@ex.com", password_hash=value)
        assert dovecot.auth_test("u@ex.com", SECRET, service="imap", secured="tls")
        assert not dovecot.auth_test("u@ex.com", SECRET + "x", service="imap", secured="tls")
