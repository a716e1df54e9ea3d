"""The queue: whose turn it is, pauses, deadlines; and quick answers about what is unfinished."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward. Every job that exists has had its turn."""
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("jobs", sa.Column("admitted_at", sa.DateTime()))
    op.add_column("jobs", sa.Column("hold_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("deadline_at", sa.DateTime()))
    op.add_column("runs", sa.Column("hold_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE jobs SET admitted_at = created_at")
    op.create_index("jobs_finished", "jobs", ["finished_at"])
    op.create_index("jobs_run", "jobs", ["run_key"])
    op.create_index("jobs_state", "jobs", ["state", "provider", "finished_at"])
