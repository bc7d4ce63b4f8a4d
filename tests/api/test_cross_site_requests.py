"""Cross-site requests: what a page of another site makes a browser send, with an admin's cookie."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.config.errors import ConfigurationError
from iredapi.config.loading import load
from tests.api.test_access import bearer
from tests.api.test_tokens import made
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")

FOREIGN = (403, "FOREIGN_ORIGIN")
RIGHT = {"username": ROOT, "password": PASSWORD}


async def sent(client: Client, headers: dict[str, str], path: str = "domain/x.com") -> Any:
    """Status and code of a change, or of a login, with a browser's headers."""
    form = RIGHT if path == "login" else {}
    response = await client.http.post(path, data=form, headers=headers)
    return response.status_code, response.json().get("_msg", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://server.evil.example"},
        {"Origin": "http://server:8080"},
        {"Origin": "http://sub.server"},
        {"Origin": "http://server@evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "chrome-extension://abc"},
        {"Origin": "http://server", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Cross-Site"},
        # Not from a trusted proxy.
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    ],
    ids=str,
)
async def test_pages_of_other_sites(
    service: Service, root: Client, headers: dict[str, str]
) -> None:
    for path in ("domain/x.com", "logout", "tokens", "login"):
        assert await sent(root, headers, path) == FOREIGN, path
    stranger = service.client()
    assert await sent(stranger, headers, "login") == FOREIGN
    assert not stranger.http.cookies
    # The session goes on, nothing was made, and reading is left to the browser's own rules.
    assert await root.ok("GET", "domains") == []
    assert (await root.http.get("domains", headers=headers)).status_code == 200
    # A token is never sent by a browser of its own accord.
    assert (await sent(bearer(service, (await made(root))["token"]), headers))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://server"},
        {"Origin": "HTTP://SERVER:80", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        # TLS ends at a proxy that says nothing of it.
        {"Origin": "https://server"},
        {"Origin": "https://server:8443", "Host": "server:8443"},
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
    ],
    ids=str,
)
async def test_programs_and_own_pages(root: Client, headers: dict[str, str]) -> None:
    assert (await sent(root, headers))[0] == 200
    assert (await sent(root, headers, "login"))[0] == 200


async def test_behind_a_trusted_proxy_and_from_named_sites(store: Store, root: Client) -> None:
    given = {
        "trusted_proxies": "10.0.0.1",
        "allowed_origins": "https://panel.example.com:443,http://localhost:3000",
    }
    async with serving(store, **given) as service:
        proxied = service.client(address="10.0.0.1")
        for headers, status in (
            ({"Origin": "https://api.test", "X-Forwarded-Host": "api.test"}, 200),
            ({"Origin": "https://api.test", "X-Forwarded-Host": "api.test, inner"}, 200),
            ({"Origin": "https://api.test:8443", "X-Forwarded-Host": "api.test:8443"}, 200),
            ({"Origin": "https://api.test", "X-Forwarded-Host": "other.test"}, 403),
            # What is known to be https has no pages without.
            ({"Origin": "https://server", "X-Forwarded-Proto": "https"}, 200),
            ({"Origin": "http://server", "X-Forwarded-Proto": "https"}, 403),
            ({"Origin": "https://panel.example.com", "Sec-Fetch-Site": "same-site"}, 200),
            ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}, 200),
            ({"Origin": "http://panel.example.com"}, 403),
            ({"Origin": "http://localhost:3001"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
        ):
            assert (await sent(proxied, headers, "login"))[0] == status, headers


async def test_only_post_logs_in(service: Service, root: Client) -> None:
    """A link, an image or a form with GET is no login, so that it needs no such check."""
    client = service.client()
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = await client.http.request(method, "login", params=RIGHT)
        assert response.status_code == 405, method
        assert not response.headers.get("set-cookie")


@pytest.mark.parametrize(
    "value", ["panel.example.com", "ftp://x.com", "https://x.com/path", "*", "https://x.com:y"]
)
def test_what_is_no_origin_is_named_at_start(value: str) -> None:
    with pytest.raises(ConfigurationError, match="IREDAPI_ALLOWED_ORIGINS"):
        load(None, allowed_origins=value)
