"""The keys of requests that are carried out once, and their answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there; times are seconds since the epoch."""
    if sa.inspect(op.get_bind()).has_table("idempotency_keys"):
        return
    long_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.CHAR(64), primary_key=True),
        sa.Column("request", sa.CHAR(64), nullable=False),
        sa.Column("holder", sa.CHAR(32), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("lease", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("outcome", long_text, nullable=True),
        sa.Column("journaled", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=True),
        sa.Column("body", long_text, nullable=True),
        sa.Index("idempotency_keys_created", "created"),
        **MARIADB_OPTIONS,
    )
