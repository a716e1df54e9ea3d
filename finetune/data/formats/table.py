"""All formats by name, in the order in which a row is tried against them."""

from collections.abc import Mapping
from typing import Final

from finetune.data.formats import (
    alpaca,
    bedrock,
    completion,
    fireworks,
    fireworks_dpo,
    gemini,
    gemini_preference,
    kto,
    local,
    local_dpo,
    mistral,
    openai,
    openai_dpo,
    preference,
    sharegpt,
    together,
    together_preference,
)
from finetune.data.formats.base import Format, Row

FORMATS: Final[Mapping[str, Format]] = {
    each.name: each
    for each in (
        # Those with two answers or a label come first: some such rows have `messages` or `contents` too.
        openai_dpo.FORMAT,
        preference.FORMAT,
        kto.FORMAT,
        gemini_preference.FORMAT,
        # Before OpenAI's: Bedrock's rows have `messages` too.
        bedrock.FORMAT,
        openai.FORMAT,
        sharegpt.FORMAT,
        gemini.FORMAT,
        alpaca.FORMAT,
        completion.FORMAT,
        # With OpenAI's keys, so read only when they are named.
        together_preference.FORMAT,
        fireworks_dpo.FORMAT,
        mistral.FORMAT,
        together.FORMAT,
        fireworks.FORMAT,
        # Only written.
        local.FORMAT,
        local_dpo.FORMAT,
    )
}


def recognise(row: Row) -> Format | None:
    """The first readable format that a row looks like; None if it looks like none."""
    return next((each for each in FORMATS.values() if each.read and each.recognises(row)), None)
