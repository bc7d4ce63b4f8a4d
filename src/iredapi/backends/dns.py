"""DNS look-ups of the networks of sender domains, for the questions of ``domain.spf``."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from iredapi.domain import spf
from iredapi.domain.spf import Answer, Question, Senders

PORT: Final = 53
_MAX_CONCURRENT: Final = 16
_FAILURE: Final = "DNS_FAILURE"
_TIMEOUT: Final = "DNS_TIMEOUT"


class SenderDns:
    """Finds the networks of sender domains with one resolver, within a time limit."""

    def __init__(self, resolver: tuple[str, int] | None, timeout: float) -> None:
        """``resolver`` is an address and a port, or None for the system's; time in seconds."""
        self._address = resolver
        self._timeout = timeout

    async def senders(self, domains: Collection[str]) -> dict[str, Senders]:
        """Return the senders of each domain. The time limit is for all domains together."""
        if not domains:
            return {}
        try:
            resolver = make_resolver(self._address, self._timeout)
        except (dns.exception.DNSException, OSError):
            return dict.fromkeys(domains, Senders(reason=_FAILURE))
        semaphore = asyncio.Semaphore(_MAX_CONCURRENT)
        found = dict.fromkeys(domains, Senders(reason=_TIMEOUT))

        async def find(domain: str) -> None:
            async with semaphore:
                found[domain] = await _walk(resolver, domain)

        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout), asyncio.TaskGroup() as group:
                for domain in found:
                    group.create_task(find(domain))
        return found


def make_resolver(address: tuple[str, int] | None, timeout: float) -> dns.asyncresolver.Resolver:
    """Return a resolver for one request. Raises DNSException or OSError.

    A new one for each call: the system's configuration may have changed.
    """
    resolver = dns.asyncresolver.Resolver(configure=address is None)
    if address is not None:
        resolver.nameservers = [address[0]]
        resolver.port = address[1]
    resolver.timeout = min(resolver.timeout, timeout)
    resolver.lifetime = timeout
    resolver.cache = dns.resolver.Cache()  # many domains include the same record
    return resolver


async def _walk(resolver: dns.asyncresolver.Resolver, domain: str) -> Senders:
    walk = spf.senders(domain)
    try:
        questions = next(walk)
        while True:
            answers = await asyncio.gather(*(_ask(resolver, question) for question in questions))
            questions = walk.send(tuple(answers))
    except StopIteration as end:
        found: Senders = end.value
        return found
    except dns.exception.DNSException:
        # An incomplete result must not replace the stored networks.
        return Senders(reason=_FAILURE)


async def _ask(resolver: dns.asyncresolver.Resolver, question: Question) -> Answer:
    try:
        name = dns.name.from_text(question.name)
    except dns.exception.DNSException:
        return ()  # the record contains an invalid name
    try:
        answer = await resolver.resolve(name, question.type, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
        return ()
    records = list(answer.rrset or ())
    if question.type == "TXT":
        texts = (b"".join(record.strings) for record in records if isinstance(record, TXT))
        return tuple(text.decode("ascii", "replace") for text in texts)
    if question.type == "MX":
        exchangers = [record for record in records if isinstance(record, MX)]
        exchangers.sort(key=lambda record: (record.preference, record.exchange))
        return tuple(record.exchange.to_text() for record in exchangers)
    return tuple(record.to_text() for record in records)
