"""Any place with training rows, as blocks of raw JSON rows: files, folders, globs, object stores, URLs, the hub.

Streams with bounded memory. What is wrong with a place goes to the caller's `Report`; nothing is raised for it.
"""

from finetune.data.sources.faults import Report
from finetune.data.sources.place import Block, Place
from finetune.data.sources.reading import blocks
from finetune.data.sources.resolving import places

__all__ = ["Block", "Place", "Report", "blocks", "places"]
