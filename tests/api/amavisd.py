"""What Amavisd and iRedAPD see in ``amavisd``, for the tests of the policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from tests.clients import PASSWORD, Client, Service
from tests.servers.store import Store

Row = dict[str, Any]


async def rows(store: Store, statement: str, **parameters: Any) -> list[Row]:
    """The rows of a query, the binary e-mail columns as text and floats without their noise."""
    return [
        {name: _plain(value) for name, value in row.items()}
        for row in await store.rows(statement, "amavisd", **parameters)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return bytes(value).decode() if isinstance(value, (bytes, memoryview)) else value


def text(store: Store, value: str) -> Any:
    """A value of a binary e-mail column, as the driver takes it in plain SQL."""
    return value.encode() if store.name == "postgresql" else value


async def users(store: Store) -> list[tuple[str, int, int]]:
    """E-mail, priority and policy of each account but the shipped one."""
    found = await rows(store, "SELECT email, priority, policy_id FROM users ORDER BY id")
    return [
        (row["email"], row["priority"], row["policy_id"]) for row in found if row["email"] != "@."
    ]


async def add_user(store: Store, email: str, **columns: Any) -> int:
    """A row of ``users`` as another program makes it; returns its id."""
    await store.insert("users", {"email": text(store, email), **columns}, database="amavisd")
    found = await rows(store, "SELECT id, email FROM users")
    return next(int(row["id"]) for row in found if row["email"] == email)


async def add_address(store: Store, email: str, priority: int) -> int:
    """A row of ``mailaddr`` as another program makes it; returns its id."""
    row = {"email": text(store, email), "priority": priority}
    await store.insert("mailaddr", row, database="amavisd")
    found = await rows(store, "SELECT id, email FROM mailaddr")
    return next(int(row["id"]) for row in found if row["email"] == email)


async def amavisd_sees(store: Store, *keys: str) -> Row:
    """Amavisd's lookup: per column the first that is not NULL, by priority."""
    found = await rows(
        store,
        "SELECT users.email, policy.* FROM users LEFT JOIN policy ON users.policy_id = policy.id"
        " ORDER BY users.priority DESC",
    )
    answer: Row = {}
    for row in (row for row in found if row["email"] in keys):
        for name, value in row.items():
            if answer.get(name) is None:
                answer[name] = value
    return answer


async def local_test(root: Client) -> None:
    """The domain of the recipes, with two users."""
    await root.ok("POST", "domain/local.test")
    await root.ok("POST", "user/u@local.test", password=PASSWORD)
    await root.ok("POST", "user/other@local.test", password=PASSWORD)


@contextmanager
def statements(service: Service) -> Iterator[list[str]]:
    """Record what is sent to ``amavisd``; an ``executemany`` is one statement."""
    sent: list[str] = []

    def watch(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        sent.append(statement)

    engine = service.context.databases["amavisd"].engine.sync_engine
    event.listen(engine, "before_cursor_execute", watch)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", watch)
