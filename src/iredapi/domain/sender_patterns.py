"""Remote addresses of white/blacklists and greylisting: forms, normal form, and priorities.

They are stored as the daemons look them up: lower case, punycode, IP addresses in their canonical
text. The whole text must match a form.

==============  =================  ================================================
form            example            read by
==============  =================  ================================================
e-mail          ``user@d.com``     all, but see ``_LOCAL_PART``
IP address      ``192.0.2.1``      iRedAPD, inbound (Amavisd does not check clients)
wildcard IPv4   ``192.0.2.*``      iRedAPD's wblist only; third or last octet
network         ``192.0.2.0/24``   iRedAPD, from /8 on; IPv6 only in greylisting, ``…::/n``
any domain      ``user@*``         iRedAPD's wblist only
domain          ``@d.com``         all, without subdomains
subdomains      ``@.d.com``        all, including the domain itself
top level       ``@.com``          all
any             ``@.``             all, but not for the null sender
==============  =================  ================================================

The row with the higher priority has precedence; the order of equal priorities is random. Amavisd's
priorities (``users`` and ``mailaddr``) are 0 to 10; those of iRedAPD (``greylisting`` and
``throttle``) are in ``scopes``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from iredapi.domain import addresses
from iredapi.domain.addresses import InvalidAddress

EVERYBODY: Final = "@."
MAX_STORED: Final = 255
"""Maximum length of an address in ``amavisd``; in greylisting on MySQL it is 100."""

_PREFIX = re.compile(r"[0-9]{1,3}")
_OCTET = re.compile(r"0|[1-9][0-9]{0,2}")
_LOCAL_PART = re.compile(r"[\w#-][\w.=/&#-]*", re.ASCII)
"""Local parts that iRedAPD 6.1 looks up in wblists: it accepts no others as addresses, and it
removes extensions (``user+tag``) before the lookup."""
_SHORTEST_PREFIX = 8
"""Of IPv4 networks: iRedAPD looks up those with the first number of the client's address."""
_HINT = "not an e-mail address, @domain, @.domain, @., IP address or network"


class _Form(Enum):
    EMAIL = auto()
    IP = auto()
    WILDCARD_IP = auto()
    NETWORK = auto()
    ANY_DOMAIN = auto()
    DOMAIN = auto()
    SUBDOMAINS = auto()
    TOP_LEVEL = auto()
    AT_IP = auto()
    EVERYBODY = auto()


_AMAVISD_PRIORITIES: Final[Mapping[_Form, int]] = {
    _Form.EMAIL: 10,
    _Form.IP: 9,
    _Form.WILDCARD_IP: 8,
    _Form.NETWORK: 7,
    _Form.ANY_DOMAIN: 7,
    _Form.DOMAIN: 5,
    _Form.SUBDOMAINS: 3,
    _Form.TOP_LEVEL: 2,
    _Form.AT_IP: 1,
    _Form.EVERYBODY: 0,
}


def wblist_address(text: str) -> str:
    """Parse an address of a white/blacklist into its normal form. Raises InvalidAddress."""
    return _normal(text, MAX_STORED)[0]


def greylisting_sender(text: str, longest: int = MAX_STORED) -> str:
    """Parse a sender of greylisting into its normal form. Raises InvalidAddress.

    ``longest`` is the maximum length in the database.
    """
    address, form = _normal(text, longest)
    if form in {_Form.WILDCARD_IP, _Form.ANY_DOMAIN}:
        raise InvalidAddress("wildcards have no effect in greylisting")
    return address


def priority_amavisd(address: str) -> int:
    """Return the priority of an address in ``amavisd``, 0 to 10. Raises InvalidAddress."""
    return _AMAVISD_PRIORITIES[_form(address)]


def wblist_ignores(address: str, *, inbound: bool) -> bool:
    """Tell whether iRedAPD never finds an address (in normal form) in a white/blacklist."""
    form = _form(address)
    if form in {_Form.IP, _Form.WILDCARD_IP, _Form.NETWORK} and not inbound:
        return True  # it compares the client's address, not the destination's
    if form is _Form.NETWORK:
        return ":" in address or _is_too_wide(address)
    if form in {_Form.EMAIL, _Form.ANY_DOMAIN}:
        return not _LOCAL_PART.fullmatch(addresses.local_part_of(address))
    return False


