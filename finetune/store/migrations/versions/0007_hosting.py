"""What an hour of hosting may cost, with each promotion."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Forward. A promotion of an older worker agrees to nothing, and so deploys nothing."""
    op.add_column("promotions", sa.Column("max_hosting", sa.String(32)))
