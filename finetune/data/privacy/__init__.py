"""Personal data and secrets in the texts of training rows: found, named, and taken out. What is missed: `KINDS`."""

from finetune.data.privacy.extra import available
from finetune.data.privacy.finding import Finding
from finetune.data.privacy.kinds import KINDS, NOT_LOOKED_FOR, Kind
from finetune.data.privacy.phones import REGIONS
from finetune.data.privacy.redaction import Numbered, Style, redact, unnumbered
from finetune.data.privacy.scan import find

__all__ = [
    "KINDS",
    "NOT_LOOKED_FOR",
    "REGIONS",
    "Finding",
    "Kind",
    "Numbered",
    "Style",
    "available",
    "find",
    "redact",
    "unnumbered",
]
