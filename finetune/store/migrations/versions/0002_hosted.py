"""Hosted providers: what a job costs, until when a second job of its key may turn up, and looking one up by its id."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forward."""
    op.add_column("jobs", sa.Column("cost", sa.JSON()))
    op.add_column("jobs", sa.Column("doubt_until", sa.DateTime()))
    op.create_index("jobs_remote", "jobs", ["remote_id"])
