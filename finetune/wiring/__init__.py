"""The only place that joins parts: `Parts` builds them, `Desk` and `DataDesk` put a user's questions to them."""

from finetune.wiring.datadesk import DataDesk
from finetune.wiring.desk import Desk
from finetune.wiring.parts import Parts

__all__ = ["DataDesk", "Desk", "Parts"]
