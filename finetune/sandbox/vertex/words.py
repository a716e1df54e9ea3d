"""How Google answers: refusals in its two forms, times, numbers of 64 bits, checksums."""

import base64
from datetime import UTC, datetime
from typing import Any, Final

from finetune.sandbox.service import Refusal, Reply

#: The names of `google.rpc.Code` by HTTP status.
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPES: Final = "type.googleapis.com/google.rpc."


def google_error(
    status: int, message: str, *, name: str | None = None, details: list[dict[str, Any]] | None = None
) -> Reply:
    """An error as Google's newer APIs give it; `name` where the status alone does not tell it."""
    error: dict[str, Any] = {"code": status, "message": message, "status": name or _STATUS.get(status, "UNKNOWN")}
    return Reply(status=status, body={"error": {**error, "details": details} if details else error})


def google_refusal(status: int, message: str, **more: Any) -> Refusal:
    """The same, to be raised."""
    return Refusal(google_error(status, message, **more))


def invalid(field: str, message: str) -> Refusal:
    """400 for one field of the request, dotted and in snake_case as Google names them."""
    violation = {"field": field, "description": message}
    details = [{"@type": f"{_TYPES}BadRequest", "fieldViolations": [violation]}]
    return google_refusal(400, f"{field}: {message}", details=details)


def reason(word: str, **metadata: str) -> list[dict[str, Any]]:
    """Details that name the reason in one word."""
    told: dict[str, Any] = {"@type": f"{_TYPES}ErrorInfo", "reason": word, "domain": "googleapis.com"}
    return [{**told, "metadata": metadata} if metadata else told]


def storage_refusal(status: int, reason: str, message: str) -> Refusal:
    """An error as Cloud Storage gives it, to be raised."""
    one = {"message": message, "domain": "global", "reason": reason}
    return Refusal(Reply(status=status, body={"error": {"code": status, "message": message, "errors": [one]}}))


def stamp(at: datetime) -> str:
    """A time in UTC, with microseconds and `Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _table() -> list[int]:
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        out.append(value)
    return out


_TABLE: Final = _table()


def crc32c(data: bytes) -> str:
    """The checksum of Castagnoli's polynomial in base64, big-endian.

    Fast where Google's package for it is installed, as it is beside their storage client.
    """
    try:
        from google_crc32c import value as fast
    except ImportError:
        sum = 0xFFFFFFFF
        for byte in data:
            sum = sum >> 8 ^ _TABLE[(sum ^ byte) & 0xFF]
        sum ^= 0xFFFFFFFF
    else:
        sum = fast(data)
    return base64.b64encode(sum.to_bytes(4, "big")).decode()
