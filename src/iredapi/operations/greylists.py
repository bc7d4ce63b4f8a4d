"""Operations on greylisting settings and whitelists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import NO_EFFECT, ReadUnit, UnitOfWork
from iredapi.domain import greylists, revisions, sender_patterns
from iredapi.domain.addresses import fold
from iredapi.domain.audit_events import Kind, policy_event
from iredapi.domain.greylists import Setting
from iredapi.domain.revisions import About
from iredapi.domain.scopes import Scope
from iredapi.domain.spf import Senders
from iredapi.errors import problem
from iredapi.operations.policies import permitted, permitted_to_write

MAX_DNS_DOMAINS: Final = 100
"""Maximum number of domains in one request whose networks are looked up in the DNS."""
_PROFILE = "greylisting"
_PAGE: Final = 5000


async def page(unit: ReadUnit, after: Setting | None, limit: int) -> list[Setting]:
    """Return the next settings of all accounts."""
    return await unit.greylists.page(after, limit)


def to_response(setting: Setting) -> Profile:
    """Return a setting as it is in responses."""
    return _exception(setting) | {
        "priority": setting.priority,
        "sender_priority": setting.sender_priority,
        "comment": setting.comment,
    }


def _exception(setting: Setting) -> Profile:
    status = _status(active=setting.active)
    return {"account": setting.account, "sender": setting.sender, "status": status}


def _status(*, active: bool) -> str:
    return "enable" if active else "disable"


async def profile(unit: ReadUnit, scope: Scope) -> Profile:
    """Return the own setting of a scope; status ``inherit`` without one."""
    await permitted(unit, scope, _PROFILE)
    for account in scope.accounts:
        found = await unit.greylists.get(account)
        if found is not None:
            return {"account": account, "status": _status(active=found.active)}
    return {"account": scope.account, "status": "inherit"}


async def effective(unit: ReadUnit, scope: Scope) -> Profile:
    """Return the effective greylisting status of a scope, and the account whose setting decides."""
    await permitted(unit, scope, _PROFILE)
    verdict = greylists.verdict(await unit.greylists.matching(scope.lookup_accounts))
    return {
        "account": scope.account,
        "status": _status(active=verdict.active),
        "decided_by": verdict.decisive.account if verdict.decisive else None,
        "exceptions": [_exception(setting) for setting in verdict.exceptions],
    }


async def update(unit: UnitOfWork, scope: Scope, changes: Mapping[str, Any]) -> None:
    """Enable or disable greylisting for a scope."""
    await permitted_to_write(unit, scope, _PROFILE)
    _check_account(unit, scope)
    active = changes["status"]
    there = await unit.greylists.get(scope.account)
    if there is not None and (there.active, there.priority, there.sender_priority) == (
        active, scope.iredapd_priority, 0,
    ):  # fmt: skip
        unit.report_changed([])
        return
    old = {"status": None if there is None else _status(active=there.active)}
    new = {"status": _status(active=active)}
    unit.report_changed(["status"], revisions.of_values, About.POLICY, old, new)
    await unit.greylists.save(scope.account, scope.iredapd_priority, active=active)
    unit.note(policy_event(Kind.IREDAPD, "greylisting", scope, _status(active=active)))


def _check_account(unit: ReadUnit, scope: Scope) -> None:
    longest = unit.greylists.longest
    if len(scope.account) > longest:
        raise problem(
            "account", "INVALID_TEXT", f"The maximum for greylisting is {longest} characters."
        )


async def remove(unit: UnitOfWork, scope: Scope) -> None:
    """Remove the setting of a scope, which then inherits one; a missing setting is no error."""
    await permitted_to_write(unit, scope, _PROFILE)
    gone = [await unit.greylists.remove(account) for account in scope.accounts]
    if unit.report_changed(["status"] if any(gone) else []):
        unit.note(policy_event(Kind.IREDAPD, "greylisting", scope, "remove", gone=True))


async def senders(unit: ReadUnit, scope: Scope, after: str, limit: int) -> list[str]:
    """Return the next senders of a whitelist, as they are stored."""
    await permitted(unit, scope, _PROFILE)
    return await unit.greylists.senders(scope.accounts, after, limit)


async def change_senders(unit: UnitOfWork, scope: Scope, changes: Mapping[str, Any]) -> None:
    """Replace a whitelist, or remove and then add senders.

    Senders that iRedAPD ignores are stored and reported as skipped (``NO_EFFECT``).
    """
    await permitted_to_write(unit, scope, _PROFILE)
    _check_account(unit, scope)
    for param, name in (("senders", "senders"), ("addSenders", "add_senders")):
        _check_length(param, changes.get(name, ()), unit.greylists.longest)
    added = changes.get("add_senders", ())
    gone = greylists.stored_forms(changes.get("remove_senders", ()))
    if gone.malformed:
        stored = await unit.greylists.stored_senders(scope.accounts, gone.malformed)
        _refuse_unknown("removeSenders", "INVALID_SENDER", gone.malformed - stored)
    before = await _listed(unit.greylists.senders, scope.accounts)
    _skip_absent(unit, before, changes, "remove_senders", greylists.stored_forms)
    if "senders" in changes:
        for account in scope.accounts:
            mine = account == scope.account
            await unit.greylists.replace_senders(account, changes["senders"] if mine else ())
    for account in scope.accounts if gone.texts else ():
        await unit.greylists.remove_senders(account, gone.texts - set(added))
    if added:
        await unit.greylists.add_senders(scope.account, added)
    for name in ("senders", "add_senders"):
        for sender in changes.get(name, ()):
            if sender_patterns.greylisting_ignores(sender):
                unit.skip(name, sender, NO_EFFECT)
    after = await _listed(unit.greylists.senders, scope.accounts)
    if unit.report_changed(["senders"] if before != after else []):
        unit.note(policy_event(Kind.IREDAPD, "greylisting whitelist", scope, _counted(changes)))


async def _listed(page: Callable[..., Awaitable[list[str]]], *args: Any) -> list[str]:
    found = some = await page(*args, "", _PAGE)
    while len(some) == _PAGE:
        some = await page(*args, some[-1], _PAGE)
        found = [*found, *some]
    return found


def _check_length(param: str, texts: Collection[str], longest: int) -> None:
    if any(len(text) > longest for text in texts):
        raise problem(param, "INVALID_SENDER", f"The maximum is {longest} characters.")


def _refuse_unknown(param: str, code: str, texts: Collection[str]) -> None:
    """Refuse malformed entries that are not stored; stored ones may be removed."""
    if texts:
        raise problem(param, code, f"{min(texts)[:80]!r} is malformed and is not stored.")


def _skip_absent(
    unit: UnitOfWork,
    present: Iterable[str],
    changes: Mapping[str, Any],
    param: str,
    named: Callable[[Iterable[str]], greylists.StoredForms],
) -> None:
    """Report entries to remove that do not exist as skipped."""
    asked = changes.get(param, ())
    there = set(map(fold, present)) if asked else set()
    for entry in asked:
        if there.isdisjoint(named([entry]).texts):
            unit.skip(param, entry, "NOT_FOUND")


def _counted(changes: Mapping[str, Any]) -> str:
    words = {"senders": "reset to", "domains": "reset to"}
    return ", ".join(
        f"{words.get(name, name.partition('_')[0])} {len(value)}"
        for name, value in sorted(changes.items())
        if isinstance(value, tuple)
    )


async def domains(unit: ReadUnit, after: str, limit: int) -> list[str]:
    """Return the next whitelisted sender domains."""
    return await unit.greylists.domains(after, limit)


async def check_domains(unit: ReadUnit, changes: Mapping[str, Any]) -> greylists.StoredForms:
    """Validate a change before DNS look-ups; return the entries to remove."""
    await unit.greylists.domains("", 1)  # raises if there is no iredapd database
    given = [name for name in ("domains", "add_domains") if name in changes]
    asked = bool(changes.get("query_dns_immediately"))
    if asked and not given:
        raise problem(
            "query_dns_immediately",
            "MISSING_COMPANION",
            "query_dns_immediately must be sent together with domains or addDomains.",
        )
    for name in given:
        if asked and len(changes[name]) > MAX_DNS_DOMAINS:
            raise problem(
                name, "INVALID_VALUE", f"At most {MAX_DNS_DOMAINS} domains with DNS queries."
            )
        longest = greylists.LONGEST_DOMAIN
        if any(len(domain) > longest for domain in changes[name]):
            raise problem(name, "INVALID_DOMAIN_NAME", f"The maximum is {longest} characters.")
    gone = greylists.stored_domain_forms(changes.get("remove_domains", ()))
    stored = await unit.greylists.stored_domains(gone.malformed)
    _refuse_unknown("removeDomains", "INVALID_DOMAIN_NAME", gone.malformed - stored)
    return gone


async def change_domains(
    unit: UnitOfWork, scope: Scope, changes: Mapping[str, Any], found: Mapping[str, Senders]
) -> None:
    """Change the whitelisted sender domains; ``found`` are DNS results to store.

    A complete result replaces the networks of its domain, a partial one adds to them.
    """
    gone = await check_domains(unit, changes)
    added = changes.get("add_domains", ())
    before = await _listed(unit.greylists.domains)
    _skip_absent(unit, before, changes, "remove_domains", greylists.stored_domain_forms)
    if "domains" in changes:
        await unit.greylists.replace_domains(changes["domains"])
    if gone.texts:
        await unit.greylists.remove_domains(gone.texts - set(added))
    if added:
        await unit.greylists.add_domains(added)
    networks = {
        domain: item.networks for domain, item in found.items() if item.networks or item.complete
    }
    if networks:
        complete = [domain for domain in networks if found[domain].complete]
        await unit.greylists.save_derived(networks, complete=complete)
    for domain, item in found.items():
        if item.reason:
            unit.skip("domains" if "domains" in changes else "add_domains", domain, item.reason)
    after = await _listed(unit.greylists.domains)
    # DNS results are always written, even if they are stored already.
    different = unit.report_changed(["domains"] if before != after or networks else [])
    if different and (counted := _counted(changes)):
        unit.note(policy_event(Kind.IREDAPD, "greylisting whitelist of domains", scope, counted))
