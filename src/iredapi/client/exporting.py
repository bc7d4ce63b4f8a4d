"""Exports of a remote service."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import httpx

from iredapi.client.api import CallFailed, Remote, answer_of, reason_of
from iredapi.transfer.lines import Lines

_NDJSON = "application/x-ndjson"


async def lines_of(remote: Remote, domains: Iterable[str]) -> AsyncIterator[bytes]:
    """Yield the records of domains as lines; of everything for an empty name.

    Raises CallFailed, also when the connection breaks off in the middle.
    """
    async with remote.client() as http:
        for name in domains:
            path = f"export/{quote(name, safe='')}" if name else "export"
            try:
                async with http.stream("GET", path, headers={"Accept": _NDJSON}) as response:
                    if not response.headers.get("content-type", "").startswith(_NDJSON):
                        await response.aread()
                        raise CallFailed(f"{name or 'everything'}: {answer_of(response).reason}")
                    # httpx would split lines at other characters, too, that values may have.
                    lines = Lines(sys.maxsize)
                    async for piece in response.aiter_bytes():
                        for line in lines.feed(piece):
                            if line.text:
                                yield line.text
            except httpx.HTTPError as error:
                raise CallFailed(f"{remote.url}: {reason_of(error)}") from None
