"""Evaluations that have a card, or wait for one."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Forward. What an older worker measures has no card in our books."""
    op.create_table(
        "seats",
        sa.Column("worker", sa.String(128), primary_key=True),
        sa.Column("ref", sa.String(129), primary_key=True),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("need", sa.JSON(), nullable=False),
        sa.Column("placed", sa.JSON()),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("lease_until", sa.DateTime(), nullable=False),
    )
