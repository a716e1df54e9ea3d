"""`python -m finetune` is `ft`."""

from finetune.cli.main import run

run()
