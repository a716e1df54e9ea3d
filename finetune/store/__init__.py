"""Jobs, runs, models and workers in SQL: SQLite (WAL) by default, PostgreSQL by URL. Only here is SQLAlchemy."""

from finetune.store.beats import SqlBeats
from finetune.store.database import Database
from finetune.store.figures import SqlFigures
from finetune.store.jobs import SqlJobs
from finetune.store.models import SqlModels
from finetune.store.placement import SqlPlacements
from finetune.store.promotions import SqlPromotions
from finetune.store.runs import SqlRuns
from finetune.store.turns import SqlTurns

__all__ = [
    "Database",
    "SqlBeats",
    "SqlFigures",
    "SqlJobs",
    "SqlModels",
    "SqlPlacements",
    "SqlPromotions",
    "SqlRuns",
    "SqlTurns",
]
