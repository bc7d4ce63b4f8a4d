"""Columns for guesses of login attempts and credentials of tokens, and the known networks."""

import sqlalchemy as sa
from alembic import op

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table unless they are there; times are seconds since the epoch."""
    inspector = sa.inspect(op.get_bind())
    for table, column in (
        ("login_attempts", sa.Column("guesses", sa.Text(), nullable=True)),
        ("tokens", sa.Column("credential", sa.CHAR(64), nullable=True)),
    ):
        if column.name not in {found["name"] for found in inspector.get_columns(table)}:
            op.add_column(table, column)
    if not inspector.has_table("known_networks"):
        op.create_table(
            "known_networks",
            sa.Column("account", sa.String(255), primary_key=True),
            sa.Column("network", sa.String(64), primary_key=True),
            sa.Column("seen", sa.Double(), nullable=False),
            **MARIADB_OPTIONS,
        )
