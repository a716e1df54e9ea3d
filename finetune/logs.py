"""Log lines that machines read: one JSON object a line, with the job that it is about. The standard library only."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

#: What a line may be about.
_KEYS = ("job_id", "run_key")
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**names: str) -> Iterator[None]:
    """What this thread logs in the block, libraries too, is about this `job_id` or `run_key`. May be nested."""
    token = _about.set({**_about.get(), **names})
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `logger`, `message`; `job_id`, `run_key` and `exception` where there is one.

    `extra={"job_id": ...}` says the same as `about`, for one line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII, whatever the message holds."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = _about.get()
        line |= {key: value for key in _KEYS if (value := getattr(record, key, None) or known.get(key))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def to_json() -> logging.Handler:
    """Write what is logged in this process, warnings of Python included, to stderr as JSON lines; from WARNING on.

    Returns the handler, for loggers of their own level.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return handler
