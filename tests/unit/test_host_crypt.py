"""Hashes that only the host's crypt(3) knows: verified as by Dovecot, with limits of cost."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from argon2.low_level import Type, hash_secret

from iredapi.domain import crypt3
from iredapi.domain.passwords import Scheme, check_hash, hash_password, outdated, verify_password

SECRET = "Secret1!"
DOVEADM = shutil.which("doveadm")
SETTINGS = {
    "yescrypt": b"$y$j9T$l.PTpnMqjW.yEM74vCORK.",
    "yescrypt-dearest": b"$y$jCT$l.PTpnMqjW.yEM74vCORK.",
    "gost-yescrypt": b"$gy$j9T$70fp0vdUowZo7JMuM/hg.0",
    "scrypt": b"$7$CU..../....z5Kig1IphPpB8hLiiKDjS0",
    "sha1": b"$sha1$24680$LAD18z6NPqufrIfI1sbZ$",
    "sunmd5": b"$md5,rounds=9641$bk9qpWUC$",
    "bsdi": b"_J9..P5q5",
    "des": b"Gg",
    "sha512-of-php": b"$6$rounds=5000$usesom+si=ly,st@$",
    "sha256-of-php": b"$5$a@b#c%&/()?$",
    "md5-of-php": b"$1$a-b_c$",
    "empty-salt": b"$6$$",
    "long-salt": b"$6$averyverylongsaltindeed123$",
}


def made(setting: bytes, secret: str = SECRET) -> str:
    """Compute a hash with crypt(3) directly, as another program would."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    found: bytes = library.crypt(secret.encode(), setting)
    assert not found.startswith(b"*"), setting
    return found.decode()


def dovecot_accepts(plain: str, stored: str) -> bool:
    if DOVEADM is None:
        pytest.skip("doveadm is not installed")
    command = [DOVEADM, "pw", "-t", stored, "-p", plain]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0 and "(verified)" in done.stdout


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_hashes_of_crypt_are_verified(setting: bytes) -> None:
    stored = "{CRYPT}" + made(setting)
    assert dovecot_accepts(SECRET, stored)
    assert check_hash(stored) == stored
    assert verify_password(SECRET, stored)
    for wrong in ("Secret1", "secret1!", "Secret1!x", ""):
        assert not verify_password(wrong, stored)
    assert not verify_password(SECRET, stored[:-1])
    outdated(stored, Scheme.SSHA512)


def test_des_does_not_truncate() -> None:
    """Dovecot and crypt(3) read eight bytes; nine are another password."""
    stored = "{DES-CRYPT}" + made(b"Gg")
    assert dovecot_accepts(SECRET + "more", stored)
    assert verify_password(SECRET, stored)
    assert not verify_password(SECRET + "more", stored)
    assert outdated(stored, Scheme.SSHA)


@pytest.mark.parametrize("salt", ["a!b", "a b", "a:b", "a;b", "a*b", "a\\b", "é"])
def test_salts_that_crypt_refuses(salt: str) -> None:
    """Nobody could log in with them: Dovecot, slapd and we call the same function."""
    stored = f"{{CRYPT}}$6${salt}$" + made(b"$6$abc$").rpartition("$")[2]
    assert not dovecot_accepts(SECRET, stored)
    assert not verify_password(SECRET, stored)
    with pytest.raises(ValueError, match="INVALID_PASSWORD_SCHEME"):
        check_hash(stored)


@pytest.mark.parametrize("kind, scheme", [(Type.ID, "ARGON2ID"), (Type.I, "ARGON2I")])
@pytest.mark.parametrize("length", [12, 16, 24, 32, 48, 64])
def test_lengths_of_argon2(kind: Type, scheme: str, length: int) -> None:
    payload = hash_secret(SECRET.encode(), b"saltsaltsalt", 2, 8192, 1, length, kind).decode()
    for name in (scheme, "ARGON2I", "ARGON2ID"):  # Dovecot takes either under both names
        fits = dovecot_accepts(SECRET, f"{{{name}}}{payload}")
        assert fits is (length >= 16)
        assert verify_password(SECRET, f"{{{name}}}{payload}") is fits
    if length >= 16:
        assert check_hash("{ARGON2}" + payload) == f"{{{scheme}}}{payload}"
        assert verify_password(SECRET, "{argon2}" + payload)


@pytest.mark.parametrize("setting", [b"$1$abc$", b"$5$abc$", b"$6$abc$", b"$2y$04$" + b"a" * 22,
                                     b"$y$j9T$l.PTpnMqjW.yEM74vCORK."])  # fmt: skip
def test_bare_hashes_get_their_prefix(setting: bytes) -> None:
    bare = made(setting)
    assert check_hash(bare) == "{CRYPT}" + bare
    assert verify_password(SECRET, check_hash(bare))


@pytest.mark.parametrize("scheme", [Scheme.SHA512_CRYPT, Scheme.BCRYPT])
def test_our_hashes_fit_the_limits_of_crypt(scheme: Scheme) -> None:
    longest = "x" * (511 if scheme is Scheme.SHA512_CRYPT else 72)
    stored = hash_password(longest, scheme, bcrypt_cost=4)
    assert dovecot_accepts(longest, stored)
    with pytest.raises(ValueError, match="PW_GREATER_THAN_MAX_LENGTH"):
        hash_password(longest + "x", scheme, bcrypt_cost=4)


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(crypt3, "_NAMES", ("libcrypt-that-is-not-here.so.9",))
    crypt3._library.cache_clear()
    yield
    crypt3._library.cache_clear()


@pytest.mark.usefixtures("without_library")
def test_a_host_without_the_library() -> None:
    """Hashes that need the library are refused with a reason; others work."""
    for setting in (b"$y$j9T$l.PTpnMqjW.yEM74vCORK.", b"Gg", b"$6$a,b$"):
        stored = "{CRYPT}" + made(setting)
        assert not verify_password(SECRET, stored)
        with pytest.raises(ValueError, match="INVALID_PASSWORD_SCHEME"):
            check_hash(stored)
        if setting != b"$6$a,b$":
            assert "libcrypt" in crypt3.why_not(stored.removeprefix("{CRYPT}"))
    assert verify_password(SECRET, "{CRYPT}" + made(b"$6$abc$"))
