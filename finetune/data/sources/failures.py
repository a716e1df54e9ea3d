"""What went wrong with another machine, from what its client library raises. No text of an exception gets out."""

import importlib
from typing import Final, NamedTuple

from finetune.data.sources.faults import MISSING, NO_FILE, NO_MATCH, REFUSED, UNREACHABLE, Reading, Stopped
from finetune.errors import Problem


class Failure(NamedTuple):
    """A cause: code, what is wrong (after the name), why, and the fix."""

    code: str
    what: str
    why: str
    fix: str


_LATER: Final = "repeat the command later"
_NO_ANSWER: Final = "check the network and the address, or repeat the command later"
_MAY_NOT: Final = "ask its owner for read access, or use other credentials"

_ABSENT: Final = Failure(MISSING, "is not there", "The server knows nothing of that name", "check the address")
_NOT_ALLOWED: Final = Failure(REFUSED, "may not be read", "The server refuses it to these credentials", _MAY_NOT)
_FAILING: Final = Failure(UNREACHABLE, "cannot be read now", "The server fails (it answers {status})", _LATER)
_BROKEN_OFF: Final = Failure(UNREACHABLE, "cannot be reached", "The connection breaks off", _NO_ANSWER)
_SILENT: Final = Failure(UNREACHABLE, "does not answer in time", "Its server is silent", _NO_ANSWER)
#: `{sign_in}` is how to get credentials where the place is.
_CREDENTIALS: Final = Failure(REFUSED, "cannot be read without credentials", "None that work were found", "{sign_in}")
_REFUSING: Final = Failure(
    REFUSED, "cannot be read", "The server refuses the request (it answers {status})", _NO_ANSWER
)

_NO_ADDRESS: Final = Failure(
    NO_FILE, "is no address that can be read", "Its server does not take it", "copy the file to this machine"
)
_NO_DATA: Final = Failure(
    NO_MATCH, "has no data files", "None of its files is of a kind that is read", "check its page"
)

_STATUS: Final = {
    401: Failure(REFUSED, "may not be read", "The server wants to know who asks", "{sign_in}"),
    403: _NOT_ALLOWED,
    404: _ABSENT,
    408: _FAILING,
    410: _ABSENT,
    407: Failure(REFUSED, "is behind a proxy", "The proxy wants a password", "set it in HTTPS_PROXY"),
    416: Failure(UNREACHABLE, "changed while it was read", "It is shorter than it was", _LATER),
    429: Failure(UNREACHABLE, "cannot be read now", "The server gets too many requests", _LATER),
}

_REGION: Final = Failure(REFUSED, "cannot be read", "Its bucket is in another region", "set AWS_DEFAULT_REGION to that")

#: Codes of S3, which say more than the status.
_CODES: Final = {
    "NoSuchBucket": Failure(MISSING, "is not there", "There is no such bucket", "check the name of the bucket"),
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
}

#: By the name of an exception's class or of one above it, so that no library is imported for it.
_CLASSES: Final = {
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "SSOError": _CREDENTIALS,
    "TokenRetrievalError": _CREDENTIALS,
    "GoogleAuthError": _CREDENTIALS,
    "GatedRepoError": Failure(
        REFUSED, "is gated", "Its owner wants you to accept terms first", "accept them on its page"
    ),
    "RevisionNotFoundError": Failure(MISSING, "has no such revision", "The hub knows it not", "check `revision`"),
    "DataFilesNotFoundError": _NO_DATA,
    "EmptyDatasetError": _NO_DATA,
    "RuntimeError": Failure(
        REFUSED, "is made by a program", "ft does not run programs of data sets", "export its rows"
    ),
    "OfflineModeIsEnabled": Failure(
        UNREACHABLE, "was not asked for", "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE, or name a local file"
    ),
    "ParamValidationError": Failure(NO_FILE, "is no valid address", "A bucket cannot have that name", "check it"),
    "InvalidURL": Failure(NO_FILE, "is no valid address", "It cannot be divided into server and path", "check it"),
    "SSLCertVerificationError": Failure(
        UNREACHABLE,
        "is not trusted",
        "The server's certificate was not issued by anybody this machine trusts",
        "check the address; for an authority of your own, set SSL_CERT_FILE to its certificate",
    ),
    "SSLError": Failure(UNREACHABLE, "cannot be reached", "No secure connection comes about", _NO_ANSWER),
    "ConnectionRefusedError": Failure(UNREACHABLE, "cannot be reached", "Nobody answers at that port", _NO_ANSWER),
    "gaierror": Failure(UNREACHABLE, "cannot be reached", "The name of the server is not known", _NO_ANSWER),
    "EndpointConnectionError": Failure(UNREACHABLE, "cannot be reached", "Nobody answers there", _NO_ANSWER),
    "ConnectTimeoutError": _SILENT,
    "ReadTimeoutError": _SILENT,
    "TimeoutException": _SILENT,
    "TimeoutError": _SILENT,
    "HTTPClientError": _BROKEN_OFF,
    "ClientError": _BROKEN_OFF,
    "RequestException": _BROKEN_OFF,
    "TransportError": _BROKEN_OFF,
    "ConnectionError": _BROKEN_OFF,
    "PermissionError": _NOT_ALLOWED,
    "FileNotFoundError": _ABSENT,
    "OSError": _BROKEN_OFF,
    "ValueError": _NO_ADDRESS,
}

