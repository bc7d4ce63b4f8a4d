"""New passwords: checked against the policy, then hashed, before any lock is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.concurrency.password_hasher import PasswordHasher
from iredapi.domain import account_settings
from iredapi.domain.addresses import domain_of
from iredapi.domain.passwords import HASH_SEPARATOR, PasswordPolicy, looks_hashed, violations
from iredapi.domain.slapd_passwords import for_slapd
from iredapi.errors import CODES, ApiError, Problem, problem


@dataclass(frozen=True, slots=True)
class Passwords:
    """The server's policy, and who hashes."""

    policy: PasswordPolicy
    hasher: PasswordHasher
    for_slapd: bool = False
    """Whether OpenLDAP checks the hashes: those that it cannot check are refused."""

    async def prepare(
        self, changes: Mapping[str, Any], lengths: tuple[int, int] = (0, 0), stored: str = ""
    ) -> str:
        """Return the hash to store for ``password`` or ``password_hash``; empty: neither was sent.

        The domain's own ``lengths`` replace the server's. A ``stored`` hash of the same password
        stays, unless a new one would be of another scheme: then nothing changes. Raises ApiError
        with the violated rules joined by commas, as iRedMail does.
        """
        self.check(changes, lengths)
        # Made in any case: the time must not tell who may not set it whether it is right.
        hashed = await self.hashed(changes)
        if stored and "password" in changes and await self._is_of(changes["password"], stored):
            return stored
        return hashed

    async def _is_of(self, plain: str, stored: str) -> bool:
        # Of several hashes only the new one would stay.
        if HASH_SEPARATOR in stored or self.hasher.outdated(stored):
            return False
        return await self.hasher.verify(plain, stored)

    def check(self, changes: Mapping[str, Any], lengths: tuple[int, int] = (0, 0)) -> None:
        """Refuse a plain password that the policy does not allow."""
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
        """Return the hash, whatever the policy says. Raises ApiError for what has none."""
        if "password_hash" in changes:
            return self._stored(str(changes["password_hash"]))
        if "password" not in changes:
            return ""
        try:
            return self._stored(await self.hasher.hash(changes["password"]))
        except ValueError as error:
            raise _refused([str(error)]) from None

    async def renew(self, plain: str) -> str:
        """Return a hash of the configured scheme for a password that is in use already.

        Raises ApiError or ValueError for one that the scheme, or OpenLDAP, cannot have.
        """
        return self._stored(await self.hasher.hash(plain))

    def _stored(self, hashed: str) -> str:
        if not self.for_slapd:
            return hashed
        try:
            return for_slapd(hashed)
        except ValueError:
            raise problem(
                "password_hash",
                "INVALID_PASSWORD_SCHEME",
                "OpenLDAP cannot check it, so its owner could not log in.",
            ) from None


async def stored_for(unit: ReadUnit, mail: str) -> tuple[tuple[int, int], str]:
    """Return what is asked before a user's new password is hashed: lengths, and the hash it has."""
    return await lengths_of(unit, domain_of(mail)), await unit.users.password(mail)


async def stored_for_admin(unit: ReadUnit, mail: str) -> str:
    """Return the hash of a standalone admin; empty: there is none."""
    found = await unit.admins.get(mail)
    return "" if found is None else found.password


async def lengths_of(unit: ReadUnit, domain: str) -> tuple[int, int]:
    """Return a domain's own least and greatest length of passwords; 0: the server's."""
    found = await unit.domains.get(domain)
    return (0, 0) if found is None else lengths_in(found.settings)


def lengths_in(settings: account_settings.Settings) -> tuple[int, int]:
    """Read them from a domain's settings."""
    number = account_settings.number
    lowest, highest = (number(settings, f"{end}_passwd_length") for end in ("min", "max"))
    return max(lowest, 0), max(highest, 0)


def _refused(codes: list[str]) -> ApiError:
    return ApiError(
        ",".join(codes), errors=[Problem("password", code, CODES[code].meaning) for code in codes]
    )
