"""The addresses that a domain sends mail from: by SPF, its mail exchangers, or its own addresses.

Pure: ``senders`` is a generator that yields DNS questions and receives the answers, so the rules
need no network. The limits are those of RFC 7208: 10 mechanisms that need the DNS, 10 mail
exchangers of one name, 2 lookups without an answer. SPF evaluates a record from left to right:
addresses found before a limit, or before an include that cannot be read, are valid and kept.

Only mechanisms with the result pass are used: not ``?include:``, not ``+all``. ``exists``, ``ptr``
and names with macros depend on the client and give no addresses.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal

from iredapi.domain.sender_patterns import greylisting_sender

MAX_LOOKUPS: Final = 10
MAX_VOID: Final = 2
MAX_EXCHANGERS: Final = 10
MAX_NETWORKS: Final = 1000
"""Maximum number of networks of one domain: a hostile record must not fill the table."""
MAX_TERMS: Final = MAX_NETWORKS
"""Maximum number of words of one record that are parsed."""
NOTHING: Final = "NO_DNS_RECORDS"
LIMIT: Final = "SPF_LIMIT"
INVALID: Final = "SPF_INVALID"

_WIDEST: Final = {4: 8, 6: 16}
"""Minimum prefix lengths. Wider networks are no plausible senders, and iRedAPD finds no IPv4
network wider than /8."""
_TERM = re.compile(r"([+?~-]?)(all|include|a|mx|ptr|exists|ip4|ip6)(?:([:/])(\S*))?", re.IGNORECASE)
_PREFIXES = re.compile(r"([^/]*)(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?")
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(\S*)", re.IGNORECASE)
_NEEDS_DNS: Final = frozenset({"include", "a", "mx", "ptr", "exists"})
_NULL_EXCHANGER: Final = "."


@dataclass(frozen=True, slots=True)
class Question:
    """A DNS question."""

    name: str
    type: Literal["TXT", "MX", "A", "AAAA", "CNAME", "SRV"]


@dataclass(frozen=True, slots=True)
class Senders:
    """Addresses and networks in normal form; ``reason``: why some are missing, or empty."""

    networks: tuple[str, ...] = ()
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether no address is missing; a record without addresses is complete, too."""
        return not self.reason


Answer = tuple[str, ...]
"""TXT records, mail exchangers by preference, or addresses; empty: no such name or record."""
Walk = Generator[tuple[Question, ...], tuple[Answer, ...], None]


@dataclass(frozen=True, slots=True)
class _Term:
    passes: bool
    name: str
    value: str
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class _Record:
    terms: tuple[_Term, ...]
    redirect: str
    cut: bool = False
    """Whether the record has more words than ``MAX_TERMS``."""


class _StopError(Exception):
    """Evaluation stops; the text is the ``reason`` of ``Senders``."""


def senders(domain: str) -> Generator[tuple[Question, ...], tuple[Answer, ...], Senders]:
    """Yield DNS questions, receive their answers, and return the domain's senders."""
    walk = _Walk()
    reason = ""
    try:
        yield from walk.start(domain)
    except _StopError as stop:
        reason = str(stop)
    return Senders(tuple(walk.found), reason or ("" if walk.found or walk.published else NOTHING))


