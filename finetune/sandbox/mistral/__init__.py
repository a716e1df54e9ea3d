"""A stand-in for Mistral's fine-tuning and files, as they were."""
