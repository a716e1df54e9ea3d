"""The only place that joins parts: `Parts` and `Releases` build them, the desks put users' questions."""

from finetune.wiring.cataloguedesk import CatalogueDesk
from finetune.wiring.datadesk import DataDesk
from finetune.wiring.desk import Desk
from finetune.wiring.parts import Parts
from finetune.wiring.releases import Releases

__all__ = ["CatalogueDesk", "DataDesk", "Desk", "Parts", "Releases"]
