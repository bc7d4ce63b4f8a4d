"""Web origins (RFC 6454): scheme, host and port of a page, as browsers send them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


def normalised(text: str) -> str:
    """Return an origin in lower case, without a default port. Raises ValueError."""
    parts = urlsplit(text.strip().lower())
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{text} is not an origin such as https://panel.example.com")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"{text}: an origin ends with the host or the port")
    _ = parts.port  # raises ValueError when it is not a number
    return f"{parts.scheme}://{without_default_port(parts.netloc, parts.scheme)}"


def without_default_port(netloc: str, scheme: str) -> str:
    """Return ``host`` or ``host:port`` as an origin of the scheme has it."""
    return netloc.removesuffix(f":{_PORTS[scheme]}")
