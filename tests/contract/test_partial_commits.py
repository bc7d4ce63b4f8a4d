"""A change of which the policies were committed, but not the accounts: it is never called undone.

No transaction spans several databases. The related ones are committed first, so that sending the
request again completes it.
"""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from iredapi.database.session import Connections, Databases
from iredapi.errors import ApiError, Conflict, Overloaded, ReadOnlyServer, ServerDown
from tests.clients import PASSWORD, Client
from tests.servers.store import Store


class _Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    "error",
    [ServerDown(), ReadOnlyServer(), Overloaded(), Conflict("CHANGED_MEANWHILE")],
    ids=lambda error: error.code,
)
async def test_a_removal_is_tried_again_and_cannot_be(
    root: Client, store: Store, error: ApiError, monkeypatch: pytest.MonkeyPatch
) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "throttle/u@ex.com/outbound", period=60, max_msgs=7)

    async def commit(self: Connections) -> None:
        await self._pooled_connections["iredapd"].commit()
        self.committed = True
        raise DBAPIError("COMMIT", None, _Deadlock())

    opened, times = Databases.open, 0

    async def open_(self: Databases, *, writing: bool) -> Connections:
        nonlocal times
        times += writing
        if times > 1:
            raise error
        return await opened(self, writing=writing)

    with monkeypatch.context() as patch:
        patch.setattr(Connections, "commit", commit)
        patch.setattr(Databases, "open", open_)
        response = await root.http.delete("user/u@ex.com")
    answer = response.json()
    assert (response.status_code, answer["_msg"]) == (503, "SERVER_DOWN"), answer
    assert "Retry-After" not in response.headers  # it would say that nothing was changed
    assert answer["_detail"].endswith("Send the request again.")
    await root.ok("GET", "user/u@ex.com")
    await root.ok("DELETE", "user/u@ex.com")
    assert await store.rows("SELECT account FROM throttle", "iredapd") == []
    assert (await root.call("GET", "user/u@ex.com"))[0] == 404
