"""Pages of long lists continue a cursor, and are right without one."""

from __future__ import annotations

import asyncio

import pytest

from iredapi.database import cursor_cache
from iredapi.database.cursor_cache import Cursors
from iredapi.domain.actors import SYSTEM
from iredapi.observability import query_counter
from iredapi.operations import aliases, users
from tests.clients import Client, Service

pytestmark = pytest.mark.stores("sqlite", "postgresql", "mariadb")
_COUNT = 25


def _cursors(service: Service) -> Cursors:
    return service.context.databases["vmail"].cursors


async def _fill(service: Service, root: Client, domain: str = "ex.com") -> list[str]:
    await root.ok("POST", f"domain/{domain}")
    names = [f"u{number:02}@{domain}" for number in range(_COUNT)]
    await service.store.insert(
        "mailbox",
        *({"username": m, "password": "x", "domain": domain, "settings": ""} for m in names),
    )
    return names


async def _page(service: Service, after: str, limit: int = 5, domain: str = "ex.com") -> list[str]:
    return await service.context.read(
        SYSTEM, users.mails, domain, after, limit, disabled_only=False
    )


async def _list(service: Service, domain: str = "ex.com", limit: int = 5) -> list[str]:
    found: list[str] = []
    while page := await _page(service, found[-1] if found else "", limit, domain):
        found += page
        if len(page) < limit:
            break
    return found


@pytest.mark.parametrize("limit", [1, 5, 24, 25, 26])
async def test_every_page_is_there_once(service: Service, root: Client, limit: int) -> None:
    names = await _fill(service, root)
    places = _cursors(service)._places
    assert await _list(service, limit=limit) == names
    if _COUNT % limit:  # else the last page was full, and its cursor waits for another one
        assert (_cursors(service)._places, _cursors(service)._waiting) == (places, {})


async def test_profiles_and_aliases_go_on_too(service: Service, root: Client) -> None:
    names = await _fill(service, root)
    found: list[str] = []
    for _ in range(6):
        page = await service.context.read(
            SYSTEM, users.page, "ex.com", found[-1] if found else "", 5, disabled_only=False
        )
        found += [item["username"] for item in page]
    assert found == names
    await service.store.insert(
        "alias", *({"address": f"a{n:02}@ex.com", "domain": "ex.com"} for n in range(12))
    )
    found = []
    for _ in range(3):
        page = await service.context.read(
            SYSTEM, aliases.page, "ex.com", found[-1] if found else "", 5, disabled_only=False
        )
        found += [item["address"] for item in page]
    assert found == [f"a{number:02}@ex.com" for number in range(12)]


async def test_a_list_is_sorted_once(service: Service, root: Client) -> None:
    await _fill(service, root)
    await _list(service)
    with query_counter.listening() as heard:
        await _list(service)
    # How the accounts of the domain spell it is another question.
    pages = [sql for sql in heard if "SELECT DISTINCT each.stored" not in sql]
    # The first page is a statement of its own; the others are fetched from one cursor.
    assert len({sql for sql in pages if "ORDER BY" in sql}) == 2
    assert sum("LIMIT" in sql for sql in pages) == 1


async def test_two_clients_read_the_same_list(service: Service, root: Client) -> None:
    names = await _fill(service, root)
    assert await asyncio.gather(*(_list(service) for _ in range(6))) == [names] * 6


async def test_without_a_free_cursor_a_list_continues_by_key(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await _fill(service, root)
    monkeypatch.setattr(_cursors(service), "_places", 0)
    assert await _list(service) == names


async def test_a_slow_client_returns_its_connection(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await _fill(service, root)
    monkeypatch.setattr(cursor_cache, "IDLE_SECONDS", 0.05)
    found, places = _cursors(service), _cursors(service)._places
    first = await _page(service, "")
    second = await _page(service, first[-1])
    assert found._places == places - 1
    await asyncio.sleep(0.3)
    assert (found._places, found._waiting) == (places, {})
    # Somebody changed it meanwhile, and it goes on all the same.
    await service.store.execute(
        "DELETE FROM mailbox WHERE username = :name", "vmail", name=names[9]
    )
    await service.store.execute(
        "DELETE FROM mailbox WHERE username = :name", "vmail", name=names[12]
    )
    third = await _page(service, second[-1])
    assert third == [names[10], names[11], *names[13:16]]
    await root.ok("PUT", f"user/{names[0]}", name="New")  # the connections are as they were
    await found.close()


async def test_a_client_that_disconnects_closes_its_cursor(service: Service, root: Client) -> None:
    await _fill(service, root)
    found = _cursors(service)
    await found.close()  # what other tests left
    places = found._places
    first = await _page(service, "")
    task = asyncio.create_task(_page(service, first[-1]))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await found.close()
    assert (found._places, found._waiting) == (places, {})
    assert len(await _list(service)) == _COUNT
