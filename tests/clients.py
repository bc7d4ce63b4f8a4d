"""The whole application in process, as a client sees it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from iredapi.app import create_app
from iredapi.auth.login import find_principal
from iredapi.config.settings import Settings
from iredapi.domain.actors import SYSTEM
from iredapi.runtime.context import AppContext
from iredapi.workflows.admins import create_admin
from tests.servers.dns import nowhere
from tests.servers.store import Store

ROOT = "root@admins.test"
PASSWORD = "Corr3ct-Horse"
"""Satisfies the default policy; every account of the tests has it."""


def settings_for(store: Store, **given: Any) -> Settings:
    """The product's configuration for a store's databases."""
    return Settings(_env_file=None, **({"dns_resolver": nowhere()} | store.settings() | given))


@dataclass
class Client:
    """One client with its own cookies. ``answer`` of every call is JSON with ``_success``."""

    http: httpx.AsyncClient

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        """Send a request; returns status and body. ``data=`` is a form, ``json=``, ``params=``."""
        response = await self.http.request(method, path, **kwargs)
        if response.headers["content-type"].startswith("application/x-ndjson"):
            lines = [json.loads(line) for line in response.text.splitlines()]
            return response.status_code, {"_success": True, "_data": lines}
        return response.status_code, response.json()

    async def ok(self, method: str, path: str, **form: Any) -> Any:
        """Send a form that must succeed; returns ``_data`` (or the whole answer without)."""
        payload = {"params" if method == "GET" else "data": form} if form else {}
        status, answer = await self.call(method, path, **payload)
        assert (status, answer["_success"]) == (200, True), answer
        return answer.get("_data", answer)

    async def refused(self, method: str, path: str, **form: Any) -> tuple[int, str, list[str]]:
        """Send a form that must fail; returns status, ``_msg``, names of wrong parameters."""
        payload = {"params" if method == "GET" else "data": form} if form else {}
        status, answer = await self.call(method, path, **payload)
        assert answer["_success"] is False, answer
        return status, answer["_msg"], sorted(e["param"] for e in answer.get("_errors", []))

    async def login(self, username: str = ROOT, password: str = PASSWORD) -> Client:
        """Log in and return this client."""
        await self.ok("POST", "login", username=username, password=password)
        return self


@dataclass
class Service:
    """The application on one store."""

    store: Store
    settings: Settings
    app: FastAPI
    context: AppContext
    _clients: AsyncExitStack = field(default_factory=AsyncExitStack)

    def client(self, *, address: str = "127.0.0.1", mount: str = "/api") -> Client:
        """A new client without a session."""
        transport = httpx.ASGITransport(self.app, client=(address, 40000))
        return Client(
            httpx.AsyncClient(transport=transport, base_url=f"http://server{mount}", timeout=60)
        )

    async def root(self) -> Client:
        """A client that is logged in as the global admin ``ROOT``, who is made when missing."""
        if await self.context.read(SYSTEM, find_principal, ROOT) is None:
            await create_admin(self.context, ROOT, PASSWORD)
        return await self.client().login()

    async def admin_of(self, *domains: str, mail: str = "", **limits: Any) -> Client:
        """A client logged in as a normal standalone admin of existing domains."""
        root = await self.root()
        mail = mail or f"{domains[0].split('.')[0] if domains else 'nobody'}-admin@admins.test"
        await root.ok("POST", f"admin/{mail}", password=PASSWORD, **limits)
        for domain in domains:
            await root.ok("PUT", f"domain/admins/{domain}", addAdmin=mail)
        return await self.client().login(mail)


@asynccontextmanager
async def serving(store: Store, **given: Any) -> AsyncIterator[Service]:
    """Open the application on a store; ``given`` are settings that differ from the default."""
    settings = settings_for(store, **given)
    async with AppContext.open(settings) as context:
        yield Service(store, settings, create_app(settings, context), context)
