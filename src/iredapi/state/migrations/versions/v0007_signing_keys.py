"""The table of keys that sign what clients send back, such as cursors of lists."""

import sqlalchemy as sa
from alembic import op

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there."""
    if not sa.inspect(op.get_bind()).has_table("signing_keys"):
        op.create_table(
            "signing_keys",
            sa.Column("name", sa.String(64), primary_key=True),
            sa.Column("value", sa.CHAR(64), nullable=False),
            **MARIADB_OPTIONS,
        )
