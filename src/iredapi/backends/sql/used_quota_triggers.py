"""The triggers of ``used_quota``, as iRedMail makes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Table, event

from iredapi.database.column_types import MYSQL

# Dovecot inserts into used_quota without a domain; on PostgreSQL it also inserts again for a user
# who has a row, and means "add this".
_MYSQL_TRIGGER = (
    "CREATE TRIGGER used_quota_domain BEFORE INSERT ON used_quota"
    " FOR EACH ROW SET NEW.domain = SUBSTRING_INDEX(NEW.username, '@', -1)"
)

_TRIGGERS = (
    *((name, _MYSQL_TRIGGER) for name in MYSQL),
    (
        "postgresql",
        """
        CREATE OR REPLACE FUNCTION used_quota_add() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            NEW.domain := split_part(NEW.username, '@', 2);
            UPDATE used_quota
               SET bytes = bytes + coalesce(NEW.bytes, 0),
                   messages = messages + coalesce(NEW.messages, 0)
             WHERE username = NEW.username;
            IF FOUND THEN
                RETURN NULL;
            END IF;
            RETURN NEW;
        END
        $body$
        """,
    ),
    (
        "postgresql",
        """
        CREATE TRIGGER used_quota_add BEFORE INSERT ON used_quota
        FOR EACH ROW EXECUTE FUNCTION used_quota_add()
        """,
    ),
    (
        "sqlite",
        """
        CREATE TRIGGER used_quota_domain AFTER INSERT ON used_quota BEGIN
            UPDATE used_quota SET domain = substr(username, instr(username, '@') + 1)
             WHERE username = NEW.username;
        END
        """,
    ),
)


def make_with(used_quota: Table) -> None:
    """Make the triggers together with their table."""
    ddl: Any = DDL  # its constructor has no annotations
    for dialect, statement in _TRIGGERS:
        event.listen(used_quota, "after_create", ddl(statement).execute_if(dialect=dialect))
