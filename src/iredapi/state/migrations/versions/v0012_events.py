"""The outbox of changes: events that are about to be committed, and published ones."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from iredapi.state.tables import ACCOUNT_LENGTH, MARIADB_OPTIONS, NAME_LENGTH

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables unless they are there; times are seconds since the epoch."""
    there = set(sa.inspect(op.get_bind()).get_table_names())
    text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    if "pending_events" not in there:
        op.create_table(
            "pending_events",
            sa.Column("id", sa.CHAR(32), primary_key=True),
            sa.Column("written", sa.Double(), nullable=False),
            sa.Column("due", sa.Double(), nullable=False),
            sa.Column("account", sa.String(ACCOUNT_LENGTH), nullable=False),
            sa.Column("body", text, nullable=False),
            sa.Index("pending_events_account", "account"),
            sa.Index("pending_events_due", "due"),
            **MARIADB_OPTIONS,
        )
    if "events" not in there:
        op.create_table(
            "events",
            sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
            sa.Column("id", sa.CHAR(32), nullable=False),
            sa.Column("time", sa.Double(), nullable=False),
            sa.Column("kind", sa.String(32), nullable=False),
            sa.Column("account", sa.String(ACCOUNT_LENGTH), nullable=False),
            sa.Column("domain", sa.String(NAME_LENGTH), nullable=False),
            sa.Column("body", text, nullable=False),
            sa.Index("events_id", "id"),
            sa.Index("events_domain", "domain", "position"),
            **MARIADB_OPTIONS,
        )
    if "event_counter" not in there:
        op.create_table(
            "event_counter",
            sa.Column("name", sa.String(16), primary_key=True),
            sa.Column("value", sa.BigInteger(), nullable=False),
            **MARIADB_OPTIONS,
        )
