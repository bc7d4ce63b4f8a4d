"""Reads a small file from the web server of a name that a client has chosen."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

from iredapi.backends.http_site import Site
from iredapi.backends.outbound import Network, NoAnswer, Sent
from iredapi.domain.http_urls import PORTS, HttpUrl

_MAX_BYTES: Final = 16 * 1024


async def read(
    name: str, path: str, addresses: Sequence[str], allowed: Sequence[Network], seconds: float
) -> str:
    """Return the text of ``https://name/path`` or else ``http://name/path``; empty: there is none.

    ``seconds`` is the limit for everything.
    """
    try:
        async with asyncio.timeout(seconds):
            tls = await asyncio.to_thread(ssl.create_default_context)
            for scheme, port in PORTS.items():
                url = HttpUrl(scheme, name, port, f"/{path}")
                site = Site(url, allowed, tls, connect_seconds=seconds)
                for address in site.permitted(addresses):
                    if text := await _read_from(site, address):
                        return text
    except TimeoutError:
        pass
    return ""


async def _read_from(site: Site, address: str) -> str:
    try:
        answer = await site.send([address], Sent(), most=_MAX_BYTES)
    except NoAnswer:
        return ""
    return answer.body.decode("utf-8", "replace").strip() if answer.status == 200 else ""
