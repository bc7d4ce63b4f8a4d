"""Change all mail users of a domain in one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.domain import account_settings, limits, revisions
from iredapi.domain import changed_parameters as differences
from iredapi.domain.addresses import fold
from iredapi.domain.admins import keep_one_global_admin
from iredapi.domain.audit_events import Kind, Subject, domain_event
from iredapi.domain.domains import refusal
from iredapi.domain.transports import is_ordinary
from iredapi.domain.user_parameters import DIRECT_FIELDS
from iredapi.domain.wider_rights import PERSONAL
from iredapi.operations import accounts, wider_rights


async def update_all(
    unit: UnitOfWork, name: str, changes: Mapping[str, Any], password: str
) -> None:
    """Change all users of a domain; users whom the actor may not change are skipped."""
    actor = unit.actor
    if "transport" in changes and not actor.is_global:
        value = changes["transport"]
        domain = await accounts.known_domain(unit, name)
        ordinary = not value or is_ordinary(value, unit.rules.domains.hostname)
        if not ordinary or domain.hides("relay", of_user=True):
            raise refusal(["transport"])
    held = await accounts.claim_domain(unit, name)
    name = held.name
    exempt_admins: frozenset[str] = frozenset()
    globals_inside = await unit.users.globals_in(name)
    if not actor.is_global:
        exempt_admins = globals_inside
        if password or changes.keys() - PERSONAL:
            exempt_admins |= await wider_rights.users_with_wider_rights(unit, name)
    elif globals_inside and changes.get("account_status") is False:
        keep_one_global_admin(await unit.admins.globals_without((), domain=fold(name)))
    if actor.limited and (password or changes.get("account_status")):
        exempt_admins |= await unit.users.admins_in(name)
    for mail in sorted(exempt_admins):
        unit.skip("mail", mail, "PERMISSION_DENIED")
    values = dict(changes) | ({"password": password} if password else {})
    values.pop("password_hash", None)
    if "quota" in changes:
        most = account_settings.number(held.settings, "max_user_quota")
        sizes = await unit.users.sizes(name, changes["quota"], but=exempt_admins)
        values["quota"] = limits.quota_of_all(changes["quota"], most, held.quota, sizes)
        unit.adjust("quota", changes["quota"], values["quota"], "MAX_USER_QUOTA")
    old = await unit.users.save_all(name, values, but=exempt_admins)
    fields = {DIRECT_FIELDS.get(param, param): value for param, value in values.items()}
    new = {field: value for field, value in fields.items() if field in old}
    names = differences.of_user_fields(old)
    if unit.report_changed(names, revisions.of_fields_of_user, "", old, new):
        event = domain_event(Kind.UPDATE, name, f"all users: {accounts.parameter_names(changes)}")
        unit.note(replace(event, subject=Subject.USERS))
