"""Webhooks, and their last deliveries."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables unless they are there; times are seconds since the epoch."""
    there = set(sa.inspect(op.get_bind()).get_table_names())
    text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    if "webhooks" not in there:
        op.create_table(
            "webhooks",
            sa.Column("id", sa.CHAR(16), primary_key=True),
            sa.Column("owner", sa.String(255), nullable=False),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("account", sa.CHAR(64), nullable=False),
            sa.Column("label", sa.String(255), nullable=False),
            sa.Column("url", sa.Text(), nullable=False),
            sa.Column("kinds", sa.Text(), nullable=False),
            sa.Column("domains", text, nullable=False),
            sa.Column("secret", sa.String(64), nullable=False),
            sa.Column("old_secret", sa.String(64), nullable=False),
            sa.Column("old_until", sa.Double(), nullable=False),
            sa.Column("created", sa.Double(), nullable=False),
            sa.Column("enabled", sa.Integer(), nullable=False),
            sa.Column("reason", sa.String(32), nullable=False),
            sa.Column("changed", sa.Double(), nullable=False),
            sa.Column("generation", sa.BigInteger(), nullable=False),
            sa.Column("position", sa.BigInteger(), nullable=False),
            sa.Column("progress", text, nullable=False),
            sa.Column("attempts", sa.BigInteger(), nullable=False),
            sa.Column("delivered", sa.Double(), nullable=True),
            sa.Column("failing", sa.Double(), nullable=True),
            sa.Index("webhooks_owner", "owner"),
            **MARIADB_OPTIONS,
        )
    if "webhook_deliveries" not in there:
        op.create_table(
            "webhook_deliveries",
            sa.Column("webhook", sa.CHAR(16), primary_key=True),
            sa.Column("slot", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("number", sa.BigInteger(), nullable=False),
            sa.Column("event", sa.CHAR(32), nullable=False),
            sa.Column("kind", sa.String(32), nullable=False),
            sa.Column("time", sa.Double(), nullable=False),
            sa.Column("attempt", sa.Integer(), nullable=False),
            sa.Column("status", sa.Integer(), nullable=True),
            sa.Column("reason", sa.String(32), nullable=False),
            sa.Column("milliseconds", sa.Integer(), nullable=False),
            sa.Index("webhook_deliveries_time", "time"),
            **MARIADB_OPTIONS,
        )
