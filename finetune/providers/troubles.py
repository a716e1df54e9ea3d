"""What a hosted API's refusals and silences mean to us: one table for all of them, and no secret in any message."""

import re
from collections.abc import Sequence
from typing import Final

from finetune.errors import AuthenticationFailed, OutcomeUnknown, Problem, ProviderError, ProviderUnavailable

#: Words of an API that are shown, at most so many characters.
_LONGEST: Final = 500
#: What looks like a key, or like one of which a vendor shows the ends only.
_KEYS: Final = re.compile(
    r"\b(?:sk-|ya29\.|key[-_](?=\S*\d)|[Bb]earer\s+)[A-Za-z0-9*._~+/-]{8,}"
    r"|[^\s:,;'\"()]{0,64}\*{3,}[^\s:,;'\"()]{0,64}"
    r"|[?&](?:X-Amz-|X-Goog-|sig=|Signature=)[^\s\"<>]+"
)
#: The API did not take the request in time, or is in trouble: whether anything was done, it does not say. Nor does any
#: other status from 500 on, but for those of a request that no server of this kind takes.
_UNSURE: Final = frozenset({408, 409, 425})
_NEVER: Final = frozenset({501, 505})


class Troubles:
    """Makes errors of what goes wrong at one provider.

    `creating` says that the request would have started something that costs: then silence is OutcomeUnknown, and the
    lifecycle looks the run key up before it tries again.
    """

    def __init__(self, title: str, secrets: Sequence[str] = ()) -> None:
        """`title` is the vendor's name as people know it. `secrets` never appear in a message."""
        self._title = title
        self._secrets = [secret for secret in secrets if secret]

    def clean(self, words: str) -> str:
        """The API's own words on one line, shortened, without secrets."""
        for secret in self._secrets:
            words = words.replace(secret, "***")
        words = _KEYS.sub("***", words[: 4 * _LONGEST])
        return "".join(each if each.isprintable() else " " for each in words)[:_LONGEST].strip()

    def refused(
        self,
        doing: str,
        status: int,
        words: str,
        *,
        request_id: str | None = None,
        creating: bool = False,
        after_s: float | None = None,
        exhausted: bool = False,
    ) -> ProviderError:
        """An answer with a status of 400 or more. `doing` is what we wanted (`create the job`).

        `exhausted` says that it is the quota or the bill, not the pace; `after_s` is its Retry-After, seconds.
        """
        why = self._why(words, request_id)
        if status in (401, 403):
            return AuthenticationFailed(self._of_key(doing, status, why))
        if exhausted:
            return ProviderError(self._of_quota(doing, why))
        if status == 410:
            return self.ended(doing, status, words, request_id=request_id)
        if status == 404 and not creating:
            what = f"{self._title} does not have what we asked for when we wanted to {doing}"
            return ProviderError(Problem(code="E402", what=what, why=why, fix="`ft submit --force` trains again"))
        if status == 429 or status in _UNSURE or (status >= 500 and status not in _NEVER):
            kind = OutcomeUnknown if creating and status != 429 else ProviderUnavailable
            error = kind(self._of_busy(doing, status, why))
            error.after_s = after_s
            return error
        return ProviderError(self._of_refusal(doing, status, why))

    def ended(self, doing: str, status: int, words: str, *, request_id: str | None = None) -> ProviderError:
        """A refusal because the service is no more, for this account or for all."""
        why = self._why(words, request_id)
        what = f"{self._title} has ended this service ({doing}, {status})"
        fix = "`ft providers` says who takes jobs today; open weights train on this machine with `provider: local`"
        return ProviderError(Problem(code="E406", what=what, why=why, fix=fix))

    def unreachable(self, doing: str, words: str, *, sent: bool, creating: bool = False) -> ProviderError:
        """No answer. `sent` is False only when it is certain that the request never left (no connection)."""
        if creating and sent:
            return OutcomeUnknown(self._of_silence(doing, words))
        problem = Problem(
            code="E403",
            what=f"{self._title} cannot be reached ({doing})",
            why=self.clean(words),
            # Of a request that was sent nobody knows. What is sent here can be sent twice, or it would be `creating`.
            fix="ft tries again by itself" if sent else "nothing was done; ft tries again by itself",
        )
        return ProviderUnavailable(problem)

    def nonsense(self, doing: str, words: str, *, creating: bool = False) -> ProviderError:
        """An answer that cannot be understood: no JSON, or not what the contract says."""
        problem = Problem(
            code="E411",
            what=f"the answer of {self._title} cannot be understood ({doing})",
            why=self.clean(words),
            fix="ft tries again by itself; if it goes on, something stands between here and the API (a proxy)",
        )
        return (OutcomeUnknown if creating else ProviderUnavailable)(problem)

    def _why(self, words: str, request_id: str | None) -> str:
        said = f"{self._title} says: {self.clean(words) or 'nothing'}"
        return f"{said} (request {self.clean(request_id)})" if request_id else said

    def _of_key(self, doing: str, status: int, why: str) -> Problem:
        what = f"{self._title} does not accept the credential ({doing}, {status})"
        return Problem(
            code="E405", what=what, why=why, fix="set the right key and restart the workers; what trains goes on"
        )

    def _of_quota(self, doing: str, why: str) -> Problem:
        what = f"the quota or budget at {self._title} is used up ({doing})"
        return Problem(code="E408", what=what, why=why, fix="raise it in the provider's console, then submit again")

    def _of_busy(self, doing: str, status: int, why: str) -> Problem:
        if status == 429:
            what = f"{self._title} wants fewer requests ({doing}, 429)"
            return Problem(code="E410", what=what, why=why, fix="ft waits and tries again by itself")
        what = f"{self._title} is in trouble ({doing}, {status})"
        return Problem(code="E403", what=what, why=why, fix="ft tries again by itself")

    def _of_refusal(self, doing: str, status: int, why: str) -> Problem:
        what = f"{self._title} refuses to {doing} ({status})"
        return Problem(code="E407", what=what, why=why, fix="correct what it names and submit again")

    def _of_silence(self, doing: str, words: str) -> Problem:
        return Problem(
            code="E409",
            what=f"{self._title} gave no answer when we wanted to {doing}: it may have been done",
            why=self.clean(words),
            fix="ft looks it up before it tries again; nothing is paid twice",
        )
