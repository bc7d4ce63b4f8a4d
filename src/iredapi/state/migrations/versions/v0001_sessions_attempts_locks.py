"""Login sessions, login attempts and leased locks."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported: a migration keeps meaning what it meant.
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
    """Create what is missing; times are seconds since the epoch."""
    _create(
        "sessions",
        sa.Column("id_hash", sa.CHAR(64), primary_key=True),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("credential", sa.CHAR(64), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        index="username",
    )
    _create(
        "login_attempts",
        sa.Column("key", sa.String(320), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("window_start", sa.Double(), nullable=False),
        index="window_start",
    )
    _create(
        "locks",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("holder", sa.CHAR(32), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
    )


def _create(name: str, *columns: sa.Column[Any], index: str = "") -> None:
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(name):
        op.create_table(name, *columns, **_OPTIONS)
    known = {found["name"] for found in sa.inspect(op.get_bind()).get_indexes(name)}
    if index and f"{name}_{index}" not in known:
        op.create_index(f"{name}_{index}", name, [index])
