"""A call of OpenAI's to our webhook: who sent it, and which job it is about."""

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from finetune.errors import AuthenticationFailed, Problem

if TYPE_CHECKING:
    from openai.resources.webhooks.webhooks import Webhooks

#: Holds what the calls are signed with.
SECRET: Final = "OPENAI_WEBHOOK_SECRET"
_OURS: Final = "fine_tuning.job."


def subject(headers: Mapping[str, str], body: bytes, secret: str) -> str | None:
    """The job's id; None when the call is about no job. Needs the package. Raises AuthenticationFailed."""
    import openai

    try:
        _webhooks().verify_signature(body, dict(headers), secret=secret)
        event = json.loads(body)
    except (openai.InvalidWebhookSignatureError, ValueError, TypeError) as error:
        # TypeError: a signature that is not ASCII cannot be compared.
        what, fix = "a call to the webhook is not signed as it must be", f"set {SECRET} to what the vendor shows"
        raise AuthenticationFailed(Problem(code="E405", what=what, why=str(error)[:200], fix=fix)) from None
    data = event.get("data") if isinstance(event, dict) else None
    if not isinstance(data, dict) or not str(event.get("type")).startswith(_OURS):
        return None
    return data["id"] if isinstance(data.get("id"), str) else None


@cache
def _webhooks() -> "Webhooks":
    """Of a client that never sends anything."""
    import openai

    return openai.OpenAI(api_key="none").webhooks
