"""The servers to which processes write."""

import sqlalchemy as sa
from alembic import op

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there; times are seconds since the epoch."""
    if sa.inspect(op.get_bind()).has_table("written_servers"):
        return
    op.create_table(
        "written_servers",
        sa.Column("process", sa.CHAR(32), primary_key=True),
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("shown", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Index("written_servers_seen", "seen"),
        **MARIADB_OPTIONS,
    )
