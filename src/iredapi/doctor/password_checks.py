"""Checks of stored passwords: do they log their owner in, with the Dovecot that this server has?

Pure, and the same for SQL and LDAP. When Dovecot's version is not known, a value is judged as by
2.3 and by 2.4, and the detail names the release that it is wrong for. No detail holds a stored
value: it may be a password in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from iredapi.domain.password_readers import PasswordReader
from iredapi.domain.slapd_passwords import for_slapd

_SCHEME = re.compile(r"\{[A-Za-z0-9.-]+\}.+", re.DOTALL)
_CRYPT = re.compile(r"(?:\$(?:1|2[abxy]|5|6|g?y|7|sha1)\$|\$md5[,$]).+")
"""Every format of crypt(3) that its prefix shows; DES hashes look like a short password."""
_ARGON2 = re.compile(r"\$argon2(?:id?)\$.+")


@dataclass(frozen=True, slots=True)
class WrongPassword:
    """One thing that is wrong with a stored password, and the value that repairs it."""

    code: str
    detail: str = ""
    right: str | None = None


def with_scheme(stored: str) -> str | None:
    """Return a hash without a scheme, or with {BCRYPT}, with the scheme that Dovecot knows for it.

    None: the value has a scheme, or is not clearly a hash.
    """
    _, brace, rest = stored.partition("{BCRYPT}")
    if brace and _CRYPT.fullmatch(rest):
        return "{BLF-CRYPT}" + rest
    if _ARGON2.fullmatch(stored):
        return ("{ARGON2ID}" if stored.startswith("$argon2id$") else "{ARGON2I}") + stored
    return "{CRYPT}" + stored if _CRYPT.fullmatch(stored) else None


def judge_user(stored: str, reader: PasswordReader) -> Iterator[WrongPassword]:
    """Return what is wrong with a user's password; what slapd cannot check only if it does that."""
    if (right := with_scheme(stored)) is not None:
        works = reader.version == "2.3" and not reader.ldap and not stored.startswith(("{", "$a"))
        code = "PASSWORD_BARE_ON_23" if works else "PASSWORD_BARE_CRYPT"
        yield WrongPassword(code, _of_bare(stored, reader), right)
        return
    if not _SCHEME.fullmatch(stored):
        if not (reader.binds and reader.version and stored):  # slapd knows plain text
            yield WrongPassword("PASSWORD_WITHOUT_SCHEME", _of_unclear(stored, reader))
        return
    if why := _refused(stored, reader):
        yield WrongPassword("PASSWORD_REFUSED_BY_DOVECOT", why)
    if reader.binds:
        yield from _of_slapd(stored)


def judge_admin(stored: str, *, slapd: bool) -> Iterator[WrongPassword]:
    """Return what is wrong with a standalone admin's password: iRedAdmin reads it, not Dovecot."""
    if (right := with_scheme(stored)) is not None:
        # slapd takes the text of the hash for the password.
        code = "PASSWORD_BARE_CRYPT" if slapd else "ADMIN_PASSWORD_BARE"
        yield WrongPassword(code, "", right)
    elif not slapd and not _SCHEME.fullmatch(stored):
        what = "of an admin: not a hash with a scheme" if stored else "empty"
        yield WrongPassword("PASSWORD_WITHOUT_SCHEME", what)
    elif slapd and _SCHEME.fullmatch(stored):
        yield from _of_slapd(stored)


def judge_values(
    values: Sequence[str], reader: PasswordReader
) -> Iterator[tuple[str, WrongPassword]]:
    """Return what is wrong with the values of a user's ``userPassword``, each with its value."""
    for stored in values:
        for wrong in judge_user(stored, reader):
            yield stored, wrong
    if len(values) > 1 and reader.version != "2.3":
        detail = f"{len(values)} values{_if_unknown(reader, '2.4')}"
        yield values[0], WrongPassword("PASSWORD_VALUES_IGNORED", detail)


def _of_bare(stored: str, reader: PasswordReader) -> str:
    if stored.startswith("{"):
        return "Dovecot does not know {BCRYPT}"
    if reader.ldap:
        return "whoever binds with the text of the hash is let in"
    if reader.version == "2.3":
        return ""
    return f"the text of the hash is the password{_if_unknown(reader, '2.4')}"


def _of_unclear(stored: str, reader: PasswordReader) -> str:
    if not stored:
        return "empty"
    if reader.ldap:
        return f"a temporary failure at each login{_if_unknown(reader, '2.4')}"
    if reader.version == "2.3":
        return "not a hash with a scheme"
    return f"the text itself is the password{_if_unknown(reader, '2.4')}"


def _refused(stored: str, reader: PasswordReader) -> str:
    """Say which Dovecot refuses a value with a scheme; "" for none."""
    if reader.binds and reader.version:
        return ""  # slapd's schemes have codes of their own
    if reader.version:
        return reader.refuses(stored)
    # With LDAP, Dovecot 2.3 leaves the password to slapd.
    for release in ("2.4",) if reader.ldap else ("2.3", "2.4"):
        if why := replace(reader, version=release, binds=False).refuses(stored):
            return why
    return ""


def _of_slapd(stored: str) -> Iterator[WrongPassword]:
    scheme = stored.partition("}")[0] + "}"
    try:
        right = for_slapd(stored)
    except ValueError:
        yield WrongPassword("PASSWORD_UNKNOWN_TO_SLAPD", scheme)
        return
    if right != stored:
        yield WrongPassword("PASSWORD_SPELLING", scheme, right)


def _if_unknown(reader: PasswordReader, release: str) -> str:
    return "" if reader.version else f", if Dovecot is {release}"
