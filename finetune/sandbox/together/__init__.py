"""A stand-in for Together's fine-tuning and files."""
