"""What a training was foreseen to take, with each job."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Forward. Of an older job nothing was foreseen."""
    op.add_column("jobs", sa.Column("estimate", sa.JSON()))
