"""Local stand-ins for hosted fine-tuning APIs, as strict as they are, with faults on demand. They ship with ft."""
