"""Writes that break off between the commits of two databases, as when the process is killed."""

from __future__ import annotations

import pytest

from iredapi.database.session import ORDER, Connections
from tests.clients import Client


async def broken_off(root: Client, path: str, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """POST to ``path``; only the first ``cut`` databases commit, in the order of a commit."""

    async def commit(self: Connections) -> None:
        open_ = [
            self._pooled_connections[name]
            for name in reversed(ORDER)
            if name in self._pooled_connections
        ]
        for lease in [lease for lease in open_ if lease.transacting][:cut]:
            await lease.commit()
        raise ConnectionResetError("cut by the test")

    with monkeypatch.context() as patch:
        patch.setattr(Connections, "commit", commit)
        assert (await root.http.post(path)).status_code == 500
