"""POST /webhooks/{provider}: a hosted API tells that a job has ended. The signature is the credential."""

import logging
from collections.abc import Callable, Mapping

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finetune.errors import AuthenticationFailed, FtError, NotFound
from finetune.serving import replies

log = logging.getLogger("finetune.serving")

#: A notice holds an id and little more.
_MOST_BYTES = 64 * 1024

#: Takes provider, headers in lower case and body; returns the job that was woken, or None. Raises FtError.
Receive = Callable[[str, Mapping[str, str], bytes], str | None]


def route(receive: Receive) -> Route:
    """The route. A call that cannot be verified gets 401, one for a provider without webhooks 404."""

    async def notice(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return _refused(413, "The body is too large for a notice.")
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            job = await to_thread.run_sync(receive, request.path_params["provider"], headers, bytes(body))
        except AuthenticationFailed as error:
            return _refused(401, replies.sentence(error.problems[0]))
        except NotFound as error:
            return _refused(404, replies.sentence(error.problems[0]))
        except FtError as error:
            # The vendor sends it again; polling finds out in any case.
            log.error("a notice was not taken in: %s", error)
            return _refused(503, "The notice cannot be taken in now.")
        return JSONResponse({"job": job})

    return Route("/webhooks/{provider}", notice, methods=["POST"])


def _refused(status: int, message: str) -> Response:
    return JSONResponse(replies.error(message, "invalid_request_error", code=status), status_code=status)
