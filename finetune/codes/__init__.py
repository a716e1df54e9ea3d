"""What `ft explain CODE` says: one entry for every code that the product can raise (a test compares the two)."""

from finetune.codes import data, evaluation, gateways, hosted, promotion, recipe, running, serving, training
from finetune.codes.text import CodeText

CODES: dict[str, CodeText] = {
    **recipe.CODES,
    **data.CODES,
    **running.CODES,
    **hosted.CODES,
    **training.CODES,
    **serving.CODES,
    **gateways.CODES,
    **promotion.CODES,
    **evaluation.CODES,
}

__all__ = ["CODES", "CodeText"]
