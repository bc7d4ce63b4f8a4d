"""Operations on mail users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from iredapi.backends.protocols.values import AddressAvailability, Profile
from iredapi.backends.unit_of_work import Adjusted, ReadUnit, UnitOfWork
from iredapi.domain import (
    account_settings,
    canonical,
    limits,
    mailbox_paths,
    revisions,
    users,
)
from iredapi.domain import changed_parameters as differences
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import (
    domain_of,
    fold,
    local_part_of,
    strange_characters,
    without,
)
from iredapi.domain.admins import keep_one_global_admin
from iredapi.domain.audit_events import (
    Event,
    Kind,
    Subject,
    account_event,
    further_change,
    rename_event,
)
from iredapi.domain.domains import Domain
from iredapi.domain.revisions import About
from iredapi.domain.users import User
from iredapi.errors import Conflict, NotFound, problem
from iredapi.operations import accounts, wider_rights
from iredapi.operations.admins import visible
from iredapi.operations.mailbox_locations import (
    given_location,
    location_of_new_user,
    wait_until_path_is_unique,
)
from iredapi.operations.passwords import Passwords, lengths_in
from iredapi.operations.preconditions import state_of

_NEEDS_DOMAIN = frozenset({"quota", "aliases", "add_alias"})
_TARGETS = ("forwarding", "add_forwarding")
_NEW_ALIASES = ("aliases", "add_alias")
_GONE_ALIASES = frozenset({"aliases", "remove_alias"})


async def profile(unit: ReadUnit, mail: str) -> Profile:
    """Return a user's profile."""
    found = await unit.users.profile(mail)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    unit.state = state_of(found)
    return visible(found, unit.rules.hidden_user_fields, unit.actor)


