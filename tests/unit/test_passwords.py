"""Passwords: test vectors of the real Dovecot, and hashes that must never match."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iredapi.domain import password_schemes, passwords
from iredapi.domain.passwords import (
    HASH_SEPARATOR,
    PasswordPolicy,
    Scheme,
    check_hash,
    hash_password,
    looks_hashed,
    outdated,
    verify_password,
    violations,
)

SECRET = "Secret1!"
DATA = Path(__file__).parent / "data" / "password_vectors.json"
VECTORS = [
    (entry["scheme"], entry["password"], entry["hash"])
    for entry in json.loads(DATA.read_text(encoding="utf-8"))["vectors"]
]
NTLM = [
    ("Secret1!", "{NTLM}2b0fd3faca9a8acd5fdfff6ecae2c207"),
    ("Pässwörd-密碼-1€", "{NTLM}f72cf3e471adc6e3ffd6ff0d96a8b4b3"),
    ("password", "{NTLM}8846F7EAEE8FB117AD06BDD830B7586C"),
]
DOVEADM = shutil.which("doveadm")
ONE_OF_EACH = {scheme: stored for scheme, plain, stored in VECTORS if plain == SECRET}
ONE_OF_EACH["NTLM"] = NTLM[0][1]
PLAIN_SCHEMES = {"PLAIN", "CLEAR", "CLEARTEXT"}
HASHES = {s: h for s, h in ONE_OF_EACH.items() if s.split(".")[0] not in PLAIN_SCHEMES}


def is_bcrypt(stored: str) -> bool:
    return "$2y$" in stored


def split(stored: str) -> tuple[str, str]:
    prefix, _, payload = stored.partition("}")
    return prefix + "}", payload


# ---- verification -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme, plain, stored", VECTORS)
def test_hashes_of_dovecot_are_verified(scheme: str, plain: str, stored: str) -> None:
    fits = not is_bcrypt(stored) or len(plain.encode()) <= 72
    assert verify_password(plain, stored) is fits
    assert not verify_password(plain.swapcase(), stored)
    if scheme.startswith("ARGON2"):  # too slow for the rest
        return
    assert not verify_password(plain + "x", stored)
    assert not fits or not verify_password(plain[:-1], stored)
    prefix, payload = split(stored)
    assert verify_password(plain, prefix.lower() + payload) is fits


@pytest.mark.parametrize("plain, stored", NTLM)
def test_ntlm(plain: str, stored: str) -> None:
    assert verify_password(plain, stored)
    assert not verify_password(plain.lower() + "x", stored)


def test_every_scheme_has_a_vector() -> None:
    assert {name.split(".")[0] for name in ONE_OF_EACH} == set(password_schemes.SCHEMES)


def test_bcrypt_is_not_truncated_at_72_bytes() -> None:
    long = [(p, h) for _, p, h in VECTORS if is_bcrypt(h) and len(p) > 72]
    assert len(long) == 4
    for plain, stored in long:
        assert not verify_password(plain, stored)
        assert verify_password(plain[:72], stored)
        assert not verify_password(plain[:71], stored)


@pytest.mark.parametrize("scheme", ["MD5", "SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT"])
def test_crypt_without_prefix(scheme: str) -> None:
    _, payload = split(ONE_OF_EACH[scheme])
    assert verify_password(SECRET, payload)
    assert verify_password(SECRET, "{CRYPT}" + payload)
    assert not verify_password(payload, payload)


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
@pytest.mark.parametrize("prefix", ["", "{CRYPT}", "{BLF-CRYPT}", "{crypt}"])
def test_versions_of_bcrypt(prefix: str, version: str) -> None:
    _, payload = split(ONE_OF_EACH["BLF-CRYPT"])
    assert verify_password(SECRET, f"{prefix}${version}{payload[3:]}")
    assert not verify_password(SECRET, f"{prefix}$2x{payload[3:]}")


@pytest.mark.parametrize(
    "algorithm, schemes", [("md5", "MD5 PLAIN-MD5 LDAP-MD5"), ("sha1", "SHA SHA1")]
)
def test_hex_and_base64_are_distinguished(algorithm: str, schemes: str) -> None:
    digest = hashlib.new(algorithm, SECRET.encode()).digest()
    for scheme in schemes.split():
        for payload in (digest.hex(), digest.hex().upper(), base64.b64encode(digest).decode()):
            assert verify_password(SECRET, f"{{{scheme}}}{payload}")
        assert not verify_password(SECRET, f"{{{scheme}.B64}}{digest.hex()}")


@pytest.mark.parametrize("stored", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_the_stored_value_is_not_the_password(stored: str) -> None:
    assert_no_password(stored)


@pytest.mark.parametrize("scheme", Scheme)
def test_our_stored_value_is_not_the_password(scheme: Scheme) -> None:
    assert_no_password(hash_password(SECRET, scheme, bcrypt_cost=4))


def assert_no_password(stored: str) -> None:
    prefix, payload = split(stored)
    assert not verify_password(stored, stored)
    if prefix.upper() not in {"{PLAIN}", "{CLEAR}", "{CLEARTEXT}"}:
        assert not verify_password(payload, stored)
    for bare in (payload, payload.lower(), SECRET):  # without a prefix
        assert not verify_password(bare, bare)


@pytest.mark.parametrize("stored", HASHES.values(), ids=HASHES)
def test_malformed_hashes(stored: str) -> None:
    prefix, payload = split(stored)
    bad = [
        prefix,
        payload[:-1],
        prefix[1:] + payload,
        prefix[:-1] + payload,
        " " + stored,
        stored + " ",
        stored + "\n",
        stored + "\0",
        stored + "é",
        stored + stored,
        prefix + " " + payload,
        prefix + prefix + payload,
        prefix + "\ud800",
        prefix + payload[1:],
        prefix + "$" + payload,
        prefix + "=" * len(payload),
        prefix + "$" * 4,
        "{" + payload,
        "{}" + payload,
        "{NOSUCH}" + payload,
        "{PLAIN-MD4}" + payload,
        "{BCRYPT}" + payload,
        prefix[:-1] + ".}" + payload,
        prefix[:-1] + ".zip}" + payload,
        prefix[:-1] + ".hex.b64}" + payload,
        prefix + payload * 40,
        *(prefix + payload[:length] for length in range(len(payload) - 1)),
    ]
    for value in bad:
        assert not verify_password(SECRET, value), value
        assert not verify_password(value, value), value
        if value.startswith("{BCRYPT}$2"):
            continue
        assert_refused(value, unless_salt_is_whole=stored)


def assert_refused(value: str, unless_salt_is_whole: str) -> None:
    """A salt shortened by a multiple of four bytes cannot be noticed."""
    known, whole = (
        password_schemes.read_hash(value),
        password_schemes.read_hash(unless_salt_is_whole),
    )
    if known is not None and whole is not None and known.salt_length and whole.salt_length:
        missing = whole.salt_length - known.salt_length
        if missing > 0 and missing % 4 == 0:
            return
    with pytest.raises(ValueError, match=r"^INVALID_PASSWORD_SCHEME$"):
        check_hash(value)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        " ",
        "{",
        "{}",
        "{PLAIN}",
        "{CLEARTEXT}",
        SECRET,
        "{PLAIN.B64}Secret1!",
        "{PLAIN.HEX}Secret1!",
        "{PLAIN-TRUNC}Secret1!",
        "{CRYPT}x",
        "{CRYPT}*",
        "{CRYPT}!",
        "!",
        "*",
        "{CRYPT}5oKk0e.KS4Oj",
        "5oKk0e.KS4OjI",  # DES without a prefix may be anything
        "{CRYPT}$y$j9T$abc$def",
        # Gibibytes, or minutes of work.
        "{CRYPT}$y$jFT$abcdefgh$" + "." * 43,
        "{CRYPT}$y$jzzzzzzT$abcdefgh$" + "." * 43,
        "{CRYPT}$gy$jFT$abcdefgh$" + "." * 43,
        "{CRYPT}$7$zU..../....abcdefgh$" + "." * 43,
        "{CRYPT}$7$CU..../zzzzabcdefgh$" + "." * 43,
        "{CRYPT}$sha1$99999999$abcdefgh$" + "." * 28,
        "{CRYPT}$md5,rounds=99999999$abcdefgh$$" + "." * 22,
        "{CRYPT}_zzzzabcd" + "." * 11,
        "{CRYPT}$6$rounds=999999999$" + "." * 86,
        "{CRYPT}$5$rounds=999999999$" + "." * 43,
        "{SCRAM-SHA-256}99999999,AAAA," + "A" * 43 + "=," + "A" * 43 + "=",
        "{CRYPT}$2b$31$" + "." * 53,  # days of work
        "{CRYPT}$2b$16$" + "." * 53,
        "{CRYPT}$2b$03$" + "." * 53,
        "{CRYPT}$2b$00$" + "." * 53,
        "{CRYPT}$6$rounds=999999999$abc$" + "." * 86,
        "{CRYPT}$6$rounds=1000001$abc$" + "." * 86,
        "{CRYPT}$6$rounds=10$abc$" + "." * 86,
        "{CRYPT}$6$rounds=-5$abc$" + "." * 86,
        "{PBKDF2}$1$abc$999999999$" + "0" * 40,
        "{PBKDF2}$1$abc$0$" + "0" * 40,
        "{PBKDF2}$2$abc$1000$" + "0" * 40,
        "{ARGON2ID}$argon2id$v=19$m=9999999,t=3,p=1$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=64,t=99,p=1$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=1,t=1,p=1$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=99$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2d$v=19$m=64,t=1,p=1$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2i$v=16$m=64,t=1,p=1$" + "A" * 22 + "$" + "A" * 43,
        "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$" + "A" * 22 + "$" + "A" * 16,
        "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$" + "A" * 25 + "$" + "A" * 43,
        "{SSHA512}" + base64.b64encode(bytes(64)).decode(),  # no salt
        "{SSHA512}" + base64.b64encode(bytes(60)).decode(),
        "{SHA512}" + base64.b64encode(bytes(72)).decode(),
        "{CRAM-MD5}" + "0" * 32,
        "{NTLM}" + "0" * 64,
        hashlib.md5(SECRET.encode(), usedforsecurity=False).hexdigest(),  # bare hex: MD5 or NTLM?
    ],
)
def test_more_malformed_hashes(stored: str) -> None:
    started = time.perf_counter()
    for plain in (SECRET, stored, "x", ""):
        assert not verify_password(plain, stored)
    assert time.perf_counter() - started < 1
    with pytest.raises(ValueError, match=r"^(INVALID_PASSWORD_SCHEME|PASSWORD_HASH_TOO_COSTLY)$"):
        check_hash(stored)


@pytest.mark.parametrize("plain", ["", "\0", SECRET + "\0", "\ud800", "x" * 1025])
@pytest.mark.parametrize(
    "stored", ["{PLAIN}", "{PLAIN}x", ONE_OF_EACH["SHA"], ONE_OF_EACH["CRYPT"]]
)
def test_impossible_passwords(plain: str, stored: str) -> None:
    assert not verify_password(plain, stored)
    assert not verify_password(plain, "{PLAIN}" + plain)


@given(st.text(max_size=60), st.text(max_size=80))
def test_verification_never_raises(plain: str, stored: str) -> None:
    assert verify_password(plain, stored) in (True, False)
    looks_hashed(plain)
    if not stored.startswith("{"):
        assert not verify_password(stored, stored)


@given(
    st.sampled_from(sorted(password_schemes.SCHEMES)),
    st.sampled_from(["", ".b64", ".HEX"]),
    st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=120)
    | st.binary(max_size=80).map(lambda b: base64.b64encode(b).decode())
    | st.binary(max_size=80).map(bytes.hex),
)
def test_random_payloads_never_match(name: str, suffix: str, payload: str) -> None:
    stored = f"{{{name}{suffix}}}{payload}"
    if name not in PLAIN_SCHEMES:
        assert not verify_password(SECRET, stored)
        assert not verify_password(payload, stored)
    assert not verify_password(stored, stored)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(HASHES)), st.data())
def test_one_changed_character_never_matches(scheme: str, data: st.DataObject) -> None:
    """The libraries can verify what check_hash accepts without an exception."""
    stored = ONE_OF_EACH[scheme]
    start = stored.index("}") + 1
    at = data.draw(st.integers(start, len(stored) - 1))
    char = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = stored[:at] + char + stored[at + 1 :]
    verify_password(SECRET, changed)
    try:
        kept = check_hash(changed)
    except ValueError:
        assert not verify_password(SECRET, changed)
        return
    known = password_schemes.read_hash(kept)
    assert known is not None
    known.check(SECRET.encode())


# ---- making -----------------------------------------------------------------------------------

PASSWORDS = [SECRET, "aB3$" * 16, " two  words ", "Pässwörd-密碼-1€", "x" * 72]


@pytest.mark.parametrize("plain", PASSWORDS)
@pytest.mark.parametrize("scheme", Scheme)
def test_hashes_are_verified_by_us_and_by_dovecot(scheme: Scheme, plain: str) -> None:
    stored = hash_password(plain, scheme, bcrypt_cost=4)
    assert stored.startswith("{CRYPT}$2b$04$" if scheme is Scheme.BCRYPT else f"{{{scheme}}}")
    assert len(stored) <= passwords.MAX_HASH_LENGTH
    assert verify_password(plain, stored)
    assert not verify_password(plain + "!", stored)
    assert check_hash(stored) == stored
    if scheme is not Scheme.SHA512:
        assert hash_password(plain, scheme, bcrypt_cost=4) != stored
    if DOVEADM is None:
        pytest.skip("doveadm is not installed")
    assert dovecot_accepts(plain, stored)
    assert not dovecot_accepts(plain[1:], stored)


def dovecot_accepts(plain: str, stored: str) -> bool:
    command = [str(DOVEADM), "pw", "-t", stored, "-p", plain]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return answer.returncode == 0 and "(verified)" in answer.stdout


@pytest.mark.parametrize("scheme", Scheme)
def test_our_own_hashes_are_not_outdated(scheme: Scheme) -> None:
    assert not outdated(hash_password(SECRET, scheme), scheme)


SALTED = {"SSHA", "SSHA256", "SSHA512", "SMD5", "MD5-CRYPT", "MD5"}
"""Salted and not slow; ``{MD5}`` of Dovecot is md5-crypt."""
SLOW = set(
    "CRYPT BLF-CRYPT SHA256-CRYPT SHA512-CRYPT PBKDF2 ARGON2 ARGON2I ARGON2ID SCRAM-SHA-1"
    " SCRAM-SHA-256".split()
)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_outdated_kinds(name: str) -> None:
    """A hash of another kind is outdated, unless it is stronger than the new one."""
    stored, kind = ONE_OF_EACH[name], name.split(".", maxsplit=1)[0]
    assert outdated(stored, Scheme.ARGON2ID) is (kind not in {"ARGON2", "ARGON2ID"})
    assert outdated(stored, Scheme.SHA512) is (kind not in SALTED | SLOW | {"SHA512"})
    assert outdated(stored, Scheme.SSHA) is (kind not in SLOW | {"SSHA", "SSHA256", "SSHA512"})
    assert outdated(stored, Scheme.SSHA512) is (kind not in SLOW | {"SSHA512"})


def test_lower_costs_are_outdated_and_several_hashes_are_kept() -> None:
    cheap = hash_password(SECRET, Scheme.BCRYPT, bcrypt_cost=4)
    assert outdated(cheap, Scheme.BCRYPT)
    assert not outdated(cheap, Scheme.BCRYPT, bcrypt_cost=4)
    assert not outdated(cheap, Scheme.SSHA512)
    assert outdated("$6$salt$" + "x" * 86, Scheme.SHA512_CRYPT)
    assert not outdated("$6$rounds=60000$salt$" + "x" * 86, Scheme.SHA512_CRYPT)
    # The hash that matched is not known, and the others may belong to other passwords.
    assert not outdated(
        HASH_SEPARATOR.join([ONE_OF_EACH["SSHA"], ONE_OF_EACH["MD5"]]), Scheme.SSHA512
    )


def test_default_scheme() -> None:
    stored = hash_password(SECRET)
    assert stored.startswith("{SSHA512}")
    assert len(base64.b64decode(stored[9:])) == 64 + 8


@pytest.mark.parametrize("plain", ["x" * 73, "x" * 200, "é" * 37])
def test_bcrypt_refuses_long_passwords(plain: str) -> None:
    with pytest.raises(ValueError, match=r"^PW_GREATER_THAN_MAX_LENGTH$"):
        hash_password(plain, Scheme.BCRYPT, bcrypt_cost=4)
    assert verify_password(plain, hash_password(plain, Scheme.SSHA512))


def test_73_bytes_are_not_72() -> None:
    stored = hash_password("x" * 72, Scheme.BCRYPT, bcrypt_cost=4)
    assert verify_password("x" * 72, stored)
    assert not verify_password("x" * 73, stored)


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize(
    "plain, code",
    [
        ("", "PW_EMPTY"),
        ("a\0b", "PW_NON_ASCII"),
        ("\udc80", "PW_NON_ASCII"),
        ("x" * 1025, "PW_GREATER_THAN_MAX_LENGTH"),
    ],
)
def test_passwords_that_cannot_be_hashed(scheme: Scheme, plain: str, code: str) -> None:
    with pytest.raises(ValueError, match=f"^{code}$"):
        hash_password(plain, scheme)


@pytest.mark.parametrize("cost", [3, 16, 31])
def test_cost_of_bcrypt_is_limited(cost: int) -> None:
    with pytest.raises(ValueError, match="cost"):
        hash_password(SECRET, Scheme.BCRYPT, bcrypt_cost=cost)


@pytest.mark.parametrize("scheme", Scheme)
def test_dummy_hashes_have_the_cost_of_real_ones(scheme: Scheme) -> None:
    dummy = passwords._dummy_hash(scheme, 10)
    made = hash_password(SECRET, scheme, bcrypt_cost=10)
    assert len(dummy) == len(made)
    assert check_hash(dummy) == dummy

    def seconds(stored: str) -> float:
        started = time.thread_time()
        verify_password("wrong", stored)
        return time.thread_time() - started

    assert min(seconds(dummy) for _ in range(7)) == pytest.approx(
        min(seconds(made) for _ in range(7)), rel=0.5, abs=0.002
    )


# ---- password_hash, password ------------------------------------------------------------------


@pytest.mark.parametrize("stored", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_valid_hashes_are_accepted(stored: str) -> None:
    prefix, payload = split(stored)
    # Written as all releases of Dovecot understand it.
    wanted = {"{ARGON2}": "{ARGON2ID}", "{HMAC-MD5}": "{CRAM-MD5}"}.get(prefix, prefix) + payload
    assert check_hash(stored) == wanted
    assert check_hash(prefix.lower() + payload) == wanted
    assert verify_password(SECRET, check_hash(prefix.lower() + payload))


def test_bcrypt_gets_the_scheme_of_dovecot() -> None:
    _, payload = split(ONE_OF_EACH["BLF-CRYPT"])
    assert check_hash("{bcrypt}" + payload) == "{BLF-CRYPT}" + payload
    assert not verify_password(SECRET, "{BCRYPT}" + payload)  # nor does Dovecot
    long = "{BCRYPT.HEX}" + payload.encode().hex()
    assert check_hash(long) == "{BLF-CRYPT.HEX}" + payload.encode().hex()


@pytest.mark.parametrize(
    "value",
    [
        "{PLAIN}a\nb",
        "{PLAIN}a\x7f",
        "{PLAIN}a\x85b",
        "{PLAIN}a\u2028b",
        "{PLAIN}" + "x" * 249,
        " {PLAIN}abc",
        "abc",
        "$1$/xw4w/tP$V.kC1t090dPe.R5OmqfPd",
        "{SSHA512}" + base64.b64encode(bytes(64 + 5)).decode(),
        "{SCRAM-SHA-256}4096,a,b,c",
        "{BCRYPT}secret",
    ],
)
def test_invalid_hashes_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^INVALID_PASSWORD_SCHEME$"):
        check_hash(value)


def test_longest_hash() -> None:
    assert len(check_hash("{PLAIN}" + "x" * 248)) == 255


@pytest.mark.parametrize(
    "plain",
    ["{SSHA512}abc", "{ssha}x", "{PLAIN}abc", "{BCRYPT}$2b", "{SHA.hex}", " {CRYPT}x", "{OTP}1"],
)
def test_looks_hashed(plain: str) -> None:
    assert looks_hashed(plain)


@pytest.mark.parametrize(
    "plain", ["", SECRET, "{", "{}", "{Secret}1A", "a{SSHA}b", "{SSHA", "(SSHA)"]
)
def test_looks_like_a_password(plain: str) -> None:
    assert not looks_hashed(plain)


# ---- policy -----------------------------------------------------------------------------------

LOOSE = PasswordPolicy(0, 0, letter=False, uppercase=False, digit=False, special=False)


@pytest.mark.parametrize(
    "plain, policy, codes",
    [
        (SECRET, PasswordPolicy(), ""),
        ("", PasswordPolicy(), "PW_EMPTY"),
        ("", LOOSE, "PW_EMPTY"),
        ("x", LOOSE, ""),
        (
            "ä",
            PasswordPolicy(),
            (
                "PW_NON_ASCII PW_SHORTER_THAN_MIN_LENGTH PW_NO_LETTER PW_NO_UPPERCASE "
                "PW_NO_DIGIT_NUMBER PW_NO_SPECIAL_CHAR"
            ),
        ),
        ("Secret1", PasswordPolicy(), "PW_SHORTER_THAN_MIN_LENGTH PW_NO_SPECIAL_CHAR"),
        ("Secret1!x", PasswordPolicy(max_length=8), "PW_GREATER_THAN_MAX_LENGTH"),
        ("Secret1!", PasswordPolicy(max_length=8), ""),
        ("secret1!", PasswordPolicy(), "PW_NO_UPPERCASE"),
        ("secret1!", PasswordPolicy(uppercase=False), ""),
        ("SecretX!", PasswordPolicy(), "PW_NO_DIGIT_NUMBER"),
        ("1234567!", PasswordPolicy(), "PW_NO_LETTER PW_NO_UPPERCASE"),
        ("Secret1^\\|", PasswordPolicy(), "PW_NO_SPECIAL_CHAR"),
        ("Secret1 ", PasswordPolicy(), "PW_NO_SPECIAL_CHAR"),
        ("Secret1!\n", PasswordPolicy(), "PW_NON_ASCII"),
        ("Secret1!\x7f", PasswordPolicy(), "PW_NON_ASCII"),
        ("Sécret1!", PasswordPolicy(), "PW_NON_ASCII"),
        ("Sécret1!", PasswordPolicy(ascii_only=False), ""),
        ("Sécret1!\0", PasswordPolicy(ascii_only=False), "PW_NON_ASCII"),
        ("ÄÖÜ密碼12!", PasswordPolicy(ascii_only=False), ""),
        ("Secret٣!", PasswordPolicy(ascii_only=False), "PW_NO_DIGIT_NUMBER"),
    ],
)
def test_policy(plain: str, policy: PasswordPolicy, codes: str) -> None:
    assert violations(plain, policy) == codes.split()


@pytest.mark.parametrize("char", "#$%&*+-,.:;!=<>'\"?@[]/(){}_`~")
def test_special_characters(char: str) -> None:
    assert violations("Secret12" + char, PasswordPolicy()) == []


@given(st.text(max_size=30), st.booleans())
def test_policy_never_raises(plain: str, ascii_only: bool) -> None:
    violations(plain, PasswordPolicy(ascii_only=ascii_only))
