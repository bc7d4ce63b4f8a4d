"""Which database server answers, and how old it is: the one place where versions are compared.

SQLAlchemy asks the server (``SELECT VERSION()``) when it connects first; before that nothing is
known. Percona Server, and MySQL as clouds offer it, have MySQL's versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import Dialect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.column_types import MYSQL

Version = tuple[int, ...]

_OLDEST: Final[dict[str, Version]] = {
    "PostgreSQL": (9, 5),
    "MariaDB": (10, 2),
    "MySQL": (8, 0, 13),  # NOWAIT, and expressions as defaults
}
_EXECUTE_WITH_VALUES: Final = (10, 2, 3)
"""The version of MariaDB whose ``EXECUTE … USING`` takes values; MySQL's takes variables only."""
_NOWAIT: Final[dict[str, Version]] = {"MariaDB": (10, 3), "MySQL": (8, 0, 1)}


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of server and its version, empty when it is not known."""

    kind: str
    """PostgreSQL, MariaDB, MySQL or SQLite."""
    version: Version
    comment: str = ""
    """What MySQL calls itself, for example ``Percona Server (GPL), Release 28``."""

    @classmethod
    def of(cls, dialect: Dialect) -> Server:
        """Return what is known of the server of a dialect."""
        version = tuple(dialect.server_version_info or ())
        if dialect.name not in MYSQL:
            return _server("PostgreSQL" if dialect.name == "postgresql" else "SQLite", version)
        return _server("MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL", version)

    @classmethod
    async def ask(cls, connection: AsyncConnection) -> Server:
        """Return the kind and version of a connected server, and what it calls itself."""
        found = cls.of(connection.dialect)
        if found.kind not in ("MariaDB", "MySQL"):
            return found
        asked = await connection.execute(text("SELECT @@version_comment"))
        return cls(found.kind, found.version, str(asked.scalar_one()))

    @property
    def has_nowait(self) -> bool:
        """Whether rows can be locked without waiting; SQLite has one writer."""
        return self.version >= _NOWAIT.get(self.kind, ())

    @property
    def executes_with_values(self) -> bool:
        """Whether a prepared statement can be run in one statement of text, with its values."""
        return self.kind == "MariaDB" and self.version >= _EXECUTE_WITH_VALUES

    def __str__(self) -> str:
        name = "Percona Server" if self.comment.startswith("Percona") else self.kind
        return f"{name} {'.'.join(map(str, self.version[:3]))}"

    def too_old(self) -> str:
        """Return why the server is too old; "" when it is not."""
        oldest = _OLDEST.get(self.kind, ())
        if not self.version or self.version >= oldest:
            return ""
        wanted = f"{self.kind} {'.'.join(map(str, oldest))}"
        return f"the server is {self}, but the oldest one that this service works with is {wanted}"


@lru_cache(maxsize=64)
def _server(kind: str, version: tuple[int | str, ...]) -> Server:
    return Server(kind, tuple(part for part in version if isinstance(part, int)))
