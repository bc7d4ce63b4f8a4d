"""One row for the details of many entries of the panel's log."""

import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from iredapi.state.tables import MARIADB_OPTIONS

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_BUCKET = 64
_ROWS = 1000


def upgrade() -> None:
    """Create the table unless it is there, move the rows of ``log_details``, and drop that."""
    tables = sa.inspect(op.get_bind())
    if not tables.has_table("log_detail_blocks"):
        text = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
        op.create_table(
            "log_detail_blocks",
            sa.Column("bucket", sa.BigInteger(), primary_key=True, autoincrement=False),
            sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
            sa.Column("entries", text, nullable=False),
            sa.Column("created", sa.Double(), nullable=False),
            sa.Index("log_detail_blocks_created", "created"),
            **MARIADB_OPTIONS,
        )
    if tables.has_table("log_details"):
        _move()
        op.drop_table("log_details")


def _move() -> None:
    names = ("digest", "request_id", "about", "changes", "created")
    old: Any = sa.table("log_details", sa.column("log_id", sa.BigInteger), *map(sa.column, names))
    keys = [sa.column(name, sa.BigInteger) for name in ("bucket", "id")]
    new: Any = sa.table(
        "log_detail_blocks", *keys, sa.column("entries"), sa.column("created", sa.Double)
    )
    connection, last = op.get_bind(), -1
    while True:
        chosen = sa.select(old).where(old.c.log_id > last).order_by(old.c.log_id).limit(_ROWS)
        rows = connection.execute(chosen).all()
        if not rows:
            return
        last = rows[-1].log_id
        connection.execute(sa.insert(new), [_block(row) for row in rows])


def _block(row: Any) -> dict[str, Any]:
    changes = json.loads(row.changes) if row.changes else []
    details = [row.log_id, row.digest, row.request_id, row.about, changes]
    return {
        "bucket": row.log_id // _BUCKET,
        "id": secrets.randbits(63),
        "entries": json.dumps([details]),
        "created": row.created,
    }
