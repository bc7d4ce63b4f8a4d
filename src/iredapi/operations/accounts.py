"""Steps that operations of several account types share: lock a domain, check addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from iredapi.backends.protocols.values import Removal
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain.addresses import (
    Name,
    domain_of,
    fold,
    local_part_of,
    spellings,
    typed,
)
from iredapi.domain.admins import Admin
from iredapi.domain.domains import Domain
from iredapi.domain.users import User
from iredapi.errors import Conflict, NotFound, problem


async def get_domain(unit: ReadUnit, name: str) -> Domain:
    """Return a domain without a lock. Raises NotFound ``NO_SUCH_DOMAIN``, for alias domains too."""
    return require_domain(await unit.domains.get(name))


async def known_domain(unit: ReadUnit, name: str) -> Domain:
    """Return a domain as its own row tells (``DomainReader.own``). Raises as ``get_domain``."""
    return require_domain(await unit.domains.own(name))


async def claim_domain(unit: UnitOfWork, name: str, *, share: bool = False) -> Domain:
    """Lock a domain and return it; with ``share`` a shared lock. Raises NotFound as ``get_domain``.

    Writes to an account need at least the shared lock: then a removal of the domain waits for them.
    """
    found = unit.domains.get(name, share=True) if share else unit.domains.claim(name)
    return require_domain(await found)


def require_domain(domain: Domain | None) -> Domain:
    """Return a domain that is not None. Raises NotFound ``NO_SUCH_DOMAIN``."""
    if domain is None:
        raise NotFound("NO_SUCH_DOMAIN")
    return domain


async def domain_of_account(unit: UnitOfWork, address: str) -> Domain:
    """Return the domain of an account, with a shared lock; ``Domain("")`` without an ``@``."""
    if "@" not in address:
        return Domain("")
    return await claim_domain(unit, domain_of(address), share=True)


def end_access(unit: UnitOfWork, before: User | Admin, after: User | Admin) -> None:
    """End the sessions of an admin who has a new password, is disabled, or loses global rights.

    Tokens end with a new password and with lost rights. They do not end when the owner is disabled:
    they are refused until the owner is active again.
    """
    if before.password != after.password:
        unit.revocations.tokens.add(before.mail)
    if before.is_global and not after.is_global:
        unit.revocations.demoted.add(before.mail)
    elif before.password != after.password or (before.active and not after.active):
        unit.revocations.sessions.add(before.mail)


def removal(unit: UnitOfWork, days: int) -> Removal:
    """Return how long mailboxes are kept; 0 days: for ever. Normal admins have a maximum."""
    if not unit.actor.is_global:
        most = unit.rules.max_keep_days
        unit.adjust("keep_mailbox_days", days, min(days, most), "MAX_KEEP_DAYS")
        days = min(days, most)
    after = (datetime.now(UTC) + timedelta(days=days)).date() if days else None
    return Removal(unit.actor.username, after)


async def forget_policies(unit: UnitOfWork, stored: str) -> None:
    """Remove the rows of a removed account in the other databases.

    These store addresses in lower case. If an account with the same address in another case still
    exists, the rows are kept.
    """
    address = fold(stored)
    if stored == address or address not in await unit.addresses.taken([address]):
        await unit.related_data.remove_account_data(address)


def address_in_use(address: str) -> Conflict:
    """Return the error for an address that is in use."""
    return Conflict("ALREADY_EXISTS", f"{address} is in use.")


async def refuse_if_in_use(unit: ReadUnit, address: str, domain: Domain) -> None:
    """Refuse an address that is in use, there or in an alias domain. The domain must be locked."""
    candidates = [address, *domain.alias_addresses(address)]
    if await unit.addresses.in_use(candidates) or await unit.admins.exists([address]):
        raise address_in_use(address)


def _lookups(address: str, domain: Domain) -> set[str]:
    """Return the addresses under which a destination in the own domain may be stored."""
    local = local_part_of(address).partition("+")[0]
    return {f"{local}@{domain_of(address)}", f"{local}@{domain.name}"}


async def only_existing(
    unit: ReadUnit,
    domain: Domain,
    changes: Mapping[str, Any],
    params: Collection[str],
    *,
    own: str = "",
) -> dict[str, Any]:
    """Drop well-formed targets in the own domain (or its alias domains) that do not exist.

    Mail to them would bounce. Addresses in other domains are not checked: that would tell which
    exist there. ``own`` is the address of the account that is being created.
    """
    kept = dict(changes)
    inside = {
        address
        for param in params
        for address in changes.get(param, ())
        if domain_of(address) in domain.names and domain.canonical(address) != own
    }
    if not inside:
        return kept
    asked = {address: _lookups(address, domain) for address in inside}
    found = await unit.addresses.taken(sorted({name for names in asked.values() for name in names}))
    missing = {address for address, names in asked.items() if not names & found}
    for param in params:
        for address in changes.get(param, ()):
            if address in missing:
                unit.skip(param, address, "NO_SUCH_ACCOUNT")
        if param in changes:
            kept[param] = tuple(item for item in changes[param] if item not in missing)
    return kept


def skip_absent(
    unit: ReadUnit, present: Iterable[str], changes: Mapping[str, Any], param: str
) -> None:
    """Report values to remove that do not exist as skipped (``NOT_FOUND``).

    Raises ApiError ``INVALID_MAIL`` or ``INVALID_DOMAIN_NAME`` for malformed ones.
    """
    asked = changes.get(param, ())
    there = {fold(value) for value in present} if asked else set()
    for item in asked:
        if there.isdisjoint(spellings(item)):
            if isinstance(item, Name) and not item.well_formed:
                code = "INVALID_MAIL" if param != "remove_alias_domain" else "INVALID_DOMAIN_NAME"
                raise problem(param, code, f"{typed(item)[:80]!r} does not exist and is malformed.")
            unit.skip(param, typed(item), "NOT_FOUND")


def refuse_other_domain(old: str, new: str) -> None:
    """Refuse to move an address to another domain."""
    if domain_of(old) != domain_of(new):
        raise problem("new_mail", "CROSS_DOMAIN_NOT_ALLOWED")


def parameter_names(changes: Mapping[str, Any]) -> str:
    """Return the names of the parameters of an update, for the audit log; never values."""
    return ", ".join(sorted(changes)) or "nothing"