class _Walk:
    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        self.published = False
        """Whether the domain has an SPF record."""
        self._lookups = 0
        self._void = 0

    def start(self, domain: str) -> Walk:
        (texts,) = yield (Question(domain, "TXT"),)
        record = _record(texts)
        if record is not None:
            self.published = True
            yield from self._follow(record, domain)
            return
        (exchangers,) = yield (Question(domain, "MX"),)
        yield from self._hosts(exchangers[:MAX_EXCHANGERS] or (domain,), 32, 128)

    def _follow(self, record: _Record, domain: str) -> Walk:
        for term in record.terms:
            if term.name == "all":
                return
            if term.name in _NEEDS_DNS:
                self._count()
            if term.passes and "%" not in term.value:
                yield from self._mechanism(term, domain)
        if record.cut:
            raise _StopError(LIMIT)
        if record.redirect:
            self._count()
            if "%" not in record.redirect:
                yield from self._other(record.redirect)

    def _mechanism(self, term: _Term, domain: str) -> Walk:
        name = term.value or domain
        if term.name in {"ip4", "ip6"}:
            self._keep(term.value)
        elif term.name == "include":
            yield from self._other(name)
        elif term.name == "a":
            yield from self._hosts((name,), term.prefix4, term.prefix6)
        elif term.name == "mx":
            (exchangers,) = yield (Question(name, "MX"),)
            if not exchangers:
                self._count_void()
            if len(exchangers) > MAX_EXCHANGERS:
                raise _StopError(LIMIT)
            yield from self._hosts(exchangers, term.prefix4, term.prefix6)

    def _other(self, domain: str) -> Walk:
        (texts,) = yield (Question(domain, "TXT"),)
        if not texts:
            self._count_void()
        record = _record(texts)
        if record is None:
            raise _StopError(INVALID)
        yield from self._follow(record, domain)

    def _hosts(self, names: Sequence[str], prefix4: int, prefix6: int) -> Walk:
        for name in names:
            if name == _NULL_EXCHANGER:
                continue
            v4, v6 = yield (Question(name, "A"), Question(name, "AAAA"))
            if not v4 and not v6:
                self._count_void()
            for prefix, found in ((prefix4, v4), (prefix6, v6)):
                for address in found:
                    self._keep(f"{address}/{prefix}")

    def _keep(self, text: str) -> None:
        network = ip_network(text, strict=False)
        if network.prefixlen < _WIDEST[network.version]:
            return
        if len(self.found) >= MAX_NETWORKS:
            raise _StopError(LIMIT)
        try:
            self.found[greylisting_sender(str(network))] = None
        except ValueError:
            return  # an IPv4-mapped network

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _StopError(LIMIT)

    def _count_void(self) -> None:
        self._void += 1
        if self._void > MAX_VOID:
            raise _StopError(LIMIT)


def is_valid(text: str) -> bool:
    """Tell whether a text is an SPF record that can be read."""
    try:
        return _record((text,)) is not None
    except _StopError:
        return False


def _record(texts: Answer) -> _Record | None:
    records = [text for text in texts if text.split(" ", 1)[0].lower() == "v=spf1"]
    if len(records) > 1:
        raise _StopError(INVALID)
    return _parsed(records[0]) if records else None


def _parsed(text: str) -> _Record:
    terms: list[_Term] = []
    redirect = ""
    words = text.split(" ", MAX_TERMS + 1)[1:]
    for word in words[:MAX_TERMS]:
        if not word:
            continue
        if modifier := _MODIFIER.fullmatch(word):
            if modifier[1].lower() == "redirect":
                redirect = modifier[2]
            continue
        terms.append(_term(word))
    redirect = "" if any(t.name == "all" for t in terms) else redirect
    return _Record(tuple(terms), redirect, cut=len(words) > MAX_TERMS)


def _term(word: str) -> _Term:
    match = _TERM.fullmatch(word)
    if match is None:
        raise _StopError(INVALID)
    qualifier, name, sign, rest = match.groups()
    name, rest = name.lower(), rest or ""
    passes = qualifier in {"", "+"}
    if name in {"ip4", "ip6"}:
        return _Term(passes, name, _network(rest, IPv4Network if name == "ip4" else IPv6Network))
    if name in {"a", "mx"}:
        prefixes = _PREFIXES.fullmatch(f"/{rest}" if sign == "/" else rest)
        if prefixes is None:
            raise _StopError(INVALID)
        value, prefix4, prefix6 = prefixes.groups()
        four, six = int(prefix4 or 32), int(prefix6 or 128)
        if four > 32 or six > 128 or (sign == ":" and not value):
            raise _StopError(INVALID)
        return _Term(passes, name, value, four, six)
    if sign == "/" or (not rest and name in {"include", "exists"}):
        raise _StopError(INVALID)
    return _Term(passes, name, rest)


def _network(text: str, kind: type[IPv4Network | IPv6Network]) -> str:
    try:
        return str(kind(text, strict=False))
    except ValueError:
        raise _StopError(INVALID) from None
