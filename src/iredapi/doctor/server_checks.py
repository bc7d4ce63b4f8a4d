"""Checks of the database servers: they can be reached, have our tables, and grant our rights.

Rights are tested with statements that match no row, in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Executable, Table, delete, false, insert, literal, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from iredapi.database.database import Database
from iredapi.database.errors import is_refused, is_unavailable, translated
from iredapi.doctor.findings import Finding
from iredapi.errors import ServerDown
from iredapi.observability.health_checks import NotUsable

_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NOT_INSERTED: Final = ("SELECT", "UPDATE", "DELETE")
RIGHTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # Rows are inserted by Dovecot and iRedAPD; we rename and remove them.
        "used_quota": _NOT_INSERTED,
        "last_login": _NOT_INSERTED,
        "share_folder": _NOT_INSERTED,
        "anyone_shares": _NOT_INSERTED,
        "throttle_tracking": _NOT_INSERTED,
        "greylisting_tracking": _NOT_INSERTED,
        # Rows are removed by nightly jobs.
        "mailaddr": ("SELECT", "INSERT", "UPDATE"),
        "log": ("SELECT", "INSERT"),
    }
)
"""Rights that the API needs, by table; tables not named here need all four."""


async def examine(
    database: Database, *, ignore: str = "", rights: bool = True
) -> AsyncIterator[Finding]:
    """Report missing tables, columns and rights of a database, and a server without writes.

    ``ignore`` is a table that the settings have given another name; ``rights``: test them too.
    Raises ServerDown when the server cannot be reached.
    """
    if database.file is not None and not database.file.is_file():
        raise ServerDown(detail="There is no such file.")
    if await reads_only(database):
        yield Finding("DATABASE_READS_ONLY", database.name)
        rights = False  # they are tested with writes
    try:
        schema = await database.schema()
    except DBAPIError as error:
        raise translated(error) from error
    required = set(schema.lacking_required())
    newer = set(schema.newer())
    for item in schema.missing():
        if item not in required and item not in newer:
            continue
        if not ignore or item.partition(".")[0] != ignore:
            code = "SCHEMA_LACKS" if item in required else "SCHEMA_OLDER"
            yield Finding(code, f"{database.name}.{item}")
    for table in database.metadata.sorted_tables if rights else ():
        if not schema.has(table):
            continue
        columns = [column.name for column in schema.columns(table)]
        for right in RIGHTS.get(table.name, _ALL):
            if not await _allowed(database, _try(right, table, columns)):
                yield Finding("RIGHT_MISSING", f"{database.name}.{table.name}", right)


async def reads_only(database: Database) -> bool:
    """Tell whether the server of a database can be read, but takes no writes."""
    try:
        await database.ping()
    except NotUsable as error:
        return error.status == "read-only"
    except (SQLAlchemyError, OSError):
        pass  # what follows reports it
    return False


def _try(right: str, table: Table, columns: list[str]) -> Executable:
    """Return a statement that needs a right and matches no row."""
    column = table.c[columns[0]]
    nothing = select(column).where(false())
    statements: dict[str, Any] = {
        "SELECT": nothing,
        "INSERT": insert(table).from_select(
            [column.name], select(literal(None, column.type)).where(false())
        ),
        "UPDATE": update(table).values({column.name: column}).where(false()),
        "DELETE": delete(table).where(false()),
    }
    found: Executable = statements[right]
    return found


async def _allowed(database: Database, statement: Executable) -> bool:
    try:
        async with database.using(writing=True) as pooled:
            await pooled.connection.execute(statement)
    except DBAPIError as error:
        if is_unavailable(error):
            raise translated(error) from error
        # Other errors (a column without a default) come after the right was checked.
        return not is_refused(error)
    return True
