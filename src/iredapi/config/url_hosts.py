"""URLs of databases that name several servers, in the forms that libpq has for it.

``postgresql://user@h1:p1,h2:p2/name``, ``…/name?host=h1,h2&port=p1,p2`` and
``…/name?host=h1:p1&host=h2:p2`` become the last one, with all ports. ``mysql://`` likewise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from sqlalchemy.engine import URL

Place = tuple[str, int]
"""A host (or the directory of PostgreSQL's socket), and a port."""
_AUTHORITY: Final = re.compile(
    r"(?P<scheme>[^/?#]+://)(?P<authority>[^/?]*)(?P<rest>.*)", re.DOTALL
)
_TWICE: Final = "host: it stands before the name of the database, and after the ?, too"
_POSTGRESQL: Final = 5432
_MYSQL: Final = 3306
_WANTED: Final = ("any", "primary", "read-write")
ATTRIBUTES: Final = "target_session_attrs"


@dataclass(frozen=True, slots=True)
class Hosts:
    """The servers of a URL, in the order in which they are tried."""

    places: tuple[Place, ...]
    attributes: str = ""
    """``target_session_attrs``: which of them will do; empty: not given."""

    @property
    def wanted(self) -> str:
        """Which of them will do: ``any``, ``primary`` or ``read-write``."""
        return self.attributes or ("read-write" if len(self.places) > 1 else "any")

    def __str__(self) -> str:
        return ", ".join(_shown(place) for place in self.places)


def _shown(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def moved_behind(text: str) -> str:
    """Move several hosts, or a socket, from before the name of the database to behind the ``?``.

    Another text is returned unchanged. Raises ValueError, which quotes no part of it.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return text
    login, at, hosts = found["authority"].rpartition("@")
    if "," not in hosts and not hosts.lower().startswith("%2f"):
        return text
    if re.search(r"[?&]host=", found["rest"]):
        raise ValueError(_TWICE)
    places = [_place(item) for item in hosts.split(",")]
    if len(places) == 1:  # a socket
        host, port = places[0]
        query = f"host={host}" + (f"&port={port}" if port else "")
    else:
        query = "&".join(
            f"host={_quoted(host)}" + (f":{port}" if port else "") for host, port in places
        )
    rest = found["rest"] or "/"
    joint = "&" if "?" in rest else "?"
    return f"{found['scheme']}{login}{at}{rest}{joint}{query}"


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _place(text: str) -> Place:
    """Return ``host``, ``host:port`` or ``[IPv6]:port``; the port is 0 when there is none."""
    text = unquote(text).strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("an IPv6 address is written as [address]:port")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address is written as [address]:port")
    if not host:
        raise ValueError("a host is missing: several are written as host1:port1,host2:port2")
    return host, _port(port)


def _port(text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        raise ValueError("the port is not a number")
    if not 0 < int(text) < 65536:
        raise ValueError("the port is not one of 1 to 65535")
    return int(text)


def of_url(url: URL) -> Hosts | None:
    """Return the servers of a URL; None: it names one, in the usual way.

    Raises ValueError for a mistake, which names the option.
    """
    items = _listed(url, "host")
    attributes = _attributes(url)
    postgresql = url.get_backend_name() == "postgresql"
    default = _POSTGRESQL if postgresql else _MYSQL
    if not postgresql and any(item.startswith("/") for item in items):
        raise ValueError("host: the option for a socket is unix_socket")
    if not items:
        place = (url.host or "localhost", url.port or default)
        return Hosts((place,), attributes) if attributes else None
    if len(items) == 1 and items[0].startswith("/") and not attributes:
        return None  # a socket: the driver knows how
    if url.host:
        raise ValueError(_TWICE)
    places = tuple(_place(item) for item in items)
    return Hosts(_with_ports(places, url, default), attributes)


def _listed(url: URL, name: str) -> list[str]:
    given = url.query.get(name, ())
    return given.split(",") if isinstance(given, str) else [*given]


def _with_ports(places: tuple[Place, ...], url: URL, default: int) -> tuple[Place, ...]:
    ports = _listed(url, "port")
    if not ports:
        return tuple((host, port or default) for host, port in places)
    if any(port for _, port in places):
        raise ValueError("port: the hosts have their ports already")
    if len(ports) not in {1, len(places)}:
        raise ValueError("port: give one for all hosts, or one for each")
    numbers = [_port(port) or default for port in ports] * (len(places) if len(ports) == 1 else 1)
    return tuple((host, port) for (host, _), port in zip(places, numbers, strict=True))


def _attributes(url: URL) -> str:
    value = url.query.get(ATTRIBUTES, "")
    if not value:
        return ""
    if value not in _WANTED:
        raise ValueError(
            f"{ATTRIBUTES}: {', '.join(_WANTED)}: this service writes, so no other will do"
        )
    return str(value)


def normalised(url: URL) -> URL:
    """Return a URL whose hosts are written in one way. Raises ValueError."""
    found = of_url(url)
    if found is None or not url.query.get("host"):
        return url
    if len(found.places) == 1 and found.places[0][0].startswith("/"):
        return url
    query = {name: value for name, value in url.query.items() if name not in {"host", "port"}}
    hosts = tuple(_shown(place) for place in found.places)
    return url.set(query=query | {"host": hosts[0] if len(hosts) == 1 else hosts})
