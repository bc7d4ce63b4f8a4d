"""``iredapi token …`` on every storage, and the tokens that it makes, against a running service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from iredapi.cli.commands import app
from iredapi.domain.tokens import PREFIX
from tests.clients import PASSWORD, ROOT
from tests.servers.api import add_root, running_on, urls_of
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
NORMAL = "n@admins.test"
INVALID = (401, "INVALID_TOKEN")


@dataclass
class Slot:
    """A running service, and the command line on the same machine."""

    address: str
    root: httpx.Client

    def run(self, *words: str, fails: str = "") -> str:
        """Type ``iredapi token …``; in a thread, for it has an event loop of its own."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(CliRunner().invoke, app, ["token", *words]).result(timeout=60)
        assert (done.exit_code != 0) is bool(fails), done.output
        assert fails in done.output
        return done.output

    def created(self, *words: str) -> tuple[str, str]:
        """Return the id and the secret of a new token."""
        return found(self.run("create", *words))

    def ask(self, secret: str, path: str = "whoami", method: str = "GET") -> Any:
        """Call with a token; returns ``_data``, or status and code of a failure."""
        answer = httpx.request(
            method, f"{self.address}/api/{path}", trust_env=False, timeout=60,
            headers={"Authorization": f"Bearer {secret}"},
        )  # fmt: skip
        body = answer.json()
        return body.get("_data", {}) if body["_success"] else (answer.status_code, body["_msg"])

    def ok(self, method: str, path: str, **form: str) -> Any:
        """Do something as the global admin."""
        answer = self.root.request(method, path, data=form).json()
        assert answer["_success"], answer
        return answer.get("_data")


def found(output: str) -> tuple[str, str]:
    match = re.search(rf"Token ([0-9a-f]{{16}}) of .*:\n({PREFIX}\S+)\n", output)
    assert match, output
    return match[1], match[2]


@pytest_asyncio.fixture
async def place(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slot]:
    await add_root(store)
    data = temporary_directory("token")
    try:
        with running_on(store, IREDAPI_DATA_DIR=str(data)) as api:
            for name, value in {**urls_of(store), "IREDAPI_DATA_DIR": str(data)}.items():
                monkeypatch.setenv(name, value)
            with httpx.Client(
                base_url=f"{api.address}/api/", trust_env=False, timeout=60
            ) as client:
                found = Slot(api.address, client)
                found.ok("POST", "login", username=ROOT, password=PASSWORD)
                for domain in ("a.com", "b.com"):
                    found.ok("POST", f"domain/{domain}")
                found.ok("POST", f"admin/{NORMAL}", password=PASSWORD)
                found.ok("PUT", "domain/admins/a.com", addAdmin=NORMAL)
                yield found
    finally:
        remove_directory(data)


async def test_create_list_rotate_revoke(place: Slot) -> None:
    token_id, secret = place.created(ROOT, "--label", "Billing 1", "--days", "30")
    me = place.ask(secret)
    assert (me["username"], me["isglobaladmin"], me["token"]["label"]) == (ROOT, 1, "Billing 1")
    other, _ = place.created(
        NORMAL, "--label", "x", "--read-only", "--domains", "A.com", "--networks", "10.0.0.0/8",
    )  # fmt: skip
    lines = place.run("list").splitlines()
    assert len(lines) == 2
    mine = next(line for line in lines if token_id in line)
    assert secret not in mine
    assert secret[:12] in mine
    assert "'Billing 1'" in mine
    assert "expires 20" in mine
    assert "last used 20" in mine
    (theirs,) = place.run("list", NORMAL.upper()).splitlines()
    assert theirs.startswith(other)
    assert theirs.endswith("expires never, last used never  read-only for a.com from 10.0.0.0/8")
    # Both secrets for a while; then only the new one.
    assert found(place.run("rotate", token_id, "--overlap", "600"))[0] == token_id
    new = found(place.run("rotate", token_id, "--overlap", "600"))[1]
    assert place.ask(secret) == INVALID  # two rotations ago
    newest = found(place.run("rotate", token_id))[1]
    assert place.ask(new) == INVALID
    assert place.ask(newest)["token"]["id"] == token_id
    with_overlap = found(place.run("rotate", token_id, "--overlap", "600"))[1]
    for each in (newest, with_overlap):
        assert place.ask(each)["username"] == ROOT
    place.run("revoke", token_id)
    for each in (newest, with_overlap):
        assert place.ask(each) == INVALID
    place.run("revoke", token_id, fails="NO_SUCH_TOKEN")
    place.run("rotate", token_id, fails="NO_SUCH_TOKEN")
    assert token_id not in place.run("list")


async def test_never_wider_than_the_owner(place: Slot) -> None:
    place.run("create", NORMAL, "--label", "x", "--domains", "b.com", fails="PERMISSION_DENIED")
    place.run("create", ROOT, "--label", "x", "--domains", "no.com", fails="INVALID_DOMAIN_NAME")
    place.run("create", "gone@admins.test", "--label", "x", fails="NO_SUCH_ACCOUNT")
    place.run("create", "nobody", "--label", "x", fails="INVALID_MAIL")
    place.run("create", ROOT, "--label", " ", fails="label")
    assert place.run("list") == ""
    secret = place.created(NORMAL, "--label", "x")[1]
    assert place.ask(secret)["managed_domains"] == ["a.com"]
    assert place.ask(secret, "domain/b.com") == (403, "PERMISSION_DENIED")
    reader = place.created(ROOT, "--label", "x", "--read-only")[1]
    assert place.ask(reader, "domain/b.com", "DELETE") == (403, "PERMISSION_DENIED")
    # What the owner loses, the token loses.
    place.ok("PUT", "domain/admins/a.com", removeAdmin=NORMAL)
    assert place.ask(secret, "domain/a.com") == (403, "PERMISSION_DENIED")


async def test_what_ends_it(place: Slot) -> None:
    """A disabled owner's sleeps; a demoted or deleted owner's is dead, as one for a dead domain."""
    place.ok("POST", "admin/g@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    place.ok("POST", "user/u@b.com", password=PASSWORD, isGlobalAdmin="yes")
    demoted = place.created("g@admins.test", "--label", "x")[1]
    normal = place.created(NORMAL, "--label", "x")[1]
    user = place.created("u@b.com", "--label", "x")[1]
    only = place.created(ROOT, "--label", "x", "--domains", "b.com")[1]
    for each in (demoted, normal, user, only):
        assert place.ask(each)["token"]["status"] == "active"
    place.ok("PUT", f"admin/{NORMAL}", accountStatus="disabled")
    assert place.ask(normal) == INVALID
    place.run("create", NORMAL, "--label", "x", fails="NO_SUCH_ACCOUNT")
    place.ok("PUT", f"admin/{NORMAL}", accountStatus="active")
    assert place.ask(normal)["username"] == NORMAL
    for word in ("no", "yes"):
        place.ok("PUT", "admin/g@admins.test", isGlobalAdmin=word)
        assert place.ask(demoted) == INVALID
    place.ok("DELETE", f"admin/{NORMAL}")
    place.ok("POST", f"admin/{NORMAL}", password=PASSWORD)
    assert place.ask(normal) == INVALID
    place.ok("DELETE", "domain/b.com")
    place.ok("POST", "domain/b.com")
    place.ok("POST", "user/u@b.com", password=PASSWORD, isGlobalAdmin="yes")
    assert place.ask(user) == INVALID
    assert place.ask(only) == INVALID
