"""Random keys that all replicas share and that stay the same over restarts."""

import secrets

from sqlalchemy import select

from iredapi.state.connections import Connections
from iredapi.state.tables import signing_keys, upsert

_BYTES = 32


class SigningKeys:
    """The keys, by name. Raises ``StateUnavailable``."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes:
        """Return the key of this name; it is made when it is asked for the first time.

        A process reads it once.
        """
        if name not in self._known:
            found = await self._read(name)
            if found is None:
                row = {"name": name, "value": secrets.token_hex(_BYTES)}
                # Another replica may have made it meanwhile: the first one counts.
                kept = [("name", signing_keys.c.name)]
                await self._connections.write(
                    upsert(self._connections.dialect, signing_keys, [row], kept)
                )
                found = await self._read(name)
            self._known[name] = bytes.fromhex(found or "")
        return self._known[name]

    async def _read(self, name: str) -> str | None:
        rows = await self._connections.read(
            select(signing_keys.c.value).where(signing_keys.c.name == name)
        )
        return str(rows[0].value) if rows else None
