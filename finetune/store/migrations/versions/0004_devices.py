"""Devices: what workers have, where each training runs; and the trace that a job belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Forward. What trains now has the machine without a device; workers say theirs at the next beat."""
    op.add_column("jobs", sa.Column("trace", sa.String(64)))
    op.add_column("runs", sa.Column("need", sa.JSON()))
    op.add_column("runs", sa.Column("placed", sa.JSON()))
    op.add_column("runs", sa.Column("card_s", sa.Float(), nullable=False, server_default=sa.text("0")))
    op.add_column("runs", sa.Column("furthest", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("workers", sa.Column("devices", sa.JSON()))
    op.add_column("workers", sa.Column("slots", sa.Integer(), nullable=False, server_default=sa.text("1")))
    op.add_column("workers", sa.Column("warm", sa.JSON()))
