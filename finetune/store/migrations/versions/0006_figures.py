"""Promotions counted without being read."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Forward. Nothing that is written changes."""
    op.create_index("promotions_state", "promotions", ["state", "finished_at"])
