"""Greylisting. Routes with a fixed word come before those with an account, or would not match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.greylists import Setting
from iredapi.domain.spf import Senders
from iredapi.operations import greylists
from iredapi.schemas.greylists import (
    GreylistingDomainsEdit,
    GreylistingEdit,
    GreylistingSendersEdit,
)
from iredapi.schemas.params import NoParams
from iredapi.schemas.policies import Effective
from iredapi.schemas.profiles import GreylistingProfile, GreylistingRow
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Greylisting"])
_DOMAINS: Final = "/greylisting/whitelist_spf_domains"
_ACCOUNT: Final = "/greylisting/{account}"
_SENDERS: Final = "/greylisting/{account}/whitelists"
_ERRORS: Final = ("NOT_SUPPORTED_BY_BACKEND",)


@router.operation(
    "GET",
    "/greylisting/all",
    Action.GREYLISTINGS_LIST,
    NoParams,
    answer=list[GreylistingRow],
    errors=_ERRORS,
)
async def list_greylistings(call: OperationRequest[NoParams]) -> Response:
    """List the greylisting settings of all accounts, in the order in which iRedAPD tries them.

    Of the settings that apply to a recipient, the first one whose sender matches decides.
    """
    last: list[Setting] = []

    async def fetch(_after: str, limit: int) -> list[Any]:
        found = await call.read(greylists.page, last[-1] if last else None, limit)
        last[:] = found[-1:]
        return [greylists.to_response(setting) for setting in found]

    return await call.pages(fetch, _account)


def _account(row: Any) -> str:
    return str(row["account"])


@router.operation(
    "GET",
    _DOMAINS,
    Action.GREYLISTING_DOMAINS_READ,
    NoParams,
    answer=list[str],
    errors=_ERRORS,
)
async def get_greylisting_domains(call: OperationRequest[NoParams]) -> Response:
    """List the sender domains whose networks are whitelisted for all recipients, sorted."""
    return await call.listing(greylists.domains, "")


@router.operation(
    "POST",
    _DOMAINS,
    Action.GREYLISTING_DOMAINS_UPDATE,
    GreylistingDomainsEdit,
    errors=[*_ERRORS, "INVALID_DOMAIN_NAME", "CONFLICTING_PARAMETERS", "MISSING_COMPANION"],
)
async def change_greylisting_domains(call: OperationRequest[GreylistingDomainsEdit]) -> Response:
    """Whitelist the networks from which sender domains send, for all recipients.

    iRedAPD does not use the domain names when mail arrives. Every hour a cron job of the mail
    server (`spf_to_greylist_whitelists.py` of iRedAPD) asks the DNS for the networks of the domains
    (SPF, or else MX) and whitelists those. With `query_dns_immediately=yes` the API does so at once
    and finds more: the cron job does not look up addresses of a domain that has neither, and skips
    `a/24`, `mx/28`, `a:host/25` and `ip4:` with bits behind its prefix. **The cron job replaces
    what is stored for the domains, and so removes what only the API found.** A complete DNS answer
    replaces the networks of a domain. An incomplete one adds the networks that were found, and the
    domain is listed in `_skipped` with the reason: `DNS_FAILURE`, `DNS_TIMEOUT`, `NO_DNS_RECORDS`,
    `SPF_INVALID`, or `SPF_LIMIT` if it needs more DNS queries than mail servers allow. One call
    looks up at most 100 domains. The networks of a removed domain are removed too.
    """
    changes = call.form.changes()
    asked = changes.get("domains") or changes.get("add_domains") or ()
    found: Mapping[str, Senders] = {}
    if changes.get("query_dns_immediately"):
        # The DNS may be slow: it is asked before rows are locked, and after the request is checked.
        await call.read(greylists.check_domains, changes)
        found = await call.context.dns.senders(asked)
    return await call.write(greylists.change_domains, call.target.whom, changes, found)


@router.operation(
    "GET",
    _SENDERS,
    Action.GREYLISTING_SENDERS_READ,
    NoParams,
    answer=list[str],
    errors=_ERRORS,
)
async def get_greylisting_senders(call: OperationRequest[NoParams]) -> Response:
    """List the senders whose mail to an account is not greylisted, sorted.

    These are only the account's own entries; those of its domain and the global ones apply as well.
    """
    return await call.listing(greylists.senders, "", call.target.whom)


@router.operation(
    "POST",
    _SENDERS,
    Action.GREYLISTING_SENDERS_UPDATE,
    GreylistingSendersEdit,
    errors=[*_ERRORS, "INVALID_SENDER", "CONFLICTING_PARAMETERS"],
)
async def change_greylisting_senders(call: OperationRequest[GreylistingSendersEdit]) -> Response:
    """Whitelist senders whose mail to an account is not greylisted.

    The whitelists of `/wblist` are different ones: a sender on those is still greylisted. A match
    with an entry of the user, of the domain or a global one is enough. A network of one address is
    stored as that address. Entries that iRedAPD ignores are stored, and listed in `_skipped` with
    the reason `NO_EFFECT`: IPv6 networks that are not written with `::/`, `::/0`, IPv4 networks
    larger than /8, and addresses with an extension (`user+tag@example.com`).
    """
    return await call.write(greylists.change_senders, call.target.whom, call.form.changes())


@router.operation(
    "GET",
    _ACCOUNT,
    Action.GREYLISTING_READ,
    Effective,
    answer=GreylistingProfile,
    errors=_ERRORS,
)
async def get_greylisting(call: OperationRequest[Effective]) -> Response:
    """Show whether greylisting is enabled, disabled or inherited for an account.

    With `effective=yes`: whether its mail is greylisted, and whose setting decides. Without any
    setting greylisting is off.
    """
    chosen = greylists.effective if call.form.effective else greylists.profile
    return responses.success(await call.read(chosen, call.target.whom))


@router.operation("POST", _ACCOUNT, Action.GREYLISTING_UPDATE, GreylistingEdit, errors=_ERRORS)
async def set_greylisting(call: OperationRequest[GreylistingEdit]) -> Response:
    """Enable or disable greylisting for an account.

    A user's setting overrides the domain's, and that overrides the global one.
    """
    return await call.write(greylists.update, call.target.whom, call.form.changes())


@router.operation("DELETE", _ACCOUNT, Action.GREYLISTING_DELETE, NoParams, errors=_ERRORS)
async def delete_greylisting(call: OperationRequest[NoParams]) -> Response:
    """Remove an account's greylisting setting, so that it is inherited.

    Without the global setting greylisting is off for all accounts that have no setting. Settings
    for single senders, which other tools can create, stay.
    """
    return await call.write(greylists.remove, call.target.whom)
