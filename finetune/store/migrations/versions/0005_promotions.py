"""Promotions: who gets an alias's calls and how they came to it, what was measured, what gateways have."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Forward. An alias becomes the first row of its traffic: one version has all calls."""
    op.add_column("models", sa.Column("status", sa.String(16), nullable=False, server_default=sa.text("'trained'")))
    traffic = op.create_table(
        "traffic",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("shares", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("by", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
    )
    op.create_index("traffic_alias", "traffic", ["name", "alias", "seq"])
    old = sa.table(
        "aliases", *(sa.column(name) for name in ("name", "alias", "version")), sa.column("changed_at", sa.DateTime())
    )
    rows = op.get_bind().execute(sa.select(old).order_by(old.c.changed_at)).all()
    moved = [
        {"name": row.name, "alias": row.alias, "shares": {str(row.version): 1.0}, "reason": f"promote v{row.version}"}
        | {"by": "ft", "at": row.changed_at}
        for row in rows
    ]
    if moved:
        op.bulk_insert(traffic, moved)
    for row in rows:
        live = "UPDATE models SET status = 'live' WHERE name = :name AND version = :version"
        op.get_bind().execute(sa.text(live), {"name": row.name, "version": row.version})
    op.drop_table("aliases")
    op.create_table(
        "reports",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("suite", sa.String(255), primary_key=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
    )
    _promotions()
    op.create_table(
        "deployments",
        sa.Column("gateway", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("listed_as", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
    )


def _promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("moves", sa.String(129), unique=True),
        sa.Column("gateways", sa.JSON(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("pause_s", sa.Float(), nullable=False),
        sa.Column("gate", sa.JSON()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("before", sa.Integer()),
        sa.Column("rollback", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime()),
        sa.Column("by", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime()),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime()),
    )
    op.create_index("promotions_due", "promotions", ["due_at"])
    op.create_index("promotions_name", "promotions", ["name", "created_at"])
