"""Training data: read it, say what is wrong with which line, split it, and write it down under its digest."""

from finetune.data.preparing import inspect, prepare
from finetune.data.report import DataReport
from finetune.data.request import KIND_OF, DataRequest

__all__ = ["KIND_OF", "DataReport", "DataRequest", "inspect", "prepare"]
