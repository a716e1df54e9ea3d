"""The only place that joins parts: `Parts` builds them, `Desk` puts a user's questions to them."""

from finetune.wiring.desk import Desk
from finetune.wiring.parts import Parts

__all__ = ["Desk", "Parts"]
