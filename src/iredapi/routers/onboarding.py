"""The DNS records of domains, and proofs of their ownership."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.schemas.onboarding import DnsOfDomain
from iredapi.schemas.params import NoParams
from iredapi.web import responses
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Domain"])


@router.operation(
    "GET",
    "/domain/{domain}/dns",
    Action.DOMAIN_DNS_READ,
    NoParams,
    answer=DnsOfDomain,
    errors=["NO_SUCH_DOMAIN"],
)
async def get_domain_dns(call: OperationRequest[NoParams]) -> Response:
    """Show the DNS records that a domain and its alias domains need, and what the DNS has.

    Records are compared by what they mean: an SPF record may list other senders too, and a key may
    be cut into strings. The DNS is asked anew each time, for `IREDAPI_DNS_TIMEOUT` seconds at most.
    """
    from iredapi.workflows import onboarding

    shown = await onboarding.records(call.context, call.actor, call.target.domain)
    return responses.success(shown)


@router.operation(
    "POST",
    "/domain/{domain}/verify",
    Action.DOMAIN_VERIFY,
    NoParams,
    errors=[
        "NO_SUCH_DOMAIN",
        "OWNERSHIP_NOT_VERIFIED",
        "OWNERSHIP_NOT_PENDING",
        "DNS_UNAVAILABLE",
        "NOT_SUPPORTED_BY_BACKEND",
    ],
)
async def verify_domain(call: OperationRequest[NoParams]) -> Response:
    """Switch on a domain and its alias domains whose ownership is proved now.

    A domain that a normal admin has added waits for a proof if `IREDAPI_REQUIRE_DOMAIN_OWNERSHIP`
    is set, and so does an alias domain: a TXT record with a code, or a file at its web server.
    `GET /domain/{domain}/dns` shows both. Names without a proof are in `_skipped`; without any
    proof the request is refused. What an admin has disabled for another reason stays disabled.
    """
    from iredapi.workflows import onboarding

    return call.done(await onboarding.verify(call.context, call.actor, call.target.domain))
