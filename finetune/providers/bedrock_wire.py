"""Calls of Amazon Bedrock and S3 through Amazon's own package: one request each, and their faults as ours."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, TypeVar

from finetune.errors import AuthenticationFailed, Problem, ProviderError
from finetune.jobs import Json
from finetune.ports import Clock
from finetune.providers.pace import Pace
from finetune.providers.troubles import Troubles

T = TypeVar("T")
_Teller = Callable[[str, Any, bool], ProviderError]

TITLE: Final = "Amazon Bedrock"
#: Regions that tune models, and host tuned ones on demand, by Amazon's guide (read 2026-11-29).
REGIONS: Final = ("us-east-1", "us-west-2")
_CONNECT_S: Final = 10.0
#: An upload waits so long for its answer; S3 takes up to 5 GB in one request.
_UPLOAD_S: Final = 600.0
#: Rows a page of a list; the service gives up to 1000.
_PAGE: Final = 100
#: Codes of what no waiting mends but another credential. Most come with 403, some with 400.
_LOGIN: Final = frozenset(
    {
        *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
        *("InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken", "AuthFailure"),
        *("MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException", "InvalidToken"),
        *("RequestExpired", "RequestTimeTooSkewed", "TokenRefreshRequired"),
    }
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_PACE: Final = frozenset(
    {
        *("ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "SlowDown"),
        *("RequestThrottled", "RequestThrottledException", "RequestLimitExceeded"),
    }
)
#: Something of this name is there, or a request of this token with other words.
_TAKEN: Final = frozenset({"ConflictException", "ResourceInUseException", "IdempotentParameterMismatch"})
#: The service says it of a name, too, as a ValidationException.
_IN_USE: Final = re.compile(r"already (?:exists|in use)|currently in use", re.IGNORECASE)
_SAME_AS: Final = {"RequestTimeout": 408, "RequestTimeoutException": 408}
_LOG_IN: Final = "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in: `aws configure`, `aws sso login`"


class Wire:
    """The clients of one account and region. Safe for threads. Nothing is retried here."""

    def __init__(self, environ: Mapping[str, str], clock: Clock, *, read_s: float, per_s: float) -> None:
        """Imports the package, which takes a second. Raises AuthenticationFailed when it cannot be set up."""
        self._pace = Pace(TITLE, clock, per_s)
        secrets = [environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
        self._troubles = Troubles(TITLE, [*secrets, environ.get("AWS_BEARER_TOKEN_BEDROCK", "")])
        self._errors: Any = import_module("botocore.exceptions")
        self._tellers = self._table()
        try:
            maker = _Maker(environ)
            # A key that is named here is used: a bearer token of this process does not take its place.
            signed = {"signature_version": "v4"} if maker.own else {}
            self.jobs: Any = maker.client("bedrock", _config(read_s, **signed))
            self.objects: Any = maker.client("s3", _config(read_s))
            #: For requests that carry files.
            self.uploads: Any = maker.client("s3", _config(max(read_s, _UPLOAD_S)))
        except (self._errors.BotoCoreError, ValueError) as error:
            raise self._of_login("set up the client", error, False) from None
        self.jobs.meta.events.register("before-parse.bedrock", _whole)
        self.host = str(self.jobs.meta.endpoint_url)

    def ask(self, doing: str, call: Callable[[], T], *, creating: bool = False) -> T:
        """What one request answers. Raises ProviderError."""
        self._pace.take()
        try:
            return call()
        except tuple(self._tellers) as error:
            raise self._told(doing, error, creating) from None

    def rows(self, doing: str, call: Callable[..., Json], field: str, **arguments: Any) -> Iterator[Json]:
        """All rows of a list of Bedrock's, newest first, one request a page."""
        newest = {"sortBy": "CreationTime", "sortOrder": "Descending", "maxResults": _PAGE}
        wanted = {**newest, **arguments}
        while True:
            page = self.ask(doing, partial(call, **wanted))
            yield from page.get(field) or ()
            token = page.get("nextToken")
            if not token:
                return
            if wanted.get("nextToken") == token:
                raise self.nonsense(doing, "the next page is this one")
            wanted["nextToken"] = token

    def nonsense(self, doing: str, words: str, *, creating: bool = False) -> ProviderError:
        """See `Troubles.nonsense`."""
        return self._troubles.nonsense(doing, words, creating=creating)

    def clean(self, words: str) -> str:
        """See `Troubles.clean`."""
        return self._troubles.clean(words)

    def _table(self) -> dict[type[Exception], _Teller]:
        """Who makes one of our errors of theirs; the first that fits does."""
        theirs, parsers = self._errors, import_module("botocore.parsers")
        names = (
            *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
            *("SSOError", "NoAuthTokenError", "LoginError", "MetadataRetrievalError", "RefreshWithMFAUnsupportedError"),
        )
        found = [getattr(theirs, name) for name in names if hasattr(theirs, name)]
        table: dict[type[Exception], _Teller] = {theirs.ClientError: self._refused}
        table |= dict.fromkeys(found, self._of_login)
        for name in ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"):
            table[getattr(theirs, name)] = self._unsent
        # A fault of TLS is a ConnectionError, also while an answer is read.
        silent = (theirs.HTTPClientError, theirs.ConnectionError, theirs.IncompleteReadError)
        table |= dict.fromkeys(silent, self._unanswered)
        table |= dict.fromkeys((parsers.ResponseParserError, _Garbled), self._of_nonsense)
        # Of requests that the package itself does not let through: nothing was sent.
        table[theirs.BotoCoreError] = self._unfit
        return table

    def _told(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        teller = next(teller for kind, teller in self._tellers.items() if isinstance(error, kind))
        return teller(doing, error, creating)

    def _unsent(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        return self._troubles.unreachable(doing, _words(error), sent=False, creating=creating)

    def _unanswered(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        return self._troubles.unreachable(doing, _words(error), sent=True, creating=creating)

    def _of_nonsense(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        return self._troubles.nonsense(doing, _words(error), creating=creating)

    def _unfit(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        why = f"Amazon's package says: {self.clean(str(error))}"
        fix = "correct what it names and submit again"
        return ProviderError(Problem(code="E407", what=f"the request to {doing} cannot be made", why=why, fix=fix))

    def _of_login(self, doing: str, error: Exception, creating: bool) -> ProviderError:
        """No credential could be got: nothing was sent to the API."""
        what = f"there is no credential that {TITLE} accepts ({doing})"
        return AuthenticationFailed(Problem(code="E405", what=what, why=self.clean(_words(error)), fix=_LOG_IN))

    def _refused(self, doing: str, error: Any, creating: bool) -> ProviderError:
        told = error.response.get("Error") or {}
        about = error.response.get("ResponseMetadata") or {}
        code, message = str(told.get("Code") or ""), str(told.get("Message") or "")
        status = _status(code, message, int(about.get("HTTPStatusCode") or 0))
        # Without a code of Amazon's, the body is a page of something that stands between: no job is gone by that.
        if status < 400 or (status in (400, 404, 405, 410) and code in ("", str(status))):
            return self.nonsense(doing, f"{code or 'no code'} with status {status}", creating=creating)
        after_s = _number((about.get("HTTPHeaders") or {}).get("retry-after"))
        if status == 429 and after_s:
            self._pace.hush(after_s)
        made = self._troubles.refused(
            doing,
            status,
            f"{code}: {message}",
            request_id=about.get("RequestId"),
            creating=creating,
            after_s=after_s,
            exhausted=code == "ServiceQuotaExceededException",
        )
        return _by_whom(made, code in _DENIED) if isinstance(made, AuthenticationFailed) else made


class _Garbled(ValueError):
    """A good answer's body is no JSON object."""


def code_of(error: ProviderError) -> str:
    """The code of the first problem."""
    return error.problems[0].code


def region(environ: Mapping[str, str]) -> str | None:
    """The region that the environment names; None: none."""
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None


def region_of(arn: str) -> str | None:
    """The region of what an ARN of Bedrock's names; None: it is no such ARN."""
    found = re.match(r"arn:aws[^:]*:bedrock:([a-z0-9-]+):", arn)
    return found[1] if found else None


def everywhere(own: str, ask: Callable[[str], Iterable[T]]) -> Iterator[T]:
    """What is found in all regions, ours first, one after the other as it is wanted. Raises ProviderError.

    Processes of one home may stand in several, as no region has every model. Another than ours may be out of reach, or
    forbidden: then nothing is there.
    """
    for where in dict.fromkeys((own, *REGIONS)):
        try:
            found = list(ask(where))
        except ProviderError:
            if where == own:
                raise
            continue
        yield from found


@cache
def _loader() -> Any:
    """Amazon's descriptions of its services, some megabytes, are read once a process."""
    return import_module("botocore.loaders").create_loader()


class _Maker:
    """Makes the clients of one account and region. The package finds a key itself where the environment has none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises BotoCoreError for a profile that is not there."""
        self._environ, make = environ, import_module("botocore.session").Session
        self.own = bool(environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"))
        # Beside a key of its own no profile is looked for: that one's region and addresses would hold, too.
        unread = {"session_vars": {"profile": (None, None, None, None)}}
        self._session: Any = make(**unread) if self.own else make(profile=environ.get("AWS_PROFILE") or None)
        self._session.register_component("data_loader", _loader())

    def client(self, service: str, config: Any) -> Any:
        """A client of this service."""
        said = self._environ
        address = said.get(f"AWS_ENDPOINT_URL_{service.upper()}") or said.get("AWS_ENDPOINT_URL") or None
        keys = {
            "aws_access_key_id": said.get("AWS_ACCESS_KEY_ID"),
            "aws_secret_access_key": said.get("AWS_SECRET_ACCESS_KEY"),
            "aws_session_token": said.get("AWS_SESSION_TOKEN") or None,
        }
        return self._session.create_client(
            service, region_name=region(said), endpoint_url=address, config=config, **(keys if self.own else {})
        )


def _config(read_s: float, **more: Any) -> Any:
    return import_module("botocore.config").Config(
        connect_timeout=min(_CONNECT_S, read_s),
        read_timeout=read_s,
        # One attempt: a create whose outcome is unknown is looked up, never sent again.
        retries={"total_max_attempts": 1, "mode": "standard"},
        **more,
    )


def _whole(response_dict: Json, **_: Any) -> None:
    """Their package takes a body that is no JSON for an empty answer: a list would say that there is no job."""
    if response_dict["status_code"] >= 300:
        return
    try:
        value = json.loads(response_dict["body"] or b"{}")
    except (ValueError, RecursionError) as error:
        raise _Garbled(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Garbled("JSON, but no object")


def _status(code: str, message: str, status: int) -> int:
    """The status that means to us what the code says; Amazon has many of them under 400."""
    if code in _PACE:
        return 429
    if code in _LOGIN:
        return 401
    if code in _TAKEN or (code == "ValidationException" and _IN_USE.search(message)):
        return 409
    return _SAME_AS.get(code, status)


def _by_whom(error: AuthenticationFailed, denied: bool) -> AuthenticationFailed:
    problem = error.problems[0]
    fix = "allow it to this identity in IAM (docs/providers.md has the list of actions)" if denied else _LOG_IN
    return AuthenticationFailed(Problem(code=problem.code, what=problem.what, why=problem.why, fix=fix))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text) else None
