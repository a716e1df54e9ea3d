"""What `ft explain CODE` says: one entry for every code that the product can raise (a test compares the two)."""

from finetune.codes import data, hosted, recipe, running, serving, training
from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    **recipe.CODES,
    **data.CODES,
    **running.CODES,
    **hosted.CODES,
    **training.CODES,
    **serving.CODES,
}

__all__ = ["CODES", "CodeText"]
