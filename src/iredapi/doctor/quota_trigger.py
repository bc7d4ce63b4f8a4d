"""The trigger of ``used_quota`` on PostgreSQL: the one that this server's Dovecot needs.

iRedMail's for 2.3 adds what is inserted to a row that is there, and fills the column ``domain``.
With ``quota = dict`` Dovecot 2.3 adds by UPDATE, and inserts a whole size only after a DELETE.
``quota_clone`` of 2.4 writes each whole size by ``INSERT … ON CONFLICT (username) DO UPDATE``: the
trigger runs first and adds it again. (From PostgreSQL's log, with Dovecot 2.3.19 and 2.4.1.)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.database import Database
from iredapi.database.errors import is_unavailable, translated
from iredapi.doctor.findings import Finding

_TRIGGERS: Final = text(
    "SELECT trigger.tgname, source.prosrc FROM pg_trigger AS trigger"
    " JOIN pg_proc AS source ON source.oid = trigger.tgfoid"
    " WHERE trigger.tgrelid = to_regclass(:name) AND NOT trigger.tgisinternal"
    # BEFORE (2) INSERT (4), for each row (1), and not disabled.
    " AND (trigger.tgtype & 7) = 7 AND trigger.tgenabled <> 'D' ORDER BY 1"
)
_ADDS: Final = re.compile(r"\bupdate\b.*?\bbytes\"?\s*=[^,;]*\+", re.IGNORECASE | re.DOTALL)
_FILLS: Final = re.compile(r"\bnew\.\"?domain\b", re.IGNORECASE)
_FILLER: Final = "iredapi_used_quota_domain"


async def examine_trigger(
    database: Database, table: str, release: str, *, fix: bool
) -> AsyncIterator[Finding]:
    """Report a trigger that does not fit Dovecot's ``release``; nothing when that is not known."""
    if database.dialect != "postgresql" or not release:
        return
    async with database.using() as pooled:
        adding, fills = await _read(pooled.connection, table)
    subject = f"{database.name}.{table}"
    if not adding and not fills:
        yield Finding("QUOTA_TRIGGER_MISSING", subject)
    if not adding or release == "2.3":
        return
    statements = repair(table, adding, fills=fills)
    fixed = fix and await _repaired(database, statements)
    names = ", ".join(adding)
    detail = names if fixed or not fix else f"as the owner of the table: {'; '.join(statements)};"
    yield Finding("QUOTA_TRIGGER_OUTDATED", subject, detail, fixed)


def repair(table: str, adding: list[str], *, fills: bool) -> list[str]:
    """Return the statements that replace adding triggers; ``fills``: another sets the domain."""
    name = _quoted(table)
    statements = [f"DROP TRIGGER {_quoted(trigger)} ON {name}" for trigger in adding]
    if not fills:
        body = "BEGIN NEW.domain := split_part(NEW.username, ''@'', 2); RETURN NEW; END"
        function = f"FUNCTION {_FILLER}()"
        trigger = f"TRIGGER {_FILLER} BEFORE INSERT ON {name} FOR EACH ROW EXECUTE {function}"
        statements += [
            f"CREATE OR REPLACE {function} RETURNS trigger LANGUAGE plpgsql AS '{body}'",
            f"CREATE {trigger}",
        ]
    return statements


async def _read(connection: AsyncConnection, table: str) -> tuple[list[str], bool]:
    """Return the names of the adding triggers, and whether another one fills the domain."""
    rows = (await connection.execute(_TRIGGERS, {"name": _quoted(table)})).all()
    adding = [row.tgname for row in rows if _ADDS.search(row.prosrc)]
    others = [row.prosrc for row in rows if row.tgname not in adding]
    return adding, any(map(_FILLS.search, others))


async def _repaired(database: Database, statements: list[str]) -> bool:
    """Run statements in one transaction; False when the login may not."""
    try:
        async with database.using(writing=True) as pooled:
            for statement in statements:
                await pooled.connection.exec_driver_sql(statement)
            await pooled.commit()
    except DBAPIError as error:
        if is_unavailable(error):
            raise translated(error) from error
        return False
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
