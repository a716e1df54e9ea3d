"""Promotions know to whom calls go back, and whether they are a roll back."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Forward. Of a promotion that is under way nobody is known to have had the calls before."""
    op.add_column("promotions", sa.Column("before", sa.Integer()))
    op.add_column("promotions", sa.Column("rollback", sa.Boolean(), nullable=False, server_default=sa.false()))
