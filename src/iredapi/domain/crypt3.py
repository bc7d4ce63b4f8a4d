"""Password hashes that only the host's crypt(3) knows: yescrypt and others.

Debian's ``passwd`` makes yescrypt; PHP makes SHA-crypt salts of any characters. Dovecot and slapd
call the same function, so they accept what it accepts. ``crypt_r`` is thread-safe and runs without
the GIL. The costs are those of libxcrypt 4.4 (crypt(5)).
"""

from __future__ import annotations

import ctypes
import hmac
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

MAX_PASSPHRASE: Final = 511
"""Maximum length of a password in bytes (CRYPT_MAX_PASSPHRASE_SIZE of libxcrypt minus one)."""
MAX_MEMORY: Final = 128 * 1024  # KiB
MAX_SHA1_ROUNDS: Final = 500_000  # about one second
MAX_SUN_ROUNDS: Final = 200_000  # one second
MAX_BSDI_ROUNDS: Final = 1_000_000  # half a second
MAX_SCRYPT_LANES: Final = 4
DES_BYTES: Final = 8
"""DES-crypt reads only this many bytes of a password; longer ones are refused, as with bcrypt."""
_NAMES: Final = ("libcrypt.so.1", "libcrypt.so.2")
_STATE: Final = 256 * 1024
"""Bytes of ``struct crypt_data``: 32768 in libxcrypt, 131232 in glibc."""
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SALT: Final = r"[^\x00-\x20$:;*!\\\x7f-\uffff]"
"""Pattern of one character of a salt that crypt(3) accepts."""

Check = Callable[[bytes], bool]


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return the host's libcrypt; None when there is none."""
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return library
    return None


def supports(setting: str) -> bool:
    """Tell whether this host's library can check a hash of this kind, without computing one."""
    library = _library()
    if library is None:
        return False
    try:
        check = library.crypt_checksalt
    except AttributeError:  # glibc's own
        return bool(re.match(r"\$[156]\$|[./0-9A-Za-z]{13}$", setting))
    check.argtypes = (ctypes.c_char_p,)
    return int(check(setting.encode())) != 1  # CRYPT_SALT_INVALID


def hashed(secret: bytes, setting: str) -> str | None:
    """Return the hash that crypt(3) computes; None when it cannot. It may take long."""
    library = _library()
    if library is None or b"\0" in secret or len(secret) > MAX_PASSPHRASE:
        return None
    state = ctypes.create_string_buffer(_STATE)
    try:
        found = library.crypt_r(secret, setting.encode(), state)
        return None if found is None or found.startswith(b"*") else found.decode("ascii")
    finally:
        ctypes.memset(state, 0, _STATE)


def checker(stored: str) -> Check:
    """Return a function that checks passwords against a hash."""

    def check(secret: bytes) -> bool:
        found = hashed(secret, stored)
        return found is not None and hmac.compare_digest(found.encode(), stored.encode())

    return check


def read(stored: str) -> Check | None:
    """Return the check of a hash that only crypt(3) knows; None: malformed, or too costly."""
    for pattern, affordable in _KINDS:
        match = pattern.fullmatch(stored)
        if match is not None:
            return checker(stored) if affordable(match) and supports(stored) else None
    return None


def is_too_costly(stored: str) -> bool:
    """Tell whether a hash that only crypt(3) knows is refused because of its cost."""
    matches = ((pattern.fullmatch(stored), affordable) for pattern, affordable in _KINDS)
    return any(match is not None and not affordable(match) for match, affordable in matches)


def why_not(stored: str) -> str:
    """Return why a hash that only crypt(3) knows cannot be checked here; empty: other reasons."""
    known = any(pattern.fullmatch(stored) for pattern, _ in _KINDS) or _DES.fullmatch(stored)
    if not known or supports(stored):
        return ""
    return "Only crypt(3) knows this kind of hash, and this host's libcrypt does not have it."


def read_des(stored: str) -> Check | None:
    """Return the check of a DES-crypt hash."""
    if not _DES.fullmatch(stored) or not supports(stored):
        return None
    check = checker(stored)
    return lambda secret: len(secret) <= DES_BYTES and check(secret)


def _number(text: str) -> int:
    """Return a number in base 64, least significant character first."""
    return sum(_ALPHABET.index(char) << (6 * place) for place, char in enumerate(text))


def _yescrypt(match: re.Match[str]) -> bool:
    # Both numbers count from 1; characters after "j" would begin a number of several digits.
    log_n, r = (1 + _ALPHABET.index(match[name]) for name in ("n", "r"))
    return log_n < 32 and (r << log_n) // 8 <= MAX_MEMORY


def _scrypt(match: re.Match[str]) -> bool:
    log_n, r, p = _ALPHABET.index(match["n"]), _number(match["r"]), _number(match["p"])
    return 0 < p <= MAX_SCRYPT_LANES and 0 < log_n < 32 and (r << log_n) // 8 <= MAX_MEMORY


def _rounds(maximum: int) -> Callable[[re.Match[str]], bool]:
    return lambda match: int(match["rounds"] or 0) <= maximum


_B64 = r"[./0-9A-Za-z]"
_DES: Final = re.compile(_B64 + "{13}")
_KINDS: Final = (
    (
        re.compile(
            rf"\$g?y\$j(?P<n>[./0-9A-Za-j])(?P<r>[./0-9A-Za-j])\${_B64}{{0,86}}\${_B64}{{43}}"
        ),
        _yescrypt,
    ),
    (
        re.compile(
            rf"\$7\$(?P<n>{_B64})(?P<r>{_B64}{{5}})(?P<p>{_B64}{{5}}){_B64}{{0,86}}\${_B64}{{43}}"
        ),
        _scrypt,
    ),
    (
        re.compile(rf"\$sha1\$(?P<rounds>[1-9][0-9]{{0,8}})\${_B64}{{1,64}}\${_B64}{{28}}"),
        _rounds(MAX_SHA1_ROUNDS),
    ),
    (
        re.compile(
            rf"\$md5(?:,rounds=(?P<rounds>[1-9][0-9]{{0,8}}))?\${_B64}{{1,16}}\$?\${_B64}{{22}}"
        ),
        _rounds(MAX_SUN_ROUNDS),
    ),
    (
        re.compile(rf"_(?P<count>{_B64}{{4}}){_B64}{{15}}"),
        lambda match: 0 < _number(match["count"]) <= MAX_BSDI_ROUNDS,
    ),
)
