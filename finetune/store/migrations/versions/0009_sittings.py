"""Evaluations that lost their card for a while do not keep or free what is another's by then."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Forward. Those that an older worker measures have none."""
    op.add_column("seats", sa.Column("token", sa.String(16)))
