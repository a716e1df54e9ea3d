"""The table of measured values that OpenAI keeps of a finished job."""

import base64
import binascii


def plain(content: bytes) -> bytes:
    """The table itself: the API serves it in base64, other hosts as it is."""
    try:
        decoded = base64.b64decode(b"".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return content
    return decoded if b"step" in decoded[:200] else content
