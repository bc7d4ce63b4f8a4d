"""URLs of other people's servers: what is taken, and the parts that a request needs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from iredapi.domain import addresses

MAX_URL: Final = 1024
"""Characters."""
PORTS: Final = {"https": 443, "http": 80}
_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[!-~]*)?(?:\?[!-~]*)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL in parts. It is not shown in logs: path and query may hold a secret."""

    scheme: str
    host: str
    """A name in lower case, or an IP address without brackets."""
    port: int
    path: str = field(default="/", repr=False)
    """With the query."""

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host, if it is an IP address."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """The value of the header ``Host``."""
        return with_port(self.host, self.port, self.scheme)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def with_port(host: str, port: int, scheme: str) -> str:
    """Return a name or address for a URL, with its port unless that is the scheme's own."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port == PORTS[scheme] else f"{shown}:{port}"


def parse(text: str) -> HttpUrl:
    """Parse a URL. Raises ValueError, whose text says what is wrong and does not quote the URL.

    The host is a name of at least two labels, or an IP address in its usual form: not a number, nor
    an address with octal or hexadecimal parts, which some programs take for addresses.
    """
    if len(text) > MAX_URL:
        raise ValueError(f"at most {MAX_URL} characters are expected")
    authority = text.partition("://")[2].partition("/")[0].partition("?")[0]
    if "@" in authority:
        raise ValueError("a URL with user or password is not taken: requests are signed")
    if "#" in text:
        raise ValueError("a URL with # is not taken: that part is never sent")
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError("a URL such as https://host.example.com/path is expected, in ASCII")
    scheme, host = found["scheme"].lower(), found["host"].lower().rstrip(".")
    if host.startswith("["):
        try:
            host = str(IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError("an IPv6 address is expected between [ and ]") from None
    elif re.fullmatch(r"[0-9.]+", host):
        try:
            host = str(IPv4Address(host))
        except ValueError:
            raise ValueError("an IPv4 address has four decimal parts") from None
    else:
        try:
            host = addresses.domain_name(host)
        except addresses.InvalidAddress:
            raise ValueError("the host is no name with a domain, and no IP address") from None
    port = int(found["port"] or PORTS[scheme])
    if not 0 < port < 2**16:
        raise ValueError("a port is a number from 1 to 65535")
    path = found["path"]
    return HttpUrl(scheme, host, port, path if path.startswith("/") else f"/{path}")
