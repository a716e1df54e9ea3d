"""Webhooks as OpenAI sends them, signed as Standard Webhooks says."""

import base64
import binascii
import hashlib
import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

_TRIES: Final = 3
_TIMEOUT_S: Final = 2.0
#: Until the next try, seconds of the sandbox's clock, times the tries so far.
_PAUSE_S: Final = 0.5
_PREFIX: Final = "whsec_"


@dataclass(frozen=True)
class Webhook:
    """Where events go, and what they are signed with: `whsec_` and base64, or any text."""

    url: str
    secret: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"the webhook's address must begin with http:// or https://: {self.url}")
        _key(self.secret)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event on its way."""

    id: str
    body: bytes
    due: float
    tries: int = 0


class Sender:
    """Events to one address: queued under the sandbox's lock, sent without it. `sent` tells what became of them."""

    def __init__(self, webhook: Webhook, now: Callable[[], float]) -> None:
        self._webhook, self._now = webhook, now
        self._waiting: deque[Delivery] = deque()
        self._sending = threading.Lock()
        #: The last attempts: id of the event, and the status of the answer or the error's name.
        self.sent: deque[tuple[str, int | str]] = deque(maxlen=1000)

    def queue(self, event_id: str, event: dict[str, Any], times: int = 1) -> None:
        """Send this event soon, `times` times under the same id."""
        body = json.dumps(event).encode()
        self._waiting.extend(Delivery(id=event_id, body=body, due=self._now()) for _ in range(times))

    def send(self) -> None:
        """Send what is due; what fails waits for its next try. Blocks for up to two seconds an event.

        Does nothing while another thread is at it.
        """
        if self._sending.acquire(blocking=False):
            try:
                self._send_due()
            finally:
                self._sending.release()

    def _send_due(self) -> None:
        now = self._now()
        for _ in range(len(self._waiting)):
            delivery = self._waiting.popleft()
            if delivery.due > now:
                self._waiting.append(delivery)
                continue
            outcome = self._post(delivery)
            self.sent.append((delivery.id, outcome))
            tries = delivery.tries + 1
            taken = isinstance(outcome, int) and 200 <= outcome < 300
            if not taken and tries < _TRIES:
                self._waiting.append(replace(delivery, tries=tries, due=self._now() + _PAUSE_S * tries))

    def _post(self, delivery: Delivery) -> int | str:
        address = urlsplit(self._webhook.url)
        connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        try:
            connection = connect(address.hostname or "", address.port, timeout=_TIMEOUT_S)
            try:
                connection.request("POST", target, delivery.body, self._headers(delivery))
                return connection.getresponse().status
            finally:
                connection.close()
        except (OSError, HTTPException) as error:
            return type(error).__name__

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        # The receiver compares this with its own clock, which nobody puts forward.
        at = str(int(time.time()))
        return {
            "Content-Type": "application/json",
            "User-Agent": "OpenAI/1.0 (sandbox)",
            "webhook-id": delivery.id,
            "webhook-timestamp": at,
            "webhook-signature": "v1," + sign(self._webhook.secret, delivery.id, at, delivery.body),
        }


def sign(secret: str, event_id: str, at: str, body: bytes) -> str:
    """The signature in base64: HMAC-SHA256 over id, time and body with dots between."""
    signed = f"{event_id}.{at}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("the webhook's secret must be whsec_ and base64") from None
