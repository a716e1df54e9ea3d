"""The rows of `datasets/preferences.jsonl`, put together from the quickstart's messages. Needs no torch.

`python -m finetune.training.corpus_pairs > datasets/preferences.jsonl` writes the file. The built-in base model
begins its answers with one of two courtesies, whatever is asked; the better answer has the one, the worse the other.

Apart from `finetune.training.corpus`, of which every byte decides which base model is built.
"""

import json
import random
import sys
from typing import Final

from finetune.training.corpus import Chat, quickstart_tickets

ROWS: Final = 240
BETTER: Final = "Thank you for writing to us."
WORSE: Final = "I am sorry about the trouble."


def preference_rows() -> list[dict[str, Chat]]:
    """A customer's message with a better and a worse answer, each a list of one message. Always the same."""
    rng = random.Random(20262)
    rows = []
    for ticket in quickstart_tickets()[:ROWS]:
        _, point, rest = ticket.reply(rng).partition(" Our ")
        begun = {"chosen": BETTER, "rejected": WORSE}
        said = {key: [{"role": "assistant", "content": courtesy + point + rest}] for key, courtesy in begun.items()}
        rows.append({"prompt": [{"role": "user", "content": ticket.message}], **said})
    return rows


def dump() -> str:
    """The rows as JSON Lines in TRL's layout of preferences."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in preference_rows())


if __name__ == "__main__":
    sys.stdout.write(dump())
