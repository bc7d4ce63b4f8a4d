"""Valid request bodies that are rare: byte order marks, boundaries with blanks, epilogues."""

from __future__ import annotations

import pytest

from tests.clients import Client, serving
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")
FORM = "application/x-www-form-urlencoded"
BOM = b"\xef\xbb\xbf"


def part(boundary: str, before: str = "", after: str = "") -> bytes:
    """One parameter, ``name=Jørn``."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\nJørn\r\n'
    return f"{before}{head}--{boundary}--{after}".encode()


BODIES = {
    "a mark before a form": (BOM + b"name=J%C3%B8rn", FORM),
    "a mark before text": (BOM + "name=Jørn".encode(), "text/plain"),
    "a mark before JSON": (BOM + '{"name":"Jørn"}'.encode(), "application/json"),
    "a mark before JSON without a type": (BOM + '{"name":"Jørn"}'.encode(), None),
    "a mark before a part": (BOM + part("XX"), "multipart/form-data; boundary=XX"),
    "a boundary with blanks": (part("a b (c)"), 'multipart/form-data; boundary="a b (c)"'),
    "a quoted boundary": (part("a:b=c"), 'multipart/form-data; charset=utf-8; boundary="a:b=c"'),
    "a line end": (part("XX", after="\r\n"), "multipart/form-data; boundary=XX"),
    "an epilogue": (
        part("XX", after="\r\nThat was it.\r\n--XX\r\n"),
        "multipart/form-data; boundary=XX",
    ),
    "a preamble": (
        part("XX", before="This is MIME.\r\n--X\r\n"),
        "multipart/form-data; boundary=XX",
    ),
}


@pytest.mark.parametrize("case", BODIES)
async def test_legal_bodies(root: Client, case: str) -> None:
    await root.ok("POST", "domain/ex.com")
    body, kind = BODIES[case]
    headers = {} if kind is None else {"Content-Type": kind}
    response = await root.http.request("PUT", "domain/ex.com", content=body, headers=headers)
    assert (response.status_code, response.json()["_success"]) == (200, True), response.text
    assert (await root.ok("GET", "domain/ex.com"))["description"] == "Jørn"


@pytest.mark.parametrize("cut", [1, 2, 3, 30])
async def test_a_part_of_a_body_is_none(root: Client, cut: int) -> None:
    await root.ok("POST", "domain/ex.com")
    body = part("a b")[:-cut]
    headers = {"Content-Type": 'multipart/form-data; boundary="a b"'}
    response = await root.http.request("PUT", "domain/ex.com", content=body, headers=headers)
    assert (response.status_code, response.json()["_msg"]) == (400, "INVALID_REQUEST")
    assert (await root.ok("GET", "domain/ex.com"))["description"] == ""


async def test_many_items_of_a_list(root: Client) -> None:
    """As many as one comma list may hold."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "alias/all@ex.com")
    items = [(f"members[{n}]", f"m{n}@far.test") for n in range(3000)]
    status, _ = await root.call("PUT", "alias/all@ex.com", data=dict(items))
    assert status == 200
    assert len((await root.ok("GET", "alias/all@ex.com"))["members"]) == 3000


@pytest.mark.parametrize("said", ["HTTPS", "Https", "http, HTTPS"])
async def test_a_proxy_may_shout(store: Store, root: Client, said: str) -> None:
    async with serving(store, trusted_proxies="10.0.0.1") as service:
        await service.root()
        client = service.client(address="10.0.0.1")
        client.http.headers["X-Forwarded-Proto"] = said
        response = await client.http.post(
            "login", data={"username": "root@admins.test", "password": "Corr3ct-Horse"}
        )
        assert "; secure" in response.headers["set-cookie"].lower()
