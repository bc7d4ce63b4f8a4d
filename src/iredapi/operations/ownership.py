"""Operations on the ownership of domains that normal admins have added."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import changed_parameters as differences
from iredapi.domain import ownership, revisions
from iredapi.domain.addresses import fold
from iredapi.domain.audit_events import Kind, domain_event
from iredapi.domain.domains import Domain
from iredapi.domain.ownership import Standing
from iredapi.errors import Conflict, NotSupported
from iredapi.operations import accounts


async def known(unit: ReadUnit, name: str) -> tuple[Domain, Standing | None]:
    """Return a domain and what is known of its ownership. Raises NotFound.

    None: iRedAdmin's database, which has that, is not configured.
    """
    # In this order: a name whose proof is stored is active already, see ``note_verified``.
    proofs = await unit.related_data.proofs(fold(name))
    domain = await accounts.get_domain(unit, name)
    return domain, None if proofs is None else ownership.standing(domain, proofs)


async def waiting(unit: ReadUnit, name: str) -> Standing:
    """Return what waits for a proof. Raises NotFound, NotSupported, or Conflict if nothing can."""
    _, found = await known(unit, name)
    if found is None:
        raise NotSupported(detail="The database iredadmin is not configured.")
    if found.disabled and not found.waiting:
        raise Conflict("OWNERSHIP_NOT_PENDING", _not_pending(found.disabled))
    return found


def _not_pending(names: Collection[str]) -> str:
    return f"{min(names)} is disabled, and not because a proof of its ownership is missing."


async def activate(
    unit: UnitOfWork, name: str, proved: Mapping[str, str], not_found: Mapping[str, str]
) -> None:
    """Switch on the names of a domain that still wait for the codes that were found.

    ``proved``: name → code. ``not_found``: name → why no code of it was found. Other names stay as
    they are, such as those that a global admin has disabled meanwhile.
    """
    before = await accounts.claim_domain(unit, name)
    proofs = await unit.related_data.proofs(fold(before.name))
    now = ownership.standing(before, proofs or ())
    live = [one for one, code in proved.items() if code in now.waiting.get(one, ())]
    if proved and not live and not proved.keys() & now.verified:
        raise Conflict("CHANGED_MEANWHILE")
    for one in sorted(proved.keys() - {*live} - now.verified):
        unit.skip("domain", one, "CHANGED_MEANWHILE")
    for one in sorted(now.disabled - proved.keys()):
        unit.skip("domain", one, "OWNERSHIP_NOT_PENDING")
    for one, why in sorted(not_found.items()):
        unit.skip("domain", one, why)
    after = ownership.activated(before, live)
    different = differences.of_domain(before, after)
    if not unit.report_changed(different, revisions.of_domain, before, after):
        return
    await unit.domains.save(before, after)
    if before.active != after.active:
        unit.note(domain_event(Kind.ACTIVE, after.name))
    for alias in sorted(before.inactive_alias_domains - after.inactive_alias_domains):
        message = f"Active alias domain: {alias} (of {after.name})."
        unit.note(replace(domain_event(Kind.ACTIVE, after.name), message=message))


async def note_verified(unit: UnitOfWork, name: str, proved: Mapping[str, str]) -> None:
    """Store in iRedAdmin's database that the codes were found.

    This comes after the activation: if the process dies in between, the proof is repeated. A row
    that is gone, or has another code now, stays as it is.
    """
    domain = await accounts.claim_domain(unit, name)
    proofs = await unit.related_data.proofs(fold(domain.name))
    now = ownership.standing(domain, proofs or ())
    there = {one: code for one, code in proved.items() if code in now.waiting.get(one, ())}
    there = {one: code for one, code in there.items() if not _is_silent(domain, one)}
    if there:
        await unit.related_data.verify_ownership(fold(domain.name), there)


def _is_silent(domain: Domain, name: str) -> bool:
    """Tell whether a name gets no mail of its own: it was disabled since its activation."""
    if fold(domain.name) == name:
        return not domain.active
    return name in map(fold, domain.inactive_alias_domains)
