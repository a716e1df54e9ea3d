"""The Google Cloud Storage that the Vertex sandbox serves, with an upload that breaks off."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from finetune.sandbox.service import Reply, Request, Route
from finetune.sandbox.vertex.sandbox import VertexSandbox


class Gcs(VertexSandbox):
    """Takes all uploads but those that speak of `refused`."""

    refused: str | None = None

    def routes(self) -> Sequence[Route]:
        return [replace(one, answer=self._refusing(one.answer)) for one in super().routes()]

    def _refusing(self, answer: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def answered(request: Request) -> Reply:
            if self.refused and self.refused.encode() in request.body:
                return Reply(status=400, body={"error": {"code": 400, "message": "no"}})
            return answer(request)

        return answered
