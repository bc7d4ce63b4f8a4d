"""Which names of a domain wait for a proof that their admin owns them.

The rows are those of iRedAdmin's table ``domain_ownership``. A name is the domain, or one of its
alias domains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from iredapi.domain.addresses import fold
from iredapi.domain.domains import Domain

PREFIX: Final = "iredmail-domain-verification-"
"""How each code begins, as iRedAdmin's do."""
PENDING: Final = "pending"
VERIFIED: Final = "verified"


@dataclass(frozen=True, slots=True)
class Proof:
    """A row: the code that an admin has to publish, and whether it was found."""

    admin: str
    name: str
    code: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the ownership of a domain and its alias domains."""

    waiting: Mapping[str, Sequence[str]]
    """Folded name → the codes of which one has to be published."""
    verified: frozenset[str]
    disabled: frozenset[str]
    """Names that get no mail, and for another reason than a proof that is still to come."""


def standing(domain: Domain, proofs: Iterable[Proof]) -> Standing:
    """Return the standing of a domain's names. Rows of other names are left out."""
    names, waiting, verified = domain.names, dict[str, list[str]](), set[str]()
    for proof in sorted(proofs, key=lambda proof: proof.admin):
        name = fold(proof.name)
        if name not in names:
            continue
        if proof.verified:
            verified.add(name)
        else:
            waiting.setdefault(name, []).append(proof.code)
    silent = set(map(fold, domain.inactive_alias_domains))
    if not domain.active:
        silent.add(fold(domain.name))
    return Standing(waiting, frozenset(verified - waiting.keys()), frozenset(silent - {*waiting}))


def activated(domain: Domain, names: Iterable[str]) -> Domain:
    """Return the domain with these of its names switched on."""
    on = set(map(fold, names))
    still = frozenset(name for name in domain.inactive_alias_domains if fold(name) not in on)
    active = domain.active or fold(domain.name) in on
    return replace(domain, active=active, inactive_alias_domains=still)