#: What many things can have led to.
_GENERAL: Final = (_ABSENT, _NOT_ALLOWED, _BROKEN_OFF, _NO_ADDRESS)

#: What the libraries raise that is neither OSError nor ValueError.
_RAISED: Final = {
    "s3": ("botocore.exceptions:BotoCoreError", "botocore.exceptions:ClientError", "aiohttp:ClientError"),
    "gs": (
        "gcsfs.retry:HttpError",
        "google.auth.exceptions:GoogleAuthError",
        "requests:RequestException",
        "aiohttp:ClientError",
    ),
    "https": ("aiohttp:ClientError",),
    "http": ("aiohttp:ClientError",),
    "hf": ("huggingface_hub.errors:HfHubHTTPError", "builtins:RuntimeError"),
}
_SIGN_IN: Final = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "https": "put the password for the server into ~/.netrc",
    "http": "put the password for the server into ~/.netrc",
    "hf": "run `hf auth login`, or set HF_TOKEN",
}


def raised_by(scheme: str) -> tuple[type[Exception], ...]:
    """The exceptions to expect from the library of a scheme, which must be installed."""
    split = [name.split(":") for name in _RAISED[scheme]]
    own = [getattr(importlib.import_module(module), name) for module, name in split]
    # The hub's library builds on httpx or on its successor: the class above its own is that of all their errors.
    below = [base for each in own for base in each.__mro__ if base.__name__ == "HTTPError"]
    return (OSError, ValueError, *own, *below)


def stopped_by(error: BaseException, scheme: str, reading: Reading, *, anonymous: bool) -> Stopped:
    """The problem of a place of that scheme. `anonymous`: the requests were made without credentials."""
    chain = _causes(error, also_hidden=scheme == "hf")
    plain = next((failure for each in chain if (failure := _by_class(each)) not in (None, *_GENERAL)), None)
    failure, status = (plain, None) if plain else next(filter(None, map(_known, reversed(chain))), (_BROKEN_OFF, None))
    if anonymous and failure is _NOT_ALLOWED:
        failure = _CREDENTIALS
    why, fix = failure.why.format(status=status), failure.fix.format(sign_in=_SIGN_IN[scheme])
    what = f"`{reading.file}` {failure.what}"
    problem = Problem(code=failure.code, what=what, why=why, fix=fix, file=reading.file)
    return Stopped(problem, again=failure.code == UNREACHABLE and failure is not _SILENT)


def _causes(error: BaseException | None, *, also_hidden: bool) -> list[BaseException]:
    """The exception, what led to it, what led to that, and so on.

    `also_hidden`: what the library hides with `from None` too.
    """
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (error.__context__ if also_hidden else None)
    return chain


def _by_class(error: BaseException) -> Failure | None:
    known = [_CLASSES[each.__name__] for each in type(error).__mro__ if each.__name__ in _CLASSES]
    return next((each for each in known if each not in _GENERAL), known[0] if known else None)


def _known(error: BaseException) -> tuple[Failure, int | None] | None:
    """What an exception means, with the status of the answer it stands for, if there is one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and (failure := _CODES.get(response.get("Error", {}).get("Code", ""))):
        return failure, None
    status = _status(error, response)
    if status is not None:
        return _STATUS.get(status) or (_FAILING if status >= 500 else _REFUSING), status
    # Which gcsfs has no class of its own for.
    failure = _NOT_ALLOWED if str(error).startswith("Forbidden: ") else _by_class(error)
    return (failure, None) if failure else None


def _status(error: BaseException, response: object) -> int | None:
    """The status of the HTTP answer that an exception stands for; None when there is none."""
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", None)
    else:
        # Others of the libraries' exceptions have a `code` as well, which is none of the answer.
        found = getattr(error, "code" if type(error).__name__ == "HttpError" else "status", None)
    return found if isinstance(found, int) and 400 <= found <= 599 else None
