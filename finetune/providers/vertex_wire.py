"""Calls of Vertex AI and Cloud Storage through Google's own packages: one request each, and their faults as ours."""

import email.utils
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from finetune.errors import AuthenticationFailed, Problem, ProviderError
from finetune.ports import Clock
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

if TYPE_CHECKING:
    from google import genai

T = TypeVar("T")
_Teller = Callable[[str, Any, bool], ProviderError]

TITLE: Final = "Vertex AI"
CONNECT_S: Final = 10.0
UPLOAD_S: Final = 600.0
#: gcloud's own variable for a token that is ready to use.
TOKEN: Final = "CLOUDSDK_AUTH_ACCESS_TOKEN"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
#: The version that tells the phases of a running job.
_VERSION: Final = "v1beta1"
#: Reasons of Google's that no waiting mends.
_EXHAUSTED: Final = frozenset({"RESOURCE_QUOTA_EXCEEDED", "BILLING_DISABLED"})
_LOG_IN: Final = f"`gcloud auth application-default login`, or export {TOKEN}=$(gcloud auth print-access-token)"


class Wire:
    """The clients of one project and location. Safe for threads. Nothing is retried here."""

    def __init__(self, environ: Mapping[str, str], clock: Clock, *, read_s: float, per_s: float) -> None:
        """Imports both packages, which takes a second. Raises AuthenticationFailed when there is no credential."""
        self._clock = clock
        self._pace = Pace(TITLE, clock, per_s)
        token = environ.get(TOKEN, "")
        self._troubles = Troubles(TITLE, (token,))
        #: Connect and read, seconds, of a request to the storage that carries no data, and of one that does.
        self.short, self.long = (CONNECT_S, read_s), (CONNECT_S, UPLOAD_S)
        _import_quietly()
        self._tellers = self._table()
        project, location = environ["GOOGLE_CLOUD_PROJECT"], environ["GOOGLE_CLOUD_LOCATION"]
        self.credentials = self._credentials(token)
        self.genai = _genai(environ.get("GOOGLE_VERTEX_BASE_URL"), project, location, self.credentials, read_s)
        self.host = str(self.genai._api_client._http_options.base_url)
        self.session: Any = import_module("google.auth.transport.requests").AuthorizedSession(self.credentials)
        endpoint = environ.get("STORAGE_EMULATOR_HOST")
        self.storage: Any = import_module("google.cloud.storage").Client(
            project=project,
            credentials=self.credentials,
            client_options={"api_endpoint": endpoint} if endpoint else None,
        )
        # Else it asks for the bucket itself in a thread of its own, out of our sight, and tries that for minutes.
        self.storage._bucket_metadata_cache = None

    def ask(self, doing: str, call: Callable[[], T], *, creating: bool = False) -> T:
        """What one request of either package answers. Raises ProviderError."""
        self._pace.take()
        _quiet()
        try:
            return call()
        except tuple(self._tellers) as error:
            raise self._told(doing, error, creating=creating) from None

    def pages(self, doing: str, first: Callable[[], Any]) -> Iterator[Any]:
        """All rows of a list of the tuning service, one request a page."""
        pager = self.ask(doing, first)
        yield from pager.page
        while pager.config.get("page_token"):
            yield from self.ask(doing, pager.next_page)

    def nonsense(self, doing: str, words: str, *, creating: bool = False) -> ProviderError:
        """See `Troubles.nonsense`."""
        return self._troubles.nonsense(doing, words, creating=creating)

    def clean(self, words: str) -> str:
        """See `Troubles.clean`."""
        return self._troubles.clean(words)

    def _credentials(self, token: str) -> Any:
        if token:
            # Without a refresh token they last as long as the token does; then the API says 401.
            return import_module("google.oauth2.credentials").Credentials(token)
        try:
            with warnings.catch_warnings():
                # That a user's own login has no project for quotas is his affair.
                warnings.filterwarnings("ignore", message=".*end user credentials", category=UserWarning)
                return import_module("google.auth").default(scopes=[_SCOPE])[0]
        except tuple(self._tellers) as error:
            raise self._told("find the credential", error) from None

    def _table(self) -> dict[type[Exception], _Teller]:
        """Who makes one of our errors of theirs; the first that fits does."""
        auth, storage = import_module("google.auth.exceptions"), import_module("google.cloud.storage.exceptions")
        table: dict[type[Exception], _Teller] = {
            auth.TransportError: self._unsent,
            auth.GoogleAuthError: self._of_login,
            import_module("google.genai.errors").APIError: self._of_tuning,
            import_module("google.api_core.exceptions").GoogleAPICallError: self._of_storage,
        }
        # The package for tuning speaks through one of these, whichever is installed; both name their faults alike.
        for package in (sys.modules[name] for name in ("httpx2", "httpx") if name in sys.modules):
            table |= {package.ConnectError: self._unsent, package.ConnectTimeout: self._unsent}
            table |= {package.PoolTimeout: self._unsent, package.HTTPError: self._unanswered}
        # What is no JSON is both to the package of the storage: its own fault of a request, and a ValueError.
        of_storage = import_module("requests").exceptions
        table |= {of_storage.JSONDecodeError: self._of_nonsense, of_storage.RequestException: self._unanswered}
        table[storage.DataCorruption] = self._of_nonsense
        # Their own checks of an answer that is not as they expect it, or plain Python's.
        return {**table, **dict.fromkeys((ValueError, TypeError, KeyError, AttributeError), self._of_nonsense)}

    def _told(self, doing: str, error: Exception, *, creating: bool = False) -> ProviderError:
        teller = next(teller for kind, teller in self._tellers.items() if isinstance(error, kind))
        return teller(doing, error, creating)

    def _of_tuning(self, doing: str, error: Any, creating: bool) -> ProviderError:
        status = int(error.code) if str(error.code).isdigit() else 0
        details = error.details[0] if isinstance(error.details, list) and error.details else error.details
        return self._refused(doing, status, details, error.response, creating)

    def _of_storage(self, doing: str, error: Any, creating: bool) -> ProviderError:
        return self._refused(doing, int(error.code or 0), _json(error.response), error.response, creating)

    def _unsent(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        words = f"{type(error).__name__}: {error}"
        return self._troubles.unreachable(doing, words, sent=False, creating=creating)

    def _unanswered(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        words = f"{type(error).__name__}: {error}"
        return self._troubles.unreachable(doing, words, sent=True, creating=creating)

    def _of_nonsense(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        return self._troubles.nonsense(doing, f"{type(error).__name__}: {error}", creating=creating)

    def _of_login(self, doing: str, error: Any, creating: bool) -> ProviderError:
        """No token could be got: nothing was sent to the API. Its other arguments may hold a whole answer."""
        words = str(error.args[0]) if error.args else type(error).__name__
        if getattr(error, "retryable", False):
            return self._troubles.unreachable(doing, words, sent=False)
        problem = Problem(
            code="E405",
            what=f"there is no credential that {TITLE} accepts ({doing})",
            why=self._troubles.clean(words),
            fix=_LOG_IN,
        )
        return AuthenticationFailed(problem)

    def _refused(self, doing: str, status: int, said: Any, response: Any, creating: bool) -> ProviderError:
        error = said.get("error", said) if isinstance(said, dict) else {}
        error = error if isinstance(error, dict) else {"message": str(error)}
        details = [each for each in error.get("details") or () if isinstance(each, dict)]
        exhausted = any(each.get("reason") in _EXHAUSTED for each in details)
        if 200 <= status < 300:
            return self._troubles.nonsense(doing, f"status {status}", creating=creating)
        after_s = self._after_s(response, details)
        if status == 429 and not exhausted and after_s:
            self._pace.hush(after_s)
        return self._troubles.refused(
            doing,
            # A bill that is not paid comes as 403, and no other credential mends it.
            429 if exhausted else status,
            f"{error.get('status', '')} {error.get('message', '')}".strip(),
            creating=creating,
            after_s=after_s,
            exhausted=exhausted,
        )

    def _after_s(self, response: Any, details: list[dict[str, Any]]) -> float | None:
        """For how long Google wants silence: its own word in the details, or Retry-After in either form."""
        for each in details:
            if found := re.fullmatch(r"(\d+(?:\.\d+)?)s", str(each.get("retryDelay", ""))):
                return float(found[1])
        text = str((getattr(response, "headers", None) or {}).get("retry-after") or "")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        try:
            until: datetime = email.utils.parsedate_to_datetime(text)
            return max(0.0, (until - self._clock.now()).total_seconds())
        except (ValueError, TypeError):
            return None


def _genai(base_url: str | None, project: str, location: str, credentials: Any, read_s: float) -> "genai.Client":
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        # Named here so that nothing of the environment decides.
        api_version=_VERSION,
        base_url=base_url or None,
        timeout=int(read_s * 1000),
        client_args={"event_hooks": {"request": [_connect_soon]}},
    )
    return genai.Client(
        enterprise=True, project=project, location=location, credentials=credentials, http_options=options
    )


def _connect_soon(request: Any) -> None:
    """Their package has one time for all; a host that does not even take the connection is not waited for so long."""
    times = request.extensions.get("timeout")
    if isinstance(times, dict) and times.get("connect"):
        times["connect"] = min(CONNECT_S, times["connect"])


def _import_quietly() -> None:
    with warnings.catch_warnings():
        # An advice about Python versions, years ahead; it is not for the user of ft.
        warnings.filterwarnings("ignore", message="You are using a Python version", category=FutureWarning)
        for name in ("google.genai", "google.cloud.storage"):
            import_module(name)


def _quiet() -> None:
    """Words that the package does not know in an answer, and that tuning is new there, are no warnings to ft's user.

    The filters are global and not safe for threads where they are set for a while, so they are set for good; that
    they stand there already costs little.
    """
    warnings.filterwarnings("ignore", message=".* is not a valid ", category=UserWarning, module="google.genai._common")
    warnings.filterwarnings("ignore", message="The SDK's tuning implementation is experimental")


def _json(response: Any) -> Any:
    """The error's body; its text when it is no JSON. The package's own message would hold addresses of uploads."""
    try:
        return response.json()
    except (ValueError, AttributeError):
        return {"message": str(getattr(response, "text", "") or "")}
