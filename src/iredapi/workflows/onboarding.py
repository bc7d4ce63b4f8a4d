"""What a domain needs in the DNS, and the proof that its admin owns it.

The DNS and web servers are asked between units of work: they may be slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dns.exception
import structlog

from iredapi.concurrency.turns import Turns
from iredapi.config.settings import Settings
from iredapi.domain import dns_checks, dns_records, ownership
from iredapi.domain.actors import Actor
from iredapi.domain.addresses import InvalidAddress, existing_domain, fold
from iredapi.domain.dns_records import Check, Status, Targets, Verdict, Wanted
from iredapi.errors import ApiError, Conflict, NotFound
from iredapi.operations import ownership as ownerships
from iredapi.runtime.context import AppContext
from iredapi.runtime.transactions import WriteResult

if TYPE_CHECKING:
    from iredapi.backends.domain_dns import Survey

_RETRY: Final = 60
"""Seconds after which a record that is published now may be seen."""
_WEB_SECONDS: Final = 5.0
"""Seconds for the web server of one name."""
_MAX_WEB: Final = 8
"""Web servers that are asked at a time."""
_AT_ONCE: Final = 4
_turns: Final = Turns(_AT_ONCE, f"{_AT_ONCE} requests of this admin ask the DNS already.")
"""Each request may take as long as it allows."""
_log = structlog.get_logger(__name__)


async def records(context: AppContext, actor: Actor, name: str) -> dict[str, Any]:
    """Return the records that a domain and its alias domains need, and what the DNS has.

    Raises NotFound.
    """
    settings = context.settings
    domain, standing = await context.read(actor, ownerships.known, name)
    waiting = {} if standing is None else standing.waiting
    verified = frozenset[str]() if standing is None else standing.verified
    own = fold(domain.name)
    names = [own, *sorted(domain.names - {own})]
    targets = await asyncio.to_thread(_targets, settings)
    groups = [
        dns_checks.checks(one, targets, backup=domain.backupmx, codes=waiting.get(one, ()))
        for one in names
    ]
    survey = _survey(settings)
    with _turns.of(actor.username):
        found = iter(await survey.run([check for group in groups for check in group]))
    live = domain.live_names
    described = []
    for one, group in zip(names, groups, strict=True):
        rows = [
            _described(wanted, verdict)
            for check in group
            for wanted, verdict in _paired(check, next(found))
        ]
        pending = ownership.PENDING if one in waiting else None
        described.append(
            {
                "name": one,
                "is_alias": one != own,
                "active": one in live and (one != own or domain.active),
                "ownership": ownership.VERIFIED if one in verified else pending,
                "web_file": f"http://{one}/{waiting[one][0]}"
                if one in waiting and settings.ownership_by_web
                else None,
                "records": rows,
            }
        )
    return {"domain": own, "names": described}


def _paired(check: Check, verdicts: list[Verdict]) -> list[tuple[Wanted, Verdict]]:
    return list(zip(check.wanted, verdicts, strict=True)) if verdicts else []


def _described(wanted: Wanted, verdict: Verdict) -> dict[str, Any]:
    value = wanted.value if verdict.value is None else verdict.value
    if value is None and verdict.status is Status.OK and verdict.found:
        value = verdict.found[0]  # a key that is not configured here: as it is
    return {
        "kind": wanted.kind,
        "name": wanted.name,
        "type": wanted.type,
        "value": value,
        "status": verdict.status.value,
        "reason": verdict.reason or None,
        "found": list(verdict.found),
    }


def _survey(settings: Settings) -> Survey:
    from iredapi.backends.domain_dns import Survey

    return Survey(settings.resolver, settings.dns_timeout)


def _targets(settings: Settings) -> Targets:
    keys: Mapping[tuple[str, str], str] | None = {}
    if settings.dkim_keys:
        from iredapi.backends.domain_dns import dkim_keys

        try:
            keys = dkim_keys(Path(settings.dkim_keys))
        except (OSError, ValueError) as error:
            keys = None
            _log.error("dkim_keys_not_read", reason=str(error))
    return Targets(
        exchangers=tuple(settings.mail_exchangers),
        spf=settings.dns_spf,
        dmarc=settings.dns_dmarc,
        autoconfig=settings.dns_autoconfig,
        autodiscover=settings.dns_autodiscover,
        tls_rpt=settings.dns_tls_rpt,
        keys=keys,
    )


async def verify(context: AppContext, actor: Actor, name: str) -> WriteResult:
    """Switch on a domain and its alias domains for which the code is found.

    Raises NotFound, NotSupported, Conflict if no code is found, and ApiError ``DNS_UNAVAILABLE``.
    """
    standing = await context.read(actor, ownerships.waiting, name)
    with _turns.of(actor.username):
        proved, not_found = await _looked_for(context.settings, standing.waiting)
    if standing.waiting and not proved:
        one, why = min(not_found.items())
        if set(not_found.values()) <= {dns_records.FAILURE, dns_records.TIMEOUT}:
            raise ApiError("DNS_UNAVAILABLE", f"{one}: {why}.", retry_after=_RETRY)
        raise Conflict(
            "OWNERSHIP_NOT_VERIFIED",
            f"Neither the DNS ({why}) nor the web server of {one} has the code."
            if context.settings.ownership_by_web
            else f"The DNS has no TXT record of {one} with the code ({why}).",
            retry_after=_RETRY,
        )
    done = await context.write(actor, ownerships.activate, name, proved, not_found)
    if proved:
        with suppress(NotFound):  # it was removed meanwhile
            await context.write(actor, ownerships.note_verified, name, proved)
    return done


async def _looked_for(
    settings: Settings, waiting: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the code that was found of each name, and why there is none of the others."""
    names = sorted(waiting)
    survey = _survey(settings)
    found = await survey.run([dns_checks.ownership(one, waiting[one]) for one in names])
    proved = {
        one: verdict.found[0]
        for one, (verdict,) in zip(names, found, strict=True)
        if verdict.status is Status.OK
    }
    not_found = {
        one: verdict.reason
        for one, (verdict,) in zip(names, found, strict=True)
        if verdict.status is not Status.OK
    }
    if settings.ownership_by_web:
        limit = asyncio.Semaphore(_MAX_WEB)

        async def read(one: str) -> None:
            async with limit:
                for code in waiting[one]:
                    if await _has_file(settings, survey, one, code):
                        proved[one] = code
                        del not_found[one]
                        return

        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _WEB_SECONDS):
                await asyncio.gather(*map(read, [*not_found]))
    return proved, not_found


async def _has_file(settings: Settings, survey: Survey, name: str, code: str) -> bool:
    from iredapi.backends import web_file

    try:
        addresses = await survey.addresses(existing_domain(name))
    except (InvalidAddress, TimeoutError, OSError, dns.exception.DNSException):
        return False
    allowed = [ip_network(text) for text in settings.ownership_web_networks]
    return await web_file.read(name, code, addresses, allowed, _WEB_SECONDS) == code
