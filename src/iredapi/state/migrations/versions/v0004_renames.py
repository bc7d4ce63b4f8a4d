"""The table of renames that have begun."""

import sqlalchemy as sa
from alembic import op

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there; times are seconds since the epoch."""
    if not sa.inspect(op.get_bind()).has_table("renames"):
        op.create_table(
            "renames",
            sa.Column("name", sa.String(255), primary_key=True),
            sa.Column("begun", sa.Double(), nullable=False),
            **MARIADB_OPTIONS,
        )
