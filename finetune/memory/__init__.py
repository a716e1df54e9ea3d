"""How much memory a training needs of a card, before anything is loaded: by the base model's config.json alone.

`shape` reads what the layers are, `need` reckons what a training of them holds at its peak, `speed` how long it takes
on a card whose speed is published. No torch here: what torch really takes is measured by `tests/bench/memory.py` and
held against this.
"""

from finetune.memory.config import read
from finetune.memory.need import MOST_LOGITS, MOST_TOKENS, Kind, Need, Work, need
from finetune.memory.shape import Shape, Unknown

__all__ = ["MOST_LOGITS", "MOST_TOKENS", "Kind", "Need", "Shape", "Unknown", "Work", "need", "read"]
