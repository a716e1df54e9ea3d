"""How Amazon answers: refusals in Bedrock's form and in S3's, times, ARNs, and what a signed request says of itself."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

from finetune.sandbox.service import Refusal, Reply, Request

ACCOUNT: Final = "123456789012"
#: A key that begins so is taken; one of these may do nothing.
KEY: Final = "AKIASANDBOX"
NO_ACCESS: Final = "AKIASANDBOXNOACCESS"
#: Where Bedrock's own paths begin; all others are a bucket's.
BEDROCK: Final = "/model-customization"
_CODES: Final = {
    403: "AccessDeniedException",
    404: "UnknownOperationException",
    405: "UnknownOperationException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_SIGNED: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Z0-9]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)"
    r"/aws4_request, SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=[0-9a-f]{64}"
)


def aws_error(status: int, message: str, code: str = "") -> Reply:
    """An error as Bedrock gives it; `code` where the status alone does not tell it."""
    named = code or _CODES.get(status, "ValidationException")
    return Reply(status=status, body={"message": message}, headers={"x-amzn-ErrorType": named, **_request_id(message)})


def refusal(code: str, message: str, status: int = 400) -> Refusal:
    """The same, to be raised."""
    return Refusal(aws_error(status, message, code))


def invalid(field: str, value: Any, rule: str) -> Refusal:
    """For one field of the request."""
    shown = str(value)[:80]
    return refusal("ValidationException", f"1 validation error detected: Value '{shown}' at '{field}' {rule}")


def storage_error(status: int, code: str, message: str, resource: str = "") -> Reply:
    """An error as S3 gives it."""
    inside = f"<Code>{code}</Code><Message>{escape(message)}</Message><Resource>{escape(resource)}</Resource>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}<RequestId>SANDBOX</RequestId></Error>'
    return Reply(status=status, body=body.encode(), headers={"Content-Type": "application/xml"})


def storage_refusal(status: int, code: str, message: str, resource: str = "") -> Refusal:
    """The same, to be raised."""
    return Refusal(storage_error(status, code, message, resource))


def unsigned(request: Request) -> Reply | None:
    """The refusal of a request whose signature cannot be one of ours; None: it may be. Its value is not reckoned."""
    ours = request.path.startswith(BEDROCK)
    said = request.headers.get("authorization", "")
    signed = _SIGNED.fullmatch(said)
    if not said:
        told = ("MissingAuthenticationTokenException", "AccessDenied", "Missing Authentication Token")
    elif signed is None or "x-amz-date" not in request.headers or "host" not in signed["headers"].split(";"):
        told = ("IncompleteSignatureException", "AuthorizationHeaderMalformed", "the signature is not whole")
    elif signed["service"] != ("bedrock" if ours else "s3"):
        told = ("InvalidSignatureException", "SignatureDoesNotMatch", "Credential should be scoped to correct service")
    elif signed["key"] == NO_ACCESS:
        told = ("AccessDeniedException", "AccessDenied", f"User: arn:aws:iam::{ACCOUNT}:user/x is not authorized")
    elif not signed["key"].startswith(KEY):
        words = "The security token included in the request is invalid."
        told = ("UnrecognizedClientException", "InvalidAccessKeyId", words)
    else:
        return None
    bedrock, storage, message = told
    return aws_error(403, message, bedrock) if ours else storage_error(403, storage, message, request.path)


def region_of(request: Request) -> str:
    """The region that a signed request is for."""
    signed = _SIGNED.fullmatch(request.headers.get("authorization", ""))
    return signed["region"] if signed else ""


def arn(region: str, kind: str, rest: str) -> str:
    """The name of a resource of this account."""
    return f"arn:aws:bedrock:{region}:{ACCOUNT}:{kind}/{rest}"


def number_id(kind: str, number: int) -> str:
    """The twelve characters that end an ARN."""
    return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()[:12]


def stamp(at: datetime) -> str:
    """A time in UTC, with milliseconds and `Z`."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _request_id(message: str) -> dict[str, str]:
    return {"x-amzn-RequestId": f"sandbox-{hashlib.sha256(message.encode()).hexdigest()[:8]}"}
