"""What the local trainer reads of preferences: TRL's keys, with the messages of `local`. Only written."""

from typing import Any, Final

import msgspec

from finetune.data.example import Preference
from finetune.data.formats import local, losses, pairs, preference
from finetune.data.formats.base import Format


def write(example: Preference) -> dict[str, Any]:
    """The row, of a preference without losses the whole."""
    parts = {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
    row: dict[str, Any] = {key: [local.message(each) for each in part] for key, part in parts.items()}
    if example.tools:
        row["tools"] = msgspec.to_builtins(example.tools)
    return row


FORMAT: Final = Format(
    name="local-dpo",
    title="the local trainer's preferences",
    kind="preference",
    sample=preference.SAMPLE,
    recognises=preference.recognises,
    write=write,
    losses=pairs.lacking(losses.NAMES, losses.IMAGES, losses.AUDIO, losses.FILES, losses.PARALLEL),
)
