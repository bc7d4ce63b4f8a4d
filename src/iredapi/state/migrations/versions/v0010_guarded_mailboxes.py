"""The table of mailboxes whose users were global admins."""

import sqlalchemy as sa
from alembic import op

from iredapi.state.tables import MARIADB_OPTIONS, NAME_LENGTH

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table unless it is there."""
    if not sa.inspect(op.get_bind()).has_table("guarded_mailboxes"):
        op.create_table(
            "guarded_mailboxes",
            sa.Column("path", sa.String(NAME_LENGTH), primary_key=True),
            sa.Column("since", sa.Double, nullable=False),
            **MARIADB_OPTIONS,
        )
