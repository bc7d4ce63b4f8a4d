"""Paths through uvicorn, and through nginx as deployed: slashes in names, and the docs page."""

from __future__ import annotations

import re
from contextlib import closing
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import add_root, running_on
from tests.servers.foreign import Foreign
from tests.servers.nginx import Nginx
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("sqlite"), pytest.mark.needs("nginx")]


async def test_a_slash_in_an_address(store: Store) -> None:
    await add_root(store)
    foreign = Foreign(store)
    await foreign.domain("ex.com")
    await foreign.user("a/b@ex.com")
    with running_on(store) as api:
        port = urlsplit(api.address).port
        assert port is not None
        nginx = Nginx([port])
        try:
            for address in (api.address, nginx.address):
                for mount in ("/api", "/iredadmin/api"):
                    with closing(httpx.Client(base_url=f"{address}{mount}/", trust_env=False)) as c:
                        login = c.post("login", data={"username": ROOT, "password": PASSWORD})
                        assert login.status_code == 200
                        for path in ("user/a%2Fb@ex.com", "user//a%2fb%40ex.com/"):
                            answer = c.get(path)
                            assert answer.status_code == 200, answer.text
                            assert answer.json()["_data"]["username"] == "a/b@ex.com"
                        assert c.get("user/a/b@ex.com").json()["_msg"] == "NO_SUCH_OPERATION"
                        assert c.get("domain/ex%2Fcom").json()["_msg"] == "INVALID_DOMAIN_NAME"
        finally:
            nginx.stop()


async def test_the_description_behind_nginx(store: Store) -> None:
    """The snippet passes on ``/api/`` only: pages, assets and the document are all below it."""
    with running_on(store) as api:
        port = urlsplit(api.address).port
        assert port is not None
        nginx = Nginx([port])
        try:
            for mount in ("/api", "/iredadmin/api"):
                with closing(httpx.Client(base_url=nginx.address, trust_env=False)) as c:
                    page = c.get(f"{mount}/", follow_redirects=True)
                    assert (page.status_code, page.url.path) == (200, f"{mount}/docs")
                    names = re.findall(r'(?:src|href)="([^"]+)"', page.text)
                    assert len(names) >= 3
                    for name in (*names, "openapi.json", "openapi.json?view=canonical"):
                        found = c.get(urljoin(str(page.url), name))
                        assert found.status_code == 200, name
                    paths = c.get(f"{mount}/openapi.json").json()["paths"]
                    assert "/api/login" in paths
        finally:
            nginx.stop()
