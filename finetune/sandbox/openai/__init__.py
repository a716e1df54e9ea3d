"""A stand-in for OpenAI's fine-tuning, files, uploads and webhooks."""
