"""How the profile of each kind of account is read and locked for ``If-Match``."""

from __future__ import annotations

from typing import Final

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.operations import admins, aliases, domains, lists, maillists, users
from iredapi.operations.preconditions import CANONICAL, STORED, Versions, claim_domain_of


async def _claim_domain(unit: UnitOfWork, name: str) -> None:
    await unit.domains.claim(name)


async def _claim_admin(unit: UnitOfWork, mail: str) -> None:
    await unit.admins.claim(mail)


async def _claim_user(unit: UnitOfWork, mail: str) -> None:
    await claim_domain_of(unit, mail)
    await unit.users.claim(mail)


async def _claim_alias(unit: UnitOfWork, address: str) -> None:
    await claim_domain_of(unit, address)
    await unit.aliases.claim(address)


async def _claim_maillist(unit: UnitOfWork, address: str) -> None:
    await claim_domain_of(unit, address)
    if unit.maillists is not None:
        await unit.maillists.claim(address)


DOMAIN: Final = Versions(
    {STORED: domains.profile, CANONICAL: domains.canonical_view}, _claim_domain
)
ADMIN: Final = Versions({STORED: admins.profile, CANONICAL: admins.canonical_view}, _claim_admin)
USER: Final = Versions({STORED: users.profile, CANONICAL: users.canonical_view}, _claim_user)
ALIAS: Final = Versions({STORED: aliases.profile, CANONICAL: aliases.canonical_view}, _claim_alias)
LIST: Final = Versions({STORED: lists.get, CANONICAL: lists.get}, None)
"""``workflows.mailing_lists`` reads it from the list server, too."""
MAILLIST: Final = Versions(
    {STORED: maillists.profile, CANONICAL: maillists.canonical_view}, _claim_maillist
)
