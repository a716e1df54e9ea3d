"""How often another machine is asked, with which pauses, and what its library's errors become."""

import socket
import ssl
from collections.abc import Callable

import aiohttp
import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ReadTimeoutError
from gcsfs.retry import HttpError
from google.auth.exceptions import RefreshError

from finetune.data.sources.faults import Reading, Stopped
from finetune.data.sources.tries import Guard
from finetune.errors import Problem
from tests.support.sources import check_problem

SECRET = "https://user:topsecret@example.com/?sig=topsecret"


class Access:
    """Raises the errors one after the other, and in the end returns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "here"


def guard(scheme: str, pauses: list[float], *, anonymous: bool = False) -> Guard:
    return Guard(scheme, anonymous, Reading("s3://b/k", lambda _: None, 0), pauses.append)


def fails(scheme: str, error: Exception, *, anonymous: bool = False) -> tuple[Problem, int]:
    """The problem that an access ends with that always raises `error`, and how often it was tried."""
    access = Access(*[error] * 5)
    with pytest.raises(Stopped) as stopped:
        guard(scheme, [], anonymous=anonymous)(access)
    check_problem(stopped.value.problem)
    assert "topsecret" not in repr(stopped.value.problem)
    return stopped.value.problem, access.calls


def test_it_is_tried_three_times_with_pauses() -> None:
    pauses: list[float] = []
    access = Access(ConnectionResetError(), ConnectionResetError())

    assert guard("https", pauses)(access) == "here"
    assert access.calls == 3
    assert pauses == [0.2, 1.0]


def test_then_it_is_given_up() -> None:
    problem, calls = fails("https", ConnectionResetError())

    assert (problem.code, calls) == ("E232", 3)


def client_error(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")  # type: ignore[arg-type]


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def certificate() -> Exception:
    return ssl.SSLCertVerificationError(1, SECRET)


@pytest.mark.parametrize(
    ("scheme", "error", "code", "said", "calls"),
    [
        ("https", lambda: because(FileNotFoundError(SECRET), ConnectionRefusedError()), "E232", "Nobody answers", 3),
        ("https", lambda: socket.gaierror(-2, SECRET), "E232", "not known", 3),
        ("https", lambda: because(FileNotFoundError(SECRET), TimeoutError()), "E232", "silent", 1),
        ("https", lambda: aiohttp.SocketTimeoutError(SECRET), "E232", "silent", 1),
        ("https", lambda: aiohttp.ClientPayloadError(SECRET), "E232", "breaks off", 3),
        ("https", lambda: because(aiohttp.ClientPayloadError(SECRET), certificate()), "E232", "certificate", 3),
        ("https", lambda: aiohttp.InvalidURL(SECRET), "E202", "divided", 1),
        ("https", lambda: FileNotFoundError(SECRET), "E201", "knows nothing", 1),
        ("s3", lambda: because(PermissionError(SECRET), client_error(403, "AccessDenied")), "E233", "refuses", 1),
        ("s3", lambda: because(FileNotFoundError(SECRET), client_error(404, "NoSuchBucket")), "E201", "bucket", 1),
        ("s3", lambda: because(OSError(SECRET), client_error(503, "SlowDown")), "E232", "503", 3),
        ("s3", lambda: because(OSError(SECRET), client_error(301, "PermanentRedirect")), "E233", "region", 1),
        ("s3", lambda: because(OSError(SECRET), client_error(400, "Odd")), "E233", "400", 1),
        ("s3", NoCredentialsError, "E233", "None that work", 1),
        ("s3", lambda: ReadTimeoutError(endpoint_url=SECRET), "E232", "silent", 1),
        ("gs", lambda: HttpError({"code": 401, "message": SECRET}), "E233", "who asks", 1),
        ("gs", lambda: HttpError({"code": 500, "message": SECRET}), "E232", "500", 3),
        ("gs", lambda: OSError(f"Forbidden: {SECRET}"), "E233", "refuses", 1),
        ("gs", lambda: RefreshError(SECRET), "E233", "None that work", 1),
    ],
)
def test_what_an_error_of_a_library_becomes(
    scheme: str, error: Callable[[], Exception], code: str, said: str, calls: int
) -> None:
    problem, tried = fails(scheme, error())

    assert (problem.code, tried) == (code, calls)
    assert said in problem.why


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_without_credentials_a_refusal_says_how_to_get_some(scheme: str) -> None:
    said = {"s3": "AWS_PROFILE", "gs": "gcloud"}[scheme]

    assert (
        said
        in fails(scheme, PermissionError(SECRET) if scheme == "s3" else OSError("Forbidden: x"), anonymous=True)[0].fix
    )


def test_an_error_that_nobody_expects_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        guard("https", [])(Access(KeyError("ours")))
