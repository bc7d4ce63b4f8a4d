"""Cross-site request forgery: a page of another site must not use an admin's session, or log in.

Browsers say where a request comes from: ``Sec-Fetch-Site`` (Fetch Metadata) and ``Origin``
(RFC 6454). Both headers can only be set by the browser, never by the page. Programs send neither.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from iredapi.config.settings import Network
from iredapi.domain.origins import normalised, without_default_port
from iredapi.web import client_address

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})


def is_foreign(
    scope: Any, proxies: tuple[Network, ...], allowed: Collection[str], *, https: bool
) -> bool:
    """Tell whether a browser sends a change on behalf of another site's page.

    ``allowed`` are further origins, normalised. ``https`` is whether the client speaks TLS to us or
    to a trusted proxy; only then is ``http:`` known to be another origin.
    """
    if scope["method"] in _SAFE_METHODS:
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
    except ValueError:  # among others ``null``: a sandboxed frame, a redirect between sites
        return False
    scheme, _, place = origin.partition("://")
    if https and scheme != "https":
        return False
    own = client_address.requested_hosts(scope, proxies)
    return place in {without_default_port(host.strip().lower(), scheme) for host in own}
