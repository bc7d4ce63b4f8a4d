"""Protection from cross-site request forgery: pages of other sites cannot change anything.

Browsers send ``Sec-Fetch-Site`` (Fetch Metadata) and ``Origin`` (RFC 6454), which a page cannot
set. Programs send neither.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from iredapi.config.access_settings import Network
from iredapi.domain.origins import normalised, without_default_port
from iredapi.web import client_address, request_headers

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})


def is_foreign(
    scope: Any, proxies: tuple[Network, ...], allowed: Collection[str], *, https: bool
) -> bool:
    """Return whether a browser sends a write for a page of another site.

    ``allowed`` are further allowed origins, normalised. ``https`` is whether the client uses TLS to
    us or to a trusted proxy; only then ``http:`` is known to be another origin.
    """
    if scope["method"] in _SAFE_METHODS:
        return False
    sent = request_headers.names(scope)
    if b"origin" not in sent and b"sec-fetch-site" not in sent:  # only browsers send them
        return False
    origins = client_address.header_values(scope, b"origin")
    if len(origins) == 1 and origins[0].strip().lower() in allowed:
        return False
    sites = client_address.header_values(scope, b"sec-fetch-site")
    if any(site.strip().lower() not in _OWN_SITE for site in sites):
        return True
    return bool(origins) and not _is_own(scope, proxies, origins, https=https)


def _is_own(scope: Any, proxies: tuple[Network, ...], origins: list[str], *, https: bool) -> bool:
    if len(origins) > 1:
        return False
    try:
        origin = normalised(origins[0])
    except ValueError:  # also ``null``: a sandboxed frame, a redirect between sites
        return False
    scheme, _, host = origin.partition("://")
    if https and scheme != "https":
        return False
    own = client_address.requested_hosts(scope, proxies)
    return host in {without_default_port(name.strip().lower(), scheme) for name in own}
