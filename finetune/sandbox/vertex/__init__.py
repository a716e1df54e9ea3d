"""A stand-in for Vertex AI's tuning jobs, and for the part of Google Cloud Storage that they need."""
