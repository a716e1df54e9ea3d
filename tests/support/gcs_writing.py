"""The Google Cloud Storage that the Vertex sandbox serves, for what gcsfs writes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from finetune.sandbox.service import Reply, Request, Route
from finetune.sandbox.vertex.sandbox import VertexSandbox


class Gcs(VertexSandbox):
    """Takes the multipart bodies of gcsfs, whose lines end as the real service lets them."""

    refused: str | None = None

    def routes(self) -> Sequence[Route]:
        return [replace(one, answer=self._lenient(one.answer)) for one in super().routes()]

    def _lenient(self, answer: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def answered(request: Request) -> Reply:
            if not request.body.startswith(b"--==0==\n"):
                return answer(request)
            if self.refused and self.refused.encode() in request.body:
                return Reply(status=400, body={"error": {"code": 400, "message": "no"}})
            parts = [part.removeprefix(b"\n").partition(b"\n\n") for part in request.body.split(b"--==0==")[1:3]]
            whole = b"".join(
                b"--==0==\r\n%s\r\n\r\n%s\r\n" % (head, content.removesuffix(b"\n")) for head, _, content in parts
            )
            return answer(replace(request, body=whole + b"--==0==--"))

        return answered
