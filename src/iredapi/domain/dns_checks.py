"""The DNS records that a hosted domain needs, and whether what the DNS has means the same.

Pure: a check is a generator that yields questions, receives what was found, and returns verdicts.
So the rules need no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from iredapi.domain import spf
from iredapi.domain.dns_records import (
    INVALID,
    KEYS_NOT_READABLE,
    MAX_FOUND,
    MAX_TEXT,
    NO_RECORD,
    NO_SUCH_NAME,
    NOT_ASKED,
    NOT_CONFIGURED,
    NOT_LISTED,
    OTHER_HOST,
    OTHER_HOST_FIRST,
    OTHER_VALUE,
    REVOKED,
    SEVERAL,
    Asking,
    Check,
    Found,
    Status,
    Targets,
    Verdict,
    Verdicts,
    Wanted,
    absent,
    unknown,
)
from iredapi.domain.ownership import PREFIX
from iredapi.domain.spf import Question, Senders

DEFAULT_SELECTOR: Final = "dkim"
"""The selector of the keys that iRedMail makes."""
_POLICIES: Final = frozenset({"none", "quarantine", "reject"})


def checks(
    name: str, targets: Targets, *, backup: bool = False, codes: Sequence[str] = ()
) -> list[Check]:
    """Return the checks of one domain or alias domain.

    ``backup``: this server only relays the domain's mail. ``codes``: one of them has to be found.
    """
    every = [ownership(name, codes)] if codes else []
    every.append(_exchangers(name, targets.exchangers, backup=backup))
    if backup:
        return every
    every.append(_spf(name, targets))
    every += _dkim_checks(name, targets.keys)
    every.append(_dmarc(name, targets.dmarc))
    if targets.autoconfig:
        every.append(_host("autoconfig", name, targets.autoconfig))
    if targets.autodiscover:
        every.append(_host("autodiscover", name, targets.autodiscover, "_autodiscover._tcp."))
    if targets.tls_rpt:
        every.append(_tls_rpt(name, targets.tls_rpt))
    return every


# The proof of ownership ---------------------------------------------------------------------------


def ownership(name: str, codes: Sequence[str]) -> Check:
    """Return the check of the code that proves the ownership; ``found`` has the code."""

    def walk() -> Asking[Verdicts]:
        (found,) = yield (Question(name, "TXT"),)
        texts = [text.strip().strip('"') for text in found.records]
        for code in codes:
            if code in texts:
                return [Verdict(Status.OK, found=(code,))]
        others = tuple(text for text in texts if text.startswith(PREFIX))
        if others:
            shown = () if found.elsewhere else others[:MAX_FOUND]
            return [Verdict(Status.WRONG, OTHER_VALUE, shown)]
        return [absent(found)]

    return Check((Wanted("ownership", name, "TXT", codes[0]),), walk())


# MX -----------------------------------------------------------------------------------------------


def _exchangers(name: str, hosts: Sequence[str], *, backup: bool) -> Check:
    first = 20 if backup else 10
    wanted = tuple(
        Wanted("mx", name, "MX", f"{first + 10 * place} {host}.")
        for place, host in enumerate(hosts)
    )

    def walk() -> Asking[Verdicts]:
        (found,) = yield (Question(name, "MX"),)
        if not hosts:
            return [Verdict(Status.UNKNOWN, NOT_CONFIGURED, found.shown)]
        if not found.records:
            return [absent(found)] * len(hosts)
        there: dict[str, int] = {}
        for record in found.records:
            preference, _, host = record.partition(" ")
            there.setdefault(_host_name(host), int(preference))
        ours = [preference for host, preference in there.items() if host in hosts]
        others = [preference for host, preference in there.items() if host not in hosts]
        wrong = ""
        if not ours:
            wrong = OTHER_HOST
        elif others and not backup and min(others) <= min(ours):
            # All mail, or a part of it, goes to another server although this one works.
            wrong = OTHER_HOST_FIRST
        verdicts = []
        for host in hosts:
            if wrong:
                verdicts.append(Verdict(Status.WRONG, wrong, found.shown))
            elif host in there:
                verdicts.append(Verdict(Status.OK, found=found.shown))
            else:
                verdicts.append(Verdict(Status.MISSING, NO_RECORD, found.shown))
        return verdicts

    return Check(wanted or (Wanted("mx", name, "MX", None),), walk())


def _host_name(text: str) -> str:
    return text.strip().rstrip(".").lower()


# SPF ----------------------------------------------------------------------------------------------


def _spf(name: str, targets: Targets) -> Check:
    def walk() -> Asking[Verdicts]:
        (found,) = yield (Question(name, "TXT"),)
        texts = [text for text in found.records if text.split(" ", 1)[0].lower() == "v=spf1"]
        if not texts:
            return [absent(found)]
        shown = () if found.elsewhere else tuple(text[:MAX_TEXT] for text in texts[:MAX_FOUND])
        if len(texts) > 1:
            return [Verdict(Status.WRONG, SEVERAL, shown)]
        if not spf.is_valid(texts[0]):
            return [Verdict(Status.WRONG, INVALID, shown)]
        if _mechanisms(targets.spf) <= _mechanisms(texts[0]):
            return [Verdict(Status.OK, found=shown)]
        theirs = yield from _senders(name, texts[0])
        # ``mx`` stands for this server's exchangers, whatever the domain's own are.
        servers = " ".join(f"a:{host}" for host in targets.exchangers)
        words = (servers if word in {"mx", "+mx"} else word for word in targets.spf.split())
        ours = yield from _senders(name, " ".join(words))
        if ours.networks and not ours.reason and _covers(theirs.networks, ours.networks):
            return [Verdict(Status.OK, found=shown)]
        for reason in (theirs.reason, ours.reason):
            if reason in NOT_ASKED:
                return [Verdict(Status.UNKNOWN, reason, shown)]
        value = None if found.elsewhere else _with_mechanisms(texts[0], targets.spf)
        # Why not is not told: it would tell which names exist that the record mentions.
        return [Verdict(Status.WRONG, NOT_LISTED, shown, value)]

    return Check((Wanted("spf", name, "TXT", targets.spf),), walk())


def _mechanisms(record: str) -> set[str]:
    """Return the mechanisms of a record that let senders pass, up to the first ``all``."""
    found = set()
    for word in record.lower().split()[1:]:
        if word.lstrip("+-~?") == "all":
            break
        if word[0] not in "-~?" and "=" not in word:
            found.add(word.lstrip("+").rstrip("."))
    return found


def _with_mechanisms(record: str, ours: str) -> str:
    """Return a record with the mechanisms of ours that it lacks, before its own ones."""
    there, words = _mechanisms(record), ours.split()[1:]
    lacking = [word for word in words if _mechanisms(f"v=spf1 {word}") - there]
    return " ".join(["v=spf1", *lacking, *record.split()[1:]])


def _senders(name: str, text: str) -> Asking[Senders]:
    """Return the senders of a record."""
    walk = spf.senders(name)
    next(walk)  # the question for the record
    try:
        questions = walk.send(((text,),))
        while True:
            founds = yield questions
            for found in founds:
                if found.failed:
                    return Senders(reason=found.reason)
            questions = walk.send(tuple(map(_answer, questions, founds)))
    except StopIteration as end:
        senders: Senders = end.value
        return senders


def _answer(question: Question, found: Found) -> spf.Answer:
    if question.type != "MX":
        return found.records
    ordered = sorted((record.split(" ", 1) for record in found.records), key=lambda x: int(x[0]))
    return tuple(host for _, host in ordered)


def _covers(wide: Iterable[str], narrow: Iterable[str]) -> bool:
    networks = [ip_network(text) for text in wide]
    return all(any(_is_inside(ip_network(text), one) for one in networks) for text in narrow)


def _is_inside(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


# Records of tags ----------------------------------------------------------------------------------


def _tags(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in text.split(";"):
        name, equals, value = item.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _one_text(
    wanted: Wanted, is_one: Callable[[str], bool], fault: Callable[[str], str]
) -> Asking[Verdicts]:
    """Judge the one TXT record of a kind. ``fault`` returns what is wrong with it, or ""."""
    (found,) = yield (Question(wanted.name, "TXT"),)
    texts = [text for text in found.records if is_one(text)]
    if not texts:
        return [absent(found)]
    shown = () if found.elsewhere else tuple(text[:MAX_TEXT] for text in texts[:MAX_FOUND])
    wrong = SEVERAL if len(texts) > 1 else fault(texts[0])
    return [Verdict(Status.WRONG if wrong else Status.OK, wrong, shown)]


def _begins(text: str, version: str) -> bool:
    name, _, value = text.partition(";")[0].partition("=")
    return name.strip().lower() == "v" and value.strip() == version


def _dkim_checks(name: str, every: Mapping[tuple[str, str], str] | None) -> list[Check]:
    if every is None:
        wanted = Wanted("dkim", f"{DEFAULT_SELECTOR}._domainkey.{name}", "TXT", None)
        return [Check((wanted,), _known(unknown(KEYS_NOT_READABLE)))]
    own = {selector: text for (selector, domain), text in every.items() if domain == name}
    common = {selector: text for (selector, domain), text in every.items() if domain == "*"}
    keys: Mapping[str, str | None] = own or common or {DEFAULT_SELECTOR: None}
    return [_dkim(name, selector, text) for selector, text in sorted(keys.items())]


def _known(verdict: Verdict) -> Asking[Verdicts]:
    yield from ()
    return [verdict]


def _dkim(name: str, selector: str, record: str | None) -> Check:
    wanted = Wanted("dkim", f"{selector}._domainkey.{name}", "TXT", record)

    def is_key(text: str) -> bool:
        tags = _tags(text)
        return "p" in tags and tags.get("v", "DKIM1") == "DKIM1"

    def fault(text: str) -> str:
        there = _key(text)
        if not there[1]:
            return REVOKED
        return "" if record is None or there == _key(record) else OTHER_VALUE

    def walk() -> Asking[Verdicts]:
        verdicts = yield from _one_text(wanted, is_key, fault)
        if record is None and verdicts[0].status is Status.MISSING:
            return []  # neither configured nor found
        return verdicts

    return Check((wanted,), walk())


def _key(text: str) -> tuple[str, str]:
    tags = _tags(text)
    return tags.get("k", "rsa").lower(), "".join(tags.get("p", "").split())


def _dmarc(name: str, record: str) -> Check:
    wanted = Wanted("dmarc", f"_dmarc.{name}", "TXT", record)

    def fault(text: str) -> str:
        # Which of the policies is the domain's own choice.
        return "" if _tags(text).get("p", "").lower() in _POLICIES else INVALID

    return Check((wanted,), _one_text(wanted, lambda text: _begins(text, "DMARC1"), fault))


def _tls_rpt(name: str, address: str) -> Check:
    wanted = Wanted("tls_rpt", f"_smtp._tls.{name}", "TXT", f"v=TLSRPTv1; rua={address}")

    def fault(text: str) -> str:
        there = [item.strip().lower() for item in _tags(text).get("rua", "").split(",")]
        return "" if address.lower() in there else OTHER_VALUE

    return Check((wanted,), _one_text(wanted, lambda text: _begins(text, "TLSRPTv1"), fault))


# Hosts --------------------------------------------------------------------------------------------


def _host(kind: str, domain: str, target: str, service: str = "") -> Check:
    """Check that a name is another one for ``target``, or that the SRV record names it."""
    name = f"{kind}.{domain}"

    def walk() -> Asking[Verdicts]:
        offered = Found()
        if service:
            (offered,) = yield (Question(f"{service}{domain}", "SRV"),)
            if any(_host_name(record.split(" ")[-1]) == target for record in offered.records):
                return [Verdict(Status.OK, found=offered.shown)]
        (alias,) = yield (Question(name, "CNAME"),)
        if alias.failed or alias.reason == NO_SUCH_NAME:
            return [absent(offered if offered.failed else alias)]
        if any(_host_name(record) == target for record in alias.records):
            return [Verdict(Status.OK, found=alias.shown)]
        kinds: tuple[Question, ...] = (
            Question(name, "A"), Question(name, "AAAA"), Question(target, "A"),
            Question(target, "AAAA"),
        )  # fmt: skip
        founds = yield kinds
        there = {record for found in founds[:2] for record in found.records}
        ours = {record for found in founds[2:] for record in found.records}
        # What a CNAME leads to is another name's: its addresses are not shown.
        shown = alias.shown or tuple(sorted(there))[:MAX_FOUND]
        if there and there <= ours:
            return [Verdict(Status.OK, found=shown)]
        for found in (offered, *founds):
            if found.failed:
                return [unknown(found.reason)]
        if not there and not alias.records:
            return [Verdict(Status.MISSING, NO_RECORD)]
        return [Verdict(Status.WRONG, OTHER_HOST, shown)]

    return Check((Wanted(kind, name, "CNAME", f"{target}."),), walk())
