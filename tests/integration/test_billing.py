"""The life of a customer, as a billing panel sees it: a generated Python client, real daemons."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clients import PASSWORD, ROOT
from tests.integration.test_generated_client import generate
from tests.servers.api import ApiProcess
from tests.servers.mail_checks import Expect, mail_of
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
DOMAIN, ALICE, BOB, CAROL = "ex.com", "alice@ex.com", "bob@ex.com", "carol@ex.com"
BOSS = "boss@admins.test"


class Generated:
    """Operations of the generated client by their ids, and its models."""

    def __init__(self) -> None:
        self.models = importlib.import_module("generated.models")
        self.client = importlib.import_module("generated")
        package = importlib.import_module("generated.api")
        self._places = {
            path.stem: f"generated.api.{path.parent.name}.{path.stem}"
            for path in Path(str(package.__path__[0])).glob("*/*.py")
        }

    def call(self, client: Any, name: str, /, *args: str, **body: Any) -> Any:
        """Run an operation; keywords are its parameters, sent as JSON."""
        operation, more = importlib.import_module(self._places[name]), {}
        if body:
            model = getattr(self.models, f"{''.join(map(str.title, name.split('_')))}JsonBody")
            more["body"] = model.from_dict(body)
        return operation.sync(*args, client=client, **more)

    def logged_in(self, url: str, name: str) -> Callable[..., Any]:
        """Log in, make a token, and return ``call`` with it."""
        visitor = self.client.Client(base_url=url)
        assert self.call(visitor, "login", username=name, password=PASSWORD).field_success
        made = self.call(visitor, "token_create", label="panel")
        client = self.client.AuthenticatedClient(base_url=url, token=made.field_data.token)
        return lambda operation, /, *args, **body: self.call(client, operation, *args, **body)


@pytest.fixture(scope="module", name="generated")
def _generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    directory = tmp_path_factory.mktemp("generated")
    generate(directory, "--view", "canonical")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(directory))
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield Generated()
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated"]:
        del sys.modules[name]


def _done(answer: Any) -> Any:
    assert answer.field_success is True, answer
    return answer


def _refused(answer: Any) -> tuple[str, list[str]]:
    assert answer.field_success is False, answer
    return answer.field_msg, sorted(item.param for item in answer.field_errors or ())


async def test_the_life_of_a_customer(
    store: Store, api: ApiProcess, generated: Generated, request: pytest.FixtureRequest
) -> None:
    expect = mail_of(ALICE, store, request)
    loop = asyncio.get_running_loop()

    def fill(size: int) -> None:
        """Store what Dovecot has counted of Alice's mailbox."""
        row = {"username": ALICE, "bytes": size, "messages": 9, "domain": DOMAIN}
        inserted = store.insert("used_quota", row, database=store.accounts)
        asyncio.run_coroutine_threadsafe(inserted, loop).result()

    await asyncio.to_thread(_live, generated, api.address, expect, fill)


def _live(generated: Generated, url: str, expect: Expect, fill: Callable[[int], None]) -> None:
    panel = generated.logged_in(url, ROOT)
    # A new customer, with limits and an admin of its own.
    _done(panel("domain_create", DOMAIN, name="Customer", quota=300, numberOfUsers=2))
    _done(panel("admin_create", BOSS, password=PASSWORD))
    _done(panel("domain_admins", DOMAIN, addAdmin=BOSS))
    boss = generated.logged_in(url, BOSS)
    for mail in (ALICE, BOB):
        _done(boss("user_create", mail, name="Somebody", password=PASSWORD, quota=100))
    expect("yes", "yes", "yes", 1)
    path = panel("user_read", ALICE).field_data.maildir

    def usage(call: Callable[..., Any]) -> list[tuple[Any, ...]]:
        return [
            (row.domain, str(row.status), row.quota, row.allocated_quota, row.num_existing_users)
            for row in _done(call("usage_list")).field_data
        ]

    def statuses() -> list[tuple[str, str]]:
        rows = _done(boss("usage_read", DOMAIN)).field_data
        return [(row.mail, str(row.status)) for row in rows]

    assert usage(panel) == usage(boss) == [(DOMAIN, "active", 300, 200, 2)]
    assert statuses() == [(ALICE, "active"), (BOB, "active")]

    # More than what is paid for.
    more = boss("user_create", CAROL, name="Carol", password=PASSWORD, quota=50)
    assert _refused(more)[0] == "EXCEEDED_DOMAIN_ACCOUNT_LIMIT"
    assert _refused(boss("user_update", ALICE, quota=250))[0] == "EXCEEDED_DOMAIN_QUOTA_SIZE"
    assert _refused(boss("domain_update", DOMAIN, quota=9000))[0] == "PERMISSION_DENIED"

    # A mailbox that is larger than its quota.
    fill(101 * 2**20)
    row = _done(boss("usage_read", DOMAIN)).field_data[0]
    assert (row.mail, row.quota, row.stored_bytes) == (ALICE, 100, 101 * 2**20)
    assert panel("usage_list").field_data[0].stored_bytes == 101 * 2**20

    # An unpaid bill: mail still arrives.
    assert _done(panel("domain_update", DOMAIN, suspend="yes")).field_changed == ["suspend"]
    expect("no", "no", "yes")
    assert usage(panel) == [(DOMAIN, "suspended", 300, 200, 2)]
    assert statuses() == [(ALICE, "suspended"), (BOB, "suspended")]
    assert _refused(boss("domain_update", DOMAIN, suspend="no")) == (
        "PERMISSION_DENIED", ["suspend"],
    )  # fmt: skip
    assert _done(panel("domain_update", DOMAIN, suspend="no")).field_changed == ["suspend"]
    expect("yes", "yes", "yes", 3)

    # A larger contract.
    grown = _done(panel("domain_update", DOMAIN, quota=1000, numberOfUsers=10))
    assert grown.field_changed == ["numberOfUsers", "quota"]
    _done(boss("user_create", CAROL, name="Carol", password=PASSWORD, quota=50))
    _done(boss("user_update", ALICE, quota=250))
    assert usage(boss) == [(DOMAIN, "active", 1000, 400, 3)]

    # The end: mailboxes are kept for 30 days.
    _done(panel("domain_delete", DOMAIN, keep_mailbox_days=30))
    expect("no", "no", "no")
    assert usage(panel) == usage(boss) == []
    boxes = _done(panel("deleted_mailboxes_list")).field_data
    day = (datetime.now(UTC) + timedelta(days=30)).date()
    assert {box.mail: str(box.delete_date) for box in boxes} == dict.fromkeys(
        (ALICE, BOB, CAROL), day.isoformat()
    )

    # They come back.
    _done(panel("domain_create", DOMAIN, name="Customer", quota=1000))
    form = {"name": "Alice", "password": PASSWORD, "quota": 250, "restore": "yes"}
    _done(panel("user_create", ALICE, **form))
    assert panel("user_read", ALICE).field_data.maildir == path
    expect("yes", "yes", "yes", 4)
    boxes = _done(panel("deleted_mailboxes_list")).field_data
    assert sorted(box.mail for box in boxes) == [BOB, CAROL]
