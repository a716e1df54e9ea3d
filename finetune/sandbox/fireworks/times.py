"""Moments, as Fireworks writes them."""

from datetime import UTC, datetime


def moment(at: float) -> str:
    """RFC 3339, from seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