async def page(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[Profile]:
    """Return the next profiles of a domain."""
    found = await unit.users.page(domain, after, limit, disabled_only=disabled_only)
    return [visible(item, unit.rules.hidden_user_fields, unit.actor) for item in found]


async def canonical_view(unit: ReadUnit, mail: str) -> canonical.CanonicalView:
    """Return the canonical view of a user."""
    found = await unit.users.get(mail)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    domain = await unit.domains.get(domain_of(mail))
    view = canonical.user(found, domain.names if domain else ())
    # The view shows neither; in LDAP services may have any name.
    waiting = (found.held or frozenset()) | (found.held_by_domain or frozenset())
    unit.state = state_of(view, found.password, sorted(found.custom_services | waiting))
    return canonical.without(view, unit.rules.hidden_user_fields)


async def canonical_views(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[canonical.CanonicalView]:
    """Return the canonical views of the next users of a domain."""
    found = await unit.users.records(domain, after, limit, disabled_only=disabled_only)
    hosting = await unit.domains.get(domain)
    views = [canonical.user(item, hosting.names if hosting else ()) for item in found]
    return [canonical.without(item, unit.rules.hidden_user_fields) for item in views]


async def mails(
    unit: ReadUnit, domain: str, after: str, limit: int, *, disabled_only: bool
) -> list[str]:
    """Return the next addresses of a domain."""
    return await unit.users.mails(domain, after, limit, disabled_only=disabled_only)


async def create(
    unit: UnitOfWork, mail: str, changes: Mapping[str, Any], password: str, passwords: Passwords
) -> None:
    """Create a user; ``password`` is the hash, ``passwords`` checks the plain password."""
    if not password:
        raise problem("password", "REQUIRED", "Send password or password_hash.")
    unit.affected_account = mail
    found = await unit.addresses.claim(mail)
    available = check_available(
        unit.actor, mail, changes, passwords, found, unit.rules.domains.hostname
    )
    permit_name(unit, mail)
    _report_unsupported(unit, changes)
    domain = available.domain
    changes = await accounts.only_existing(unit, domain, changes, _TARGETS, own=mail)
    changes = await _free_aliases(unit, User(mail), domain, changes)
    taken = await used_limits(unit, domain)
    location = await location_of_new_user(unit, mail, changes, available.queued)
    user = new_user(unit, mail, changes, password, domain, taken, location)
    accounts.skip_absent(unit, {mail}, changes, "remove_forwarding")
    accounts.skip_absent(unit, (), changes, "remove_alias")
    unit.adjusted.extend(adjusted(changes, user, domain))
    groups = account_settings.words(domain.settings, "default_groups")
    joined = await unit.users.add(user, groups=groups, changed=date_of_password(unit))
    unit.note(created(mail))
    for subject, addresses in (
        (Subject.ALIAS, joined.aliases),
        (Subject.MAILLIST, joined.maillists),
    ):
        unit.announce(*(further_change(subject, group, "members") for group in sorted(addresses)))


@dataclass(frozen=True, slots=True)
class UsedLimits:
    """Number and total quota (MB) of a domain's users; zeros if the domain has no limits."""

    users: int = 0
    quota: int = 0


def check_available(
    actor: Actor,
    mail: str,
    changes: Mapping[str, Any],
    passwords: Passwords,
    found: AddressAvailability | None,
    hostname: str,
) -> AddressAvailability:
    """Return ``found`` if a new user may have the address. Raises ApiError."""
    passwords.check(changes, lengths_in(found.domain.settings) if found else (0, 0))
    users.permit_new(actor, found.domain if found else None, changes, hostname)
    if found is None:
        raise NotFound("NO_SUCH_DOMAIN")
    if found.in_use:
        raise accounts.address_in_use(mail)
    return found


def _report_unsupported(unit: ReadUnit, changes: Mapping[str, Any]) -> None:
    """Report parameters without a column in an older iRedMail as skipped."""
    for param, value in unit.users.unsupported(changes):
        unit.skip(param, value, "NOT_SUPPORTED_BY_BACKEND")


def permit_name(unit: ReadUnit, mail: str) -> None:
    """Refuse an address with characters that Dovecot does not allow in a login name."""
    strange = strange_characters(mail, unit.rules.users.name_characters)
    if strange:
        raise problem(
            "mail",
            "INVALID_MAIL",
            f"Dovecot does not allow {' '.join(strange)} in user names: the user could not log in."
            " (IREDAPI_AUTH_USERNAME_CHARS has the allowed ones; aliases may have others.)",
        )


async def used_limits(unit: ReadUnit, domain: Domain) -> UsedLimits:
    """Count the users of a locked domain, if it has limits."""
    if not domain.users and not domain.quota:
        return UsedLimits()
    usage = await unit.domains.usage(domain.name)
    return UsedLimits(usage.users, usage.allocated_quota)


def new_user(
    unit: ReadUnit,
    mail: str,
    changes: Mapping[str, Any],
    password: str,
    domain: Domain,
    taken: UsedLimits,
    location: mailbox_paths.Location,
) -> User:
    """Return the record of a new user. Raises ApiError if a limit of the domain is exceeded."""
    limits.check_account_limit(domain.users, taken.users)
    return users.draft(
        mail, changes, password, domain, taken.quota, location, unit.rules.users, unit.features
    )


def adjusted(changes: Mapping[str, Any], user: User, domain: Domain) -> list[Adjusted]:
    """Return the adjusted quota of a new user; without a parameter the default is compared."""
    number = account_settings.number
    asked = changes.get("quota", number(domain.settings, "default_user_quota"))
    most = number(domain.settings, "max_user_quota")
    if user.quota == asked or ("quota" not in changes and not asked):
        return []
    why = "MAX_USER_QUOTA" if user.quota == most else "DOMAIN_QUOTA"
    return [Adjusted("quota", asked, user.quota, why)]


def date_of_password(unit: ReadUnit) -> datetime | None:
    """Return the date of a new user's password (UTC); None: it is not written."""
    changed = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    return changed if unit.rules.set_password_date else None


def created(mail: str) -> Event:
    """Return the audit event of a new user."""
    return account_event(Kind.CREATE, "user", mail, subject=Subject.USER)


async def update(unit: UnitOfWork, mail: str, changes: Mapping[str, Any], password: str) -> None:
    """Change a user: the parameters that were sent; ``password`` is the new hash, or empty."""
    unit.affected_account = fold(mail)
    lock = bool(_NEEDS_DOMAIN & changes.keys())
    domain, before = await unit.users.claim_with_domain(mail, hold_domain=lock)
    if domain is None:
        raise NotFound("NO_SUCH_DOMAIN")
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    users.permit(
        unit.actor,
        domain,
        before,
        changes,
        has_wider_rights=await wider_rights.has_wider_rights(unit, before),
        hostname=unit.rules.domains.hostname,
    )
    _report_unsupported(unit, changes)
    if changes.keys() & _GONE_ALIASES:
        # Postfix also uses rows with the address of the user in another spelling.
        others = await unit.users.other_aliases(before.mail)
        before = replace(before, aliases=before.aliases | others)
    accounts.skip_absent(unit, before.destinations, changes, "remove_forwarding")
    accounts.skip_absent(unit, before.aliases, changes, "remove_alias")
    changes = await accounts.only_existing(unit, domain, changes, _TARGETS)
    changes = await _free_aliases(unit, before, domain, changes)
    counted = "quota" in changes and domain.quota > 0
    after = users.revise(
        before,
        changes,
        domain,
        password=password,
        others_quota=await unit.users.allocated(domain.name, but=before.mail) if counted else 0,
        location=await given_location(unit, changes["maildir"], owner=before.mail)
        if "maildir" in changes
        else None,
        features=unit.features,
    )
    if before.is_global and before.active and not (after.is_global and after.active):
        keep_one_global_admin(await unit.admins.globals_without([mail]))
    if "quota" in changes:
        unit.adjust("quota", changes["quota"], after.quota, "MAX_USER_QUOTA")
    different = differences.of_user(before, after)
    if not unit.report_changed(different, revisions.of_user, before, after):
        return
    await unit.users.save(before, after)
    if before.is_admin or before.is_global:
        accounts.end_access(unit, before, after)
        if before.is_admin and not after.is_admin:
            unit.revocations.demoted.add(fold(mail))
    await _forget_aliases(unit, without(before.aliases, after.aliases))
    if before.active != after.active:
        kind = Kind.ACTIVE if after.active else Kind.DISABLE
        unit.note(account_event(kind, "user", mail, subject=Subject.USER))
    unit.note(changed(mail, changes))


def changed(mail: str, changes: Mapping[str, Any]) -> Event:
    """Return the audit event of a changed user."""
    names = accounts.parameter_names(changes)
    return account_event(Kind.UPDATE, "user profile", mail, names, Subject.USER)


async def _free_aliases(
    unit: UnitOfWork, before: User, domain: Domain, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Skip alias addresses that are in use; refuse those outside of the own domains."""
    kept = dict(changes)
    for param in _NEW_ALIASES:
        wanted = without(changes.get(param, ()), before.aliases)
        if not wanted:
            continue
        if unit.rules.alias_anywhere:
            await _hosted_aliases(unit, wanted, domain, param)
        else:
            users.check_alias_domains(wanted, domain, param)
        # In an alias domain it would hide the same local part in the primary domain.
        alias_addresses = {
            address: f"{local_part_of(address)}@{domain.name}"
            for address in wanted
            if domain_of(address) in domain.names - {fold(domain.name)}
        }
        own = {*map(fold, before.aliases), *wanted, fold(before.mail)}
        taken = await unit.addresses.in_use(sorted({*wanted, *alias_addresses.values()}))
        used = {
            address
            for address in wanted
            if address in taken or (alias_addresses.get(address, address) in taken - own)
        }
        # Its own name in an alias domain reaches the user already.
        own_name = local_part_of(fold(before.mail))
        used |= wanted & {f"{own_name}@{name}" for name in domain.live_names}
        for address in sorted(used):
            unit.skip(param, address, "ALREADY_EXISTS")
        kept[param] = tuple(item for item in changes[param] if item not in used)
    return kept


async def _forget_aliases(unit: UnitOfWork, gone: frozenset[str]) -> None:
    """Remove policies of removed alias addresses: the next owner must not inherit them."""
    for address in sorted(map(fold, gone)):
        await unit.related_data.remove_account_data(address)
        unit.announce(further_change(Subject.POLICY, address, gone=True))


async def _hosted_aliases(
    unit: UnitOfWork, wanted: frozenset[str], domain: Domain, param: str
) -> None:
    """Lock the domains of alias addresses; refuse domains that the admin does not manage."""
    for name in sorted({domain_of(address) for address in wanted} - domain.live_names):
        if not unit.actor.manages(name) or await unit.domains.claim(name) is None:
            raise problem(param, "INVALID_DOMAIN_NAME", f"{name} is not a domain of yours.")


async def rename(unit: UnitOfWork, old: str, new: str) -> None:
    """Change the address of a user within its domain; mail, rights and policies are kept."""
    accounts.refuse_other_domain(old, new)
    unit.report_changed(["mail"], revisions.of_mail, About.USER, old, new)
    domain = await accounts.claim_domain(unit, domain_of(old))
    before = await unit.users.claim(old)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    await wider_rights.refuse_wider_rights(unit, before)
    permit_name(unit, new)
    await accounts.refuse_if_in_use(unit, new, domain)
    wait_until_path_is_unique(before.location)
    await unit.users.rename(before.mail, new)
    if before.is_admin or before.is_global:
        unit.revocations.demoted.add(fold(old))
    await unit.related_data.rename_account(fold(old), new)
    unit.note(rename_event("user", old, new, Subject.USER))


async def remove(unit: UnitOfWork, mail: str, days: int) -> None:
    """Remove a user; the mailbox stays on disk for some days, or for ever."""
    if fold(mail) == unit.actor.username:
        raise Conflict("CANNOT_REMOVE_YOURSELF")
    # The exclusive lock keeps other requests from adding references to the user. A user whose
    # domain does not exist can be removed too.
    await unit.domains.claim(domain_of(mail))
    before = await unit.users.claim(mail)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    await wider_rights.refuse_wider_rights(unit, before)
    if before.is_global:
        keep_one_global_admin(await unit.admins.globals_without([mail]))
        await unit.deleted_mailboxes.guard(before.location.path)
    await unit.users.remove(before.mail, accounts.removal(unit, days))
    if before.is_admin or before.is_global:
        unit.revocations.demoted.add(fold(mail))
    await accounts.forget_policies(unit, before.mail)
    await _forget_aliases(unit, before.aliases)
    unit.note(account_event(Kind.DELETE, "user", mail, subject=Subject.USER))
