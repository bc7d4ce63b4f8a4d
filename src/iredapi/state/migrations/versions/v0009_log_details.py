"""The table of what is kept beside entries of the panel's log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there; times are seconds since the epoch."""
    if sa.inspect(op.get_bind()).has_table("log_details"):
        return
    text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    op.create_table(
        "log_details",
        sa.Column("log_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("digest", sa.CHAR(32), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("about", sa.String(16), nullable=False),
        sa.Column("changes", text, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Index("log_details_created", "created"),
        **MARIADB_OPTIONS,
    )
