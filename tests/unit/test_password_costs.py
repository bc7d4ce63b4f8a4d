"""Costs of stored hashes: too costly ones are refused, heavy ones are known."""

from __future__ import annotations

import base64
import time

import pytest

from iredapi.domain import password_costs
from iredapi.domain.passwords import check_hash, verify_password

SECRET = "Secret1!"


def argon2(memory: int, passes: int, lanes: int = 1) -> str:
    return f"{{ARGON2ID}}$argon2id$v=19$m={memory},t={passes},p={lanes}${'A' * 22}${'A' * 43}"


def bcrypt_of(cost: int) -> str:
    return f"{{CRYPT}}$2b${cost:02}${'.' * 53}"


def sha_crypt(rounds: int) -> str:
    return f"{{SHA512-CRYPT}}$6$rounds={rounds}${'.' * 16}${'.' * 86}"


def pbkdf2(rounds: int) -> str:
    return f"{{PBKDF2}}$1${'.' * 16}${rounds}${'0' * 40}"


def scram_of(rounds: int) -> str:
    key = base64.b64encode(bytes(32)).decode()
    return f"{{SCRAM-SHA-256}}{rounds},QUJDRA==,{key},{key}"


def encoded(scheme: str, stored: str) -> str:
    return f"{{{scheme}.B64}}" + base64.b64encode(stored.partition("}")[2].encode()).decode()


YESCRYPT = "{CRYPT}$y$%s$" + "." * 22 + "$" + "." * 43
TOO_COSTLY = [
    bcrypt_of(15), bcrypt_of(31), bcrypt_of(99), sha_crypt(1_000_001), sha_crypt(999_999_999),
    pbkdf2(2_000_001), argon2(262_145, 1), argon2(262_144, 5), argon2(131_072, 9),
    argon2(65_536, 17), argon2(65_536, 3, 17), argon2(9_999_999, 99, 99), YESCRYPT % "jHT",
    "$2y$15$" + "." * 53, "{BCRYPT}$2y$16$" + "." * 53,
    "{BLF-CRYPT.HEX}" + ("$2y$15$" + "." * 53).encode().hex(), scram_of(1_000_001),
    encoded("ARGON2ID", argon2(65_536, 17)), encoded("CRYPT", YESCRYPT % "jHT"),
]  # fmt: skip
HEAVY = [
    bcrypt_of(13), bcrypt_of(14), sha_crypt(1_000_000), pbkdf2(2_000_000), argon2(262_144, 1),
    argon2(262_144, 4), argon2(65_536, 16), argon2(65_537, 1), YESCRYPT % "jCT",
    encoded("ARGON2ID", argon2(262_144, 1)), scram_of(1_000_000),
    encoded("SCRAM-SHA-256", scram_of(1_000_000)), "{CRYPT}$sha1$500000$salt$" + "." * 28,
    encoded("CRYPT", "{CRYPT}_z1.." + "." * 15), "{CRYPT}_z1.." + "." * 15,
]  # fmt: skip
USUAL = [
    encoded("ARGON2ID", argon2(8, 1)), scram_of(4096),
    bcrypt_of(4), bcrypt_of(12), sha_crypt(5_000), sha_crypt(50_000), pbkdf2(100_000),
    argon2(65_536, 3), YESCRYPT % "j9T", "{SSHA}" + "A" * 32, "x", "", "{", "{NO.HEX}00",
]  # fmt: skip


@pytest.mark.parametrize("stored", TOO_COSTLY, ids=lambda text: text[:40])
def test_too_costly_hashes_are_refused(stored: str) -> None:
    """They are neither accepted nor verified, with their own error code."""
    started = time.perf_counter()
    assert password_costs.is_too_costly(stored)
    with pytest.raises(ValueError, match=r"^PASSWORD_HASH_TOO_COSTLY$"):
        check_hash(stored)
    assert verify_password(SECRET, stored) is False
    assert time.perf_counter() - started < 0.2


@pytest.mark.parametrize("stored", HEAVY + USUAL, ids=lambda text: text[:40])
def test_costly_hashes_below_the_limit(stored: str) -> None:
    assert not password_costs.is_too_costly(stored)
    assert password_costs.is_heavy(stored) is (stored in HEAVY)
    if stored in HEAVY:
        assert check_hash(stored)


def test_failed_logins_verify_all_kinds_in_use() -> None:
    two = [bcrypt_of(12), bcrypt_of(12)]
    found = password_costs.in_use(
        [["{SSHA512}" + "A" * 96], [""], two, [bcrypt_of(12)], [sha_crypt(5000)], [bcrypt_of(15)],
         ["{CRYPT}$2b$12$short"]]
    )  # fmt: skip
    assert found == (*two, sha_crypt(5000))
    for stored in ([""], ["{SSHA}" + "A" * 32], ["{CRYPT}$2b$12$short"], two, [bcrypt_of(12)]):
        left = password_costs.rest(found, stored)
        verified = [item for item in (*stored, *left) if item in found]
        assert sorted(verified) == sorted(found), stored


@pytest.mark.parametrize(
    "cheap, costly",
    [
        (scram_of(4096), scram_of(1_000_000)),
        (YESCRYPT % "j9T", YESCRYPT % "jCT"),
        ("{CRYPT}$sha1$1000$salt$" + "." * 28, "{CRYPT}$sha1$500000$salt$" + "." * 28),
        ("{CRYPT}_1..." + "." * 15, "{CRYPT}_zzz." + "." * 15),
        (argon2(65_536, 3, 1), argon2(65_536, 3, 4)),
        (argon2(16_384, 16), argon2(262_144, 1)),
    ],
    ids=lambda text: text[:24],
)
def test_hashes_of_one_kind_may_differ(cheap: str, costly: str) -> None:
    """The time does not tell an admin with the more costly hash from an unknown name."""
    found = password_costs.in_use([[cheap], [costly], [cheap]])
    assert sorted(found) == sorted([cheap, costly])
    assert password_costs.rest(found, [cheap]) == [costly]
    assert sorted(password_costs.rest(found, [""])) == sorted([cheap, costly])
