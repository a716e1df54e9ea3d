"""A stand-in for Azure OpenAI's fine-tuning and files at `/openai/v1`: OpenAI's protocol, and where Azure differs.

A tuned model answers only when it has been deployed, through another API (`azure_deployments`), and then under the
deployment's name: with its own name and what it was asked, as no model is there.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, ClassVar, Final

from finetune.sandbox.azure_deployments import (
    ACCOUNT,
    GROUP,
    ROOT,
    SUBSCRIPTION,
    TOKEN,
    Deployments,
)
from finetune.sandbox.clock import SandboxClock
from finetune.sandbox.faults import Faults
from finetune.sandbox.openai.bodies import Check, text
from finetune.sandbox.openai.files import File
from finetune.sandbox.openai.front import KEY
from finetune.sandbox.openai.jobs import Job, Timing
from finetune.sandbox.openai.log import Ids
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.openai.words import Refused
from finetune.sandbox.service import Reply, Request, Route

_CODES: Final = {
    400: "invalidPayload",
    401: "401",
    403: "PermissionDenied",
    404: "notFound",
    405: "methodNotAllowed",
    413: "payloadTooLarge",
    429: "429",
    500: "internalError",
    503: "serviceUnavailable",
}
#: What Azure names by words of its own, whatever the status.
_OWN: Final = {"insufficient_quota": "quotaExceeded", "DeploymentNotFound": "DeploymentNotFound"}


class AzureSandbox(OpenAiSandbox):
    """Azure OpenAI on this machine."""

    name: ClassVar[str] = "azure"
    root: ClassVar[str] = "/openai/v1"
    owner: ClassVar[str] = "azure"
    ids: ClassVar[Ids] = Ids(characters="0123456789abcdef", length=32, checkpoint="ftchkpt-")
    anywhere: ClassVar[tuple[str, ...]] = ("api-version",)
    statuses: ClassVar[Mapping[str, int]] = {"upload": 201, "create": 201}
    processing_s: ClassVar[float] = 1.0
    job_fields: ClassVar[Mapping[str, Check]] = {
        "trainingType": text(choices=("Standard", "GlobalStandard", "Developer"))
    }

    def __init__(
        self,
        *,
        clock: SandboxClock | None = None,
        faults: Faults | None = None,
        timing: Timing | None = None,
        closed_from: date | None = None,
        file_limit: int | None = None,
        part_limit: int | None = None,
        per_minute: int = 100_000,
    ) -> None:
        """As OpenAiSandbox, but Azure sends no webhooks for fine-tuning jobs."""
        super().__init__(
            clock=clock,
            faults=faults,
            timing=timing,
            closed_from=closed_from,
            file_limit=file_limit,
            part_limit=part_limit,
            per_minute=per_minute,
        )
        self.deployments = Deployments(self._models.is_tuned, self.now)

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        return [*super().routes(), *self.deployments.routes()]

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. The Resource Manager is another host, with another credential."""
        if request.path.startswith(ROOT):
            return self.deployments.unknown_token(request)
        return super().authenticate(request)

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {
            "AZURE_OPENAI_ENDPOINT": url,
            "AZURE_OPENAI_API_KEY": KEY,
            "AZURE_MANAGEMENT_ENDPOINT": url,
            "AZURE_MANAGEMENT_TOKEN": TOKEN,
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_RESOURCE_GROUP": GROUP,
            "AZURE_OPENAI_ACCOUNT": ACCOUNT,
        }

    def key_of(self, request: Request) -> str:
        """Azure takes its own header, too."""
        return request.headers.get("api-key") or super().key_of(request)

    def unknown_key(self, key: str) -> Reply:
        """Azure tells nothing of the key."""
        what = "invalid subscription key or wrong API endpoint" if key else "missing subscription key"
        return self.refused(401, f"Access denied due to {what}.")

    def no_access(self) -> Reply:
        """The refusal of a principal without the role."""
        return self.refused(403, "The principal does not have access to this API or operation.")

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`. Azure's errors have a code and a message, and codes of their own."""
        code = _OWN.get(more.get("code") or "") or _CODES.get(status, str(status))
        return Reply(status=status, body={"error": {"code": code, "message": message}}, headers=self.headers(0.0))

    def headers(self, took_s: float) -> dict[str, str]:
        """Azure's gateway has headers of its own, and none of OpenAI's."""
        own = super().headers(took_s)["x-request-id"].removeprefix("req_")
        return {"x-request-id": own, "apim-request-id": own, "x-ms-region": "Sandbox"}

    def file_status(self, file: File) -> str:
        """A new file waits to be processed."""
        return "processed" if self.now() >= file.ready_at else "pending"

    def state_of(self, job: Job) -> str:
        """A new job is `pending` here."""
        return "pending" if job.status == "validating_files" else job.status

    def job(self, job: Job) -> dict[str, Any]:
        """As OpenAI's, with null for what Azure does not have (yet)."""
        return {**super().job(job), "organization_id": None, "result_files": list(job.result_files) or None}

    def tuned_name(self, job_id: str, snapshot: str, suffix: str | None) -> str:
        """What a tuned model is called: after its job."""
        name = f"{snapshot}.ft-{job_id.removeprefix('ftjob-')}"
        return f"{name}-{suffix}" if suffix else name

    def answering(self, name: str) -> str:
        """Models answer by the names of their deployments only, bases too."""
        there = self.deployments.answering(name)
        if there is None:
            what = "The API deployment for this resource does not exist."
            raise Refused(404, what, code="DeploymentNotFound")
        return there.model

    def filter_of(self, request: Request) -> dict[str, str] | None:
        """Azure looks at no metadata in a list: whatever is asked, all jobs come."""
        return {}
