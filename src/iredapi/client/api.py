"""The operations of the API: of a remote service, or in this process on the configured storage."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import httpx

from iredapi.config.errors import ConfigurationError
from iredapi.config.settings import Settings

if TYPE_CHECKING:
    from iredapi.runtime.context import AppContext

_TIMEOUT: Final = httpx.Timeout(60.0, read=300.0)
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts to which a token may be sent without TLS."""
API: Final = "/api"


class CallFailed(ConfigurationError):
    """A service cannot be reached, or what it answers is no answer of the API."""

    status = 1


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a service is, and a token for it."""

    url: str
    token: str = field(repr=False)

    def client(self) -> httpx.AsyncClient:
        """Return a client of the service. Raises ConfigurationError."""
        return httpx.AsyncClient(timeout=_TIMEOUT, **self._options())

    def blocking_client(self) -> httpx.Client:
        """Return a client for code that is not asynchronous. Raises ConfigurationError."""
        return httpx.Client(timeout=_TIMEOUT, **self._options())

    def _options(self) -> dict[str, Any]:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
            raise ConfigurationError(f"--url: {self.url!r} is not like https://HOST/api")
        if parts.scheme != "https" and parts.hostname not in _HERE:
            raise ConfigurationError("--url: a token is sent over https only")
        return {
            "base_url": self.url.rstrip("/") + ("" if parts.path.strip("/") else API),
            "headers": {"Authorization": f"Bearer {self.token}"},
            "verify": ssl.create_default_context(),
            "trust_env": False,  # a token goes to no proxy, and .netrc does not replace it
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation has answered."""

    status: int
    body: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it was successful."""
        return self.body.get("_success") is True

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.body.get("_msg", ""))

    @property
    def codes(self) -> frozenset[str]:
        """The codes of a refusal, of each parameter."""
        found = (str(item["code"]) for item in self.body.get("_errors", ()))
        return frozenset(found) or frozenset({self.code})

    @property
    def reason(self) -> str:
        """Why it was refused, in one line."""
        details = [self.body["_detail"]] if self.body.get("_detail") else []
        details += [
            f"{item['param']}: {item['detail'] or item['code']}"
            for item in self.body.get("_errors", ())
        ]
        return f"{self.code}: {'; '.join(details)}" if details else self.code


class Api:
    """Calls of operations, one after the other."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def call(
        self,
        method: str,
        path: Sequence[str],
        params: Mapping[str, Any] = {},
        *,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """Call an operation; parts of the path are encoded. Raises CallFailed."""
        named = "/".join(quote(part, safe="@") for part in path)
        sent: dict[str, Any] = {"params": params} if method == "GET" else {"json": params}
        sent["headers"] = headers
        # In a task of its own: what a request sets in its context is not seen by the next one.
        try:
            response = await asyncio.create_task(self.http.request(method, named, **sent))
        except httpx.HTTPError as error:
            raise CallFailed(f"{self.http.base_url}: {reason_of(error)}") from None
        return answer_of(response)


def reason_of(error: httpx.HTTPError) -> str:
    """Return why a request got no answer; some errors have no text."""
    return str(error) or type(error).__name__


def answer_of(response: httpx.Response) -> Answer:
    """Return an answer of JSON. Raises CallFailed."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "_success" not in body:
        raise CallFailed(
            f"{response.request.url}: {response.status_code}, but no answer of this API: is it "
            "the URL of the API, such as https://HOST/api?"
        )
    return Answer(response.status_code, body)


@asynccontextmanager
async def opened(remote: Remote | None, settings: Settings | None) -> AsyncIterator[Api]:
    """Open a remote service, or the configured storage, of which everything may be changed."""
    if remote is not None:
        async with remote.client() as http:
            yield Api(http)
        return
    if settings is None:
        raise TypeError("neither a service nor settings")
    from iredapi.runtime.context import AppContext

    async with AppContext.open(settings) as context, here(settings, context) as api:
        yield api


@asynccontextmanager
async def here(settings: Settings, context: AppContext) -> AsyncIterator[Api]:
    """Open the operations in this process, where everything may be changed."""
    from iredapi.app import create_app
    from iredapi.domain.actors import SYSTEM

    # The answers are read by this program, which needs their real status.
    chosen = settings.model_copy(update={"always_200": False, "prefixes": [API]})
    transport = httpx.ASGITransport(create_app(chosen, context, caller=SYSTEM))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://here{API}") as http:
        yield Api(http)
