"""Versions for use elsewhere: folders that other tools load, and what may be thrown away here."""
