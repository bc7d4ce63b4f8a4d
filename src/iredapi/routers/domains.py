"""Mail domains and their admins."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.operations import account_lists, domains, usage, versions
from iredapi.operations.account_lists import DOMAINS
from iredapi.schemas.canonical import CanonicalDomain
from iredapi.schemas.domains import (
    DomainAdmins,
    DomainDraft,
    DomainEdit,
    DomainFilter,
    DomainView,
    Keep,
)
from iredapi.schemas.profiles import DirectoryProfile, DomainProfile
from iredapi.web import pages, responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import mailing_lists

router = Router(tags=["Domain"])


@router.operation(
    "GET",
    "/domains",
    Action.DOMAINS_LIST,
    DomainFilter,
    answer=list[DomainProfile | DirectoryProfile | CanonicalDomain | str],
    errors=["INVALID_CURSOR"],
)
async def list_domains(call: OperationRequest[DomainFilter]) -> Response:
    """List the domains that the admin manages.

    Profiles without counters, sorted by name; or plain names with `name_only=yes`.
    """
    if call.form.asks_for_more:
        return await pages.answer(call, account_lists.of_all, DOMAINS, call.form.shape)
    profiles = domains.canonical_views if call.form.is_canonical else domains.page
    chosen = domains.names if call.form.name_only else profiles
    return await call.listing(chosen, "domain", disabled_only=bool(call.form.disabled_only))


@router.operation(
    "GET",
    "/domain/{domain}",
    Action.DOMAIN_READ,
    DomainView,
    answer=DomainProfile | DirectoryProfile | CanonicalDomain,
    errors=["NO_SUCH_DOMAIN"],
    versions=versions.DOMAIN,
)
async def get_domain(call: OperationRequest[DomainView]) -> Response:
    """Show a domain, with the number of its accounts and its quota."""
    chosen = domains.canonical_view if call.form.is_canonical else domains.profile
    shown, state = await call.profile(chosen, call.target.domain)
    if call.form.wants_usage:
        # Without an ETag: it does not tell the usage.
        return responses.success(await call.read(usage.with_domain, shown, call.target.domain))
    return call.tagged(responses.success(shown), state, canonical=call.form.is_canonical)


@router.operation(
    "POST",
    "/domain/{domain}",
    Action.DOMAIN_CREATE,
    DomainDraft,
    errors=["ALREADY_EXISTS", "EXCEED_LIMIT_DOMAIN", "EXCEED_LIMIT_QUOTA"],
)
async def create_domain(call: OperationRequest[DomainDraft]) -> Response:
    """Create a domain.

    A normal admin who creates a domain becomes its admin; the limits of this admin apply.
    """
    return await call.write(domains.create, call.target.domain, call.form.changes())


@router.operation(
    "PUT",
    "/domain/{domain}",
    Action.DOMAIN_UPDATE,
    DomainEdit,
    errors=["NO_SUCH_DOMAIN", "ALREADY_EXISTS", "EXCEED_LIMIT_QUOTA"],
    versions=versions.DOMAIN,
)
async def update_domain(call: OperationRequest[DomainEdit]) -> Response:
    """Change a domain: what is not sent stays as it is."""
    return await call.write(domains.update, call.target.domain, call.form.changes())


@router.operation(
    "DELETE",
    "/domain/{domain}/keep_mailbox_days/{number}",
    Action.DOMAIN_DELETE,
    Keep,
    errors=["NO_SUCH_DOMAIN", "LAST_GLOBAL_ADMIN", "INVALID_NUMBER"],
    versions=versions.DOMAIN,
)
@router.operation(
    "DELETE",
    "/domain/{domain}",
    Action.DOMAIN_DELETE,
    Keep,
    errors=["NO_SUCH_DOMAIN", "LAST_GLOBAL_ADMIN"],
    versions=versions.DOMAIN,
)
async def delete_domain(call: OperationRequest[Keep]) -> Response:
    """Delete a domain with all its accounts.

    Mailboxes stay on disk: for ever, or for a number of days. Then a cron job of the mail server
    removes them. Mailing lists are moved to the archive; if the list server cannot be reached, a
    domain with mailing lists is not deleted.
    """
    return call.done(
        await mailing_lists.remove_domain(call.context, call.actor, call.target.domain, call.days)
    )


@router.operation(
    "PUT",
    "/domain/admins/{domain}",
    Action.DOMAIN_ADMINS,
    DomainAdmins,
    errors=["NO_SUCH_DOMAIN"],
    versions=versions.DOMAIN,
)
async def change_domain_admins(call: OperationRequest[DomainAdmins]) -> Response:
    """Give a domain to admins, or take it from them."""
    return await call.write(domains.change_admins, call.target.domain, call.form.changes())
