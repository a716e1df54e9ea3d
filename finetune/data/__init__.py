"""Training data: read it, say what is wrong with which line, split it, and write it down under its digest."""

from finetune.data.preparing import check, inspect, prepare
from finetune.data.report import DataReport

__all__ = ["DataReport", "check", "inspect", "prepare"]