def greylisting_ignores(address: str) -> bool:
    """Tell whether iRedAPD never finds a sender (in normal form) in a greylisting whitelist."""
    form = _form(address)
    if form is _Form.NETWORK:
        network, _, prefix = address.partition("/")
        if ":" in network:
            return prefix == "0" or not network.endswith(":")
        return _is_too_wide(address)
    return form is _Form.EMAIL and "+" in addresses.local_part_of(address)


def _is_too_wide(network: str) -> bool:
    return int(network.partition("/")[2]) < _SHORTEST_PREFIX


def _form(address: str) -> _Form:
    if address.startswith("@"):
        try:
            ip_address(address[1:])
        except ValueError:
            return _normal(address, MAX_STORED)[1]
        return _Form.AT_IP
    return _normal(address, MAX_STORED)[1]


def _normal(text: str, longest: int) -> tuple[str, _Form]:
    word = text.strip().lower()
    if "@" in word:
        address, form = _with_at(word)
    elif "/" in word:
        address, form = _network(word)
    elif "*" in word:
        address, form = _wildcard(word), _Form.WILDCARD_IP
    else:
        address, form = _ip(word), _Form.IP
    if len(address) > longest:
        raise InvalidAddress(f"longer than {longest} characters")
    return address, form


def _with_at(word: str) -> tuple[str, _Form]:
    if word == EVERYBODY:
        return word, _Form.EVERYBODY
    if word.startswith("@."):
        if "." in word[2:]:
            return f"@.{addresses.existing_domain(word[2:])}", _Form.SUBDOMAINS
        # A top-level domain is the last label of a domain's name.
        return f"@.{addresses.existing_domain(f'x.{word[2:]}')[2:]}", _Form.TOP_LEVEL
    if word.startswith("@"):
        return f"@{addresses.existing_domain(word[1:])}", _Form.DOMAIN
    if "*" in addresses.local_part_of(word):
        raise InvalidAddress("a wildcard stands for the whole domain, as in user@*")
    if word.endswith("@*"):
        mail = addresses.any_mail(f"{word[:-1]}example.com")
        return f"{addresses.local_part_of(mail)}@*", _Form.ANY_DOMAIN
    return addresses.any_mail(word), _Form.EMAIL


def _ip(word: str) -> str:
    try:
        found = ip_address(word)
    except ValueError:
        raise InvalidAddress(_HINT) from None
    return _canonical_ip(found)


def _canonical_ip(found: IPv4Address | IPv6Address) -> str:
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise InvalidAddress("an IP address must not have a zone")
        if found.ipv4_mapped is not None:
            # Postfix reports such clients with their IPv4 address.
            return str(found.ipv4_mapped)
    return str(found)


def _network(word: str) -> tuple[str, _Form]:
    try:
        if not _PREFIX.fullmatch(word.partition("/")[2]):
            raise ValueError
        found = ip_network(word)
    except ValueError:
        raise InvalidAddress("not a network, or bits after its prefix are set") from None
    if found.prefixlen == found.max_prefixlen:
        # iRedAPD does not find a single address stored as a network.
        return _canonical_ip(found.network_address), _Form.IP
    if isinstance(found, IPv6Network):
        if found.network_address.scope_id is not None:
            raise InvalidAddress("a network must not have a zone")
        if found.network_address.ipv4_mapped is not None:
            raise InvalidAddress("write an IPv4 network as IPv4, not as IPv6")
    return str(found), _Form.NETWORK


def _wildcard(word: str) -> str:
    octets = word.split(".")
    numbers = [octet for octet in octets if octet != "*"]
    # iRedAPD looks up the client's address with the last or the third octet replaced.
    if (
        len(octets) != 4
        or len(numbers) != 3
        or "*" not in octets[2:]
        or not all(_OCTET.fullmatch(octet) and int(octet) < 256 for octet in numbers)
    ):
        raise InvalidAddress("a wildcard can replace the third or last number of an IPv4 address")
    return word
