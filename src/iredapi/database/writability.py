"""Whether a server takes writes, asked without writing.

PostgreSQL: ``transaction_read_only`` is on in a standby and with ``default_transaction_read_only``.
MariaDB and MySQL refuse to begin a transaction that writes with
``read_only`` (error 1290), unless the login may write all the same; a node of Galera without quorum
refuses everything (1047). ``innodb_read_only`` has to be asked for.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.column_types import MYSQL
from iredapi.database.errors import NoWritableServer

_POSTGRESQL: Final = text("SELECT current_setting('transaction_read_only')")
_MYSQL: Final = text("SELECT @@innodb_read_only")
_OTHER: Final = text("SELECT 1")


async def check(connection: AsyncConnection) -> None:
    """Raise NoWritableServer, or the driver's error, when a server takes no writes."""
    dialect = connection.dialect.name
    if dialect in MYSQL:
        await connection.exec_driver_sql("START TRANSACTION READ WRITE")
    asked = {"postgresql": _POSTGRESQL, **dict.fromkeys(MYSQL, _MYSQL)}.get(dialect, _OTHER)
    found: object = (await connection.execute(asked)).scalar_one()
    if dialect != "sqlite" and str(found) not in {"off", "0"}:
        raise NoWritableServer("the server takes no writes")
