"""The layouts of training rows, one file each, and which one a row has."""

from finetune.data.formats.base import Format, Row
from finetune.data.formats.table import FORMATS, recognise

__all__ = ["FORMATS", "Format", "Row", "recognise"]
