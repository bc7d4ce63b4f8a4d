"""API tokens."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
        ("row_format", "DYNAMIC"),
    )
}


def upgrade() -> None:
    """Create the table and its indexes unless they are there; times are seconds since the epoch."""
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table("tokens"):
        op.create_table(
            "tokens",
            sa.Column("id", sa.CHAR(16), primary_key=True),
            sa.Column("secret_hash", sa.CHAR(64), nullable=False),
            sa.Column("old_hash", sa.CHAR(64), nullable=True),
            sa.Column("old_until", sa.Double(), nullable=False),
            sa.Column("hint", sa.String(16), nullable=False),
            sa.Column("owner", sa.String(255), nullable=False),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("account", sa.CHAR(64), nullable=False),
            sa.Column("label", sa.String(255), nullable=False),
            sa.Column("read_only", sa.Integer(), nullable=False),
            sa.Column("domains", sa.Text(), nullable=False),
            sa.Column("networks", sa.Text(), nullable=False),
            sa.Column("created", sa.Double(), nullable=False),
            sa.Column("expires", sa.Double(), nullable=True),
            sa.Column("used", sa.Double(), nullable=True),
            **_OPTIONS,
        )
    known = {found["name"] for found in sa.inspect(op.get_bind()).get_indexes("tokens")}
    for column in ("secret_hash", "old_hash", "owner"):
        if f"tokens_{column}" not in known:
            op.create_index(f"tokens_{column}", "tokens", [column], unique=column == "secret_hash")
