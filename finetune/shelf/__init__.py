"""Where finished adapters are kept beside this machine's disk: a prefix of a bucket, a folder a digest.

`bucket` speaks to S3 and Google Cloud Storage, `objects` puts one adapter there and takes it from there, `adapters`
answers where a version's adapter is.
"""

from finetune.shelf.adapters import Adapters

__all__ = ["Adapters"]
