"""Signed addresses, as a storage behind the API has them: whoever knows one may use it, for an hour, and needs no key.

A request with the API's key is refused: a client that sends it there gives it to somebody else.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from finetune.sandbox.service import Refusal, Reply, Request

#: Where all of them begin.
PLACE: Final = "/storage/"
_LASTS_S: Final = 3600.0
#: From so many on, those that have run out are forgotten.
_MANY: Final = 1000
_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class _Put:
    take: Callable[[bytes], None]
    size: int
    until: float


@dataclass(frozen=True, kw_only=True)
class _Get:
    #: None: the storage has no such object (yet).
    give: Callable[[], bytes | None]
    until: float


class Signed:
    """All signed addresses. The caller holds the lock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[str, _Put | _Get] = {}

    def to_put(self, base: str, take: Callable[[bytes], None], size: int) -> str:
        """Where exactly `size` bytes can be put."""
        return self._kept(base, _Put(take=take, size=size, until=self._now() + _LASTS_S))

    def to_get(self, base: str, give: Callable[[], bytes | None]) -> str:
        """Where they can be got."""
        return self._kept(base, _Get(give=give, until=self._now() + _LASTS_S))

    def put(self, request: Request) -> Reply:
        """PUT: its headers are part of the signature."""
        known = self._of(request)
        sized = f"{known.size},{known.size}" if isinstance(known, _Put) else None
        signed = request.headers.get("content-type") == _TYPE
        if not isinstance(known, _Put) or not signed or request.headers.get("x-goog-content-length-range") != sized:
            raise _no(403, "SignatureDoesNotMatch")
        if len(request.body) != known.size:
            raise _no(400, "EntityTooLarge" if len(request.body) > known.size else "EntityTooSmall")
        known.take(request.body)
        return Reply()

    def get(self, request: Request) -> Reply:
        """GET."""
        known = self._of(request)
        if not isinstance(known, _Get):
            raise _no(403, "SignatureDoesNotMatch")
        content = known.give()
        if content is None:
            raise _no(404, "NoSuchKey")
        return Reply(body=content, headers={"Content-Type": _TYPE})

    def _kept(self, base: str, entry: _Put | _Get) -> str:
        if len(self._known) > _MANY:
            self._known = {token: known for token, known in self._known.items() if known.until >= self._now()}
        token = secrets.token_hex(8)
        self._known[token] = entry
        return f"{base}{PLACE}{token}?X-Goog-Signature={secrets.token_hex(16)}{token}"

    def _of(self, request: Request) -> _Put | _Get:
        if "authorization" in request.headers:
            raise _no(400, "InvalidArgument")
        token = request.parts["token"]
        known = self._known.get(token)
        if known is None or not (request.one("X-Goog-Signature") or "").endswith(token):
            raise _no(403, "SignatureDoesNotMatch")
        if self._now() > known.until:
            raise _no(400, "ExpiredToken")
        return known


def _no(status: int, code: str) -> Refusal:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
    return Refusal(Reply(status=status, body=body, headers={"Content-Type": "application/xml"}))
