"""New passwords: check the policy and hash, before the unit takes any lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.concurrency.password_hasher import PasswordHasher
from iredapi.domain import account_settings
from iredapi.domain.addresses import domain_of
from iredapi.domain.password_readers import NOT_KNOWN, PasswordReader
from iredapi.domain.passwords import (
    HASH_SEPARATOR,
    PasswordPolicy,
    Scheme,
    check_hash,
    looks_hashed,
    violations,
)
from iredapi.domain.slapd_passwords import UNKNOWN_TO_SLAPD, for_slapd
from iredapi.errors import CODES, ApiError, Problem, problem

_STRICT: Final = "2.4"
"""The release of Dovecot that refuses weak schemes."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """The server's password policy, and the hasher."""

    policy: PasswordPolicy
    hasher: PasswordHasher
    for_slapd: bool = False
    """Whether OpenLDAP verifies the hashes: then schemes that it does not know are refused."""
    reader: PasswordReader = NOT_KNOWN
    """What logs users in. What Dovecot 2.4 refuses is not stored."""
    scheme: Scheme | None = None
    """Scheme of new hashes; None: the configured one."""

    def for_admins(self) -> Passwords:
        """Return the same for standalone admins in OpenLDAP.

        iRedAdmin logs them in with an LDAP bind, whatever Dovecot does: so slapd checks their
        passwords. Schemes that it does not know are replaced by crypt(3)'s SHA-512.
        """
        known = self.hasher.scheme not in UNKNOWN_TO_SLAPD
        scheme = None if known else Scheme.SHA512_CRYPT
        return replace(self, for_slapd=True, reader=NOT_KNOWN, scheme=scheme)

    def outdated(self, stored: str) -> bool:
        """Tell whether a new hash would have another scheme, and would be no weaker."""
        return self.hasher.outdated(stored, self.scheme)

    async def prepare(
        self, changes: Mapping[str, Any], lengths: tuple[int, int] = (0, 0), stored: str = ""
    ) -> str:
        """Return the hash to store for ``password`` or ``password_hash``; empty: neither was sent.

        ``lengths`` of the domain replace the server's. If ``stored`` is a hash of the same password
        by the configured scheme, it is returned, so that nothing changes. Raises ApiError with the
        codes of all violated rules, joined by commas as by iRedAdmin-Pro.
        """
        self.check(changes, lengths)
        # Always hashed: the duration must not tell whether the password equals the stored one.
        hashed = await self.hashed(changes)
        if stored and "password" in changes and await self._is_of(changes["password"], stored):
            return stored
        return hashed

    async def _is_of(self, plain: str, stored: str) -> bool:
        # With several hashes a change is needed: it removes the others.
        if HASH_SEPARATOR in stored or self.outdated(stored) or not self._fits(stored):
            return False
        return await self.hasher.verify(plain, stored)

    def _fits(self, stored: str) -> bool:
        """Tell whether a hash would be stored as it is: with a scheme that logs its owner in."""
        try:
            return self._stored(check_hash(stored)) == stored
        except (ApiError, ValueError):
            return False

    def check(self, changes: Mapping[str, Any], lengths: tuple[int, int] = (0, 0)) -> None:
        """Refuse a plain password that violates the policy."""
        if "password_hash" in changes or "password" not in changes:
            return
        plain = changes["password"]
        if looks_hashed(plain):
            raise problem("password", "PASSWORD_IS_A_HASH")
        policy, (lowest, highest) = self.policy, lengths
        if lowest or highest:
            policy = replace(
                policy,
                min_length=lowest or policy.min_length,
                max_length=highest or policy.max_length,
            )
        if codes := violations(plain, policy):
            raise _refused(codes)

    async def hashed(self, changes: Mapping[str, Any]) -> str:
        """Return the hash without checking the policy. Raises ApiError for unhashable passwords."""
        if "password_hash" in changes:
            return self._stored(str(changes["password_hash"]))
        if "password" not in changes:
            return ""
        try:
            return self._stored(await self.hasher.hash(changes["password"], self.scheme))
        except ValueError as error:
            raise _refused([str(error)]) from None

    async def renew(self, plain: str) -> str:
        """Return a hash of the configured scheme for a password that is already in use.

        Raises ApiError or ValueError if the scheme or OpenLDAP does not support the password.
        """
        return self._stored(await self.hasher.hash(plain, self.scheme))

    def _stored(self, hashed: str) -> str:
        if self.for_slapd:
            try:
                hashed = for_slapd(hashed)
            except ValueError:
                raise problem(
                    "password_hash",
                    "INVALID_PASSWORD_SCHEME",
                    "OpenLDAP does not support this hash, so the user could not log in.",
                ) from None
        # What Dovecot 2.3 takes depends on the libraries of its host, too: all is stored.
        why = self.reader.refuses(hashed) if self.reader.version == _STRICT else ""
        if why:
            raise problem(
                "password_hash", "INVALID_PASSWORD_SCHEME", f"{why}: the user could not log in."
            )
        return hashed


async def stored_for(unit: ReadUnit, mail: str) -> tuple[tuple[int, int], str]:
    """Return the lengths of passwords in a user's domain, and the user's stored hash."""
    return await lengths_of(unit, domain_of(mail)), await unit.users.password(mail)


async def stored_for_admin(unit: ReadUnit, mail: str) -> str:
    """Return the stored hash of a standalone admin; empty: there is no such admin."""
    found = await unit.admins.get(mail)
    return "" if found is None else found.password


async def lengths_of(unit: ReadUnit, domain: str) -> tuple[int, int]:
    """Return the minimum and maximum length of passwords in a domain; 0: the server's."""
    found = await unit.domains.get(domain)
    return (0, 0) if found is None else lengths_in(found.settings)


def lengths_in(settings: account_settings.Settings) -> tuple[int, int]:
    """Return the minimum and maximum length of passwords in a domain's settings; 0: not set."""
    number = account_settings.number
    lowest, highest = (number(settings, f"{end}_passwd_length") for end in ("min", "max"))
    return max(lowest, 0), max(highest, 0)


def _refused(codes: list[str]) -> ApiError:
    return ApiError(
        ",".join(codes), errors=[Problem("password", code, CODES[code].meaning) for code in codes]
    )
