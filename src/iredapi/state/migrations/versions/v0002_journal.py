"""The journal of writes to LDAP."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
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
    """Create the table unless it is there; ``created`` is seconds since the epoch."""
    if not sa.inspect(op.get_bind()).has_table("journal"):
        op.create_table(
            "journal",
            sa.Column("id", sa.CHAR(32), primary_key=True),
            sa.Column("names", sa.Text(), nullable=False),
            sa.Column(
                "plan",
                sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"),
                nullable=False,
            ),
            sa.Column("created", sa.Double(), nullable=False),
            **_OPTIONS,
        )
