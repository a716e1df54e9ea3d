"""The local trainer: LoRA with PEFT in a process of its own. Importing this package imports no torch."""
