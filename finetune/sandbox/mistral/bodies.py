"""What requests to Mistral's fine-tuning and files may hold: every field, its type and bounds. Others are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

Status = Literal[
    "QUEUED",
    "STARTED",
    "VALIDATING",
    "VALIDATED",
    "RUNNING",
    "FAILED_VALIDATION",
    "FAILED",
    "SUCCESS",
    "CANCELLED",
    "CANCELLATION_REQUESTED",
]
Purpose = Literal["fine-tune", "batch", "ocr"]
SampleType = Literal["pretrain", "instruct", "batch_request", "batch_result", "batch_error"]
Source = Literal["upload", "repository", "mistral"]

_Id = Annotated[UUID, Field(strict=False)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Body(BaseModel):
    """JSON that is sent: each field of its own type, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class _Query(BaseModel):
    """Everything in a query is text, so types are read from it."""

    model_config = ConfigDict(extra="forbid")


class TrainingFile(Body):
    """One file to train on."""

    file_id: _Id
    weight: float = Field(default=1.0, gt=0)


class Wandb(Body):
    """Weights and Biases."""

    type: Literal["wandb"] = "wandb"
    project: str
    name: str | None = None
    api_key: str = Field(min_length=40, max_length=40)
    run_name: str | None = None


class Repository(Body):
    """A repository on GitHub to train on."""

    type: Literal["github"] = "github"
    name: str
    owner: str
    ref: str | None = None
    weight: float = Field(default=1.0, gt=0)
    token: str


class Target(Body):
    """What a classifier shall tell."""

    name: str
    labels: list[str]
    weight: float = Field(default=1.0, ge=0)
    loss_function: Literal["single_class", "multi_class"] | None = None


class Classifier(Body):
    """Hyperparameters of a classifier."""

    training_steps: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-4, ge=1e-8, le=1)
    weight_decay: _Share | None = 0.1
    warmup_fraction: _Share | None = 0.05
    epochs: float | None = Field(default=None, gt=0)
    seq_len: int | None = Field(default=None, ge=100)

    @model_validator(mode="after")
    def _one_length(self) -> "Classifier":
        if self.training_steps is not None and self.epochs is not None:
            raise ValueError("training_steps and epochs cannot both be set.")
        return self


class Completion(Classifier):
    """Hyperparameters of a model that completes."""

    fim_ratio: _Share | None = 0.9


class JobIn(Body):
    """What a job is created from. `hyperparameters` are checked by the kind of the job."""

    model: str
    training_files: list[TrainingFile] = []
    validation_files: list[_Id] | None = None
    suffix: str | None = Field(default=None, max_length=18)
    integrations: list[Wandb] | None = None
    auto_start: bool = True
    invalid_sample_skip_percentage: float = Field(default=0, ge=0, le=0.5)
    job_type: Literal["completion", "classifier"] | None = None
    hyperparameters: dict[str, Any]
    repositories: list[Repository] | None = None
    classifier_targets: list[Target] | None = None

    @model_validator(mode="after")
    def _some_data(self) -> "JobIn":
        if not self.training_files and not self.repositories:
            raise ValueError("At least one training file or repository is required.")
        if self.classifier_targets is not None and self.job_type != "classifier":
            raise ValueError("classifier_targets need job_type classifier.")
        return self


class CreateQuery(_Query):
    """Parameters of a create."""

    dry_run: bool | None = None


class NoQuery(_Query):
    """Operations without parameters."""


class JobsQuery(_Query):
    """Filters of the list of jobs."""

    page: int = Field(default=0, ge=0)
    page_size: int = Field(default=100, ge=1)
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    created_by_me: bool = False
    status: Status | None = None
    wandb_project: str | None = None
    wandb_name: str | None = None
    suffix: str | None = None


class FilesQuery(_Query):
    """Filters of the list of files."""

    page: int = Field(default=0, ge=0)
    page_size: int = Field(default=100, ge=1)
    include_total: bool = True
    sample_type: list[SampleType] | None = None
    source: list[Source] | None = None
    search: str | None = None
    purpose: Purpose | None = None
    mimetypes: list[str] | None = None


class Upload(_Query):
    """The fields of an upload beside its file."""

    purpose: Purpose = "fine-tune"
    expiry: int | None = Field(default=None, ge=1)
    visibility: Literal["workspace", "user"] = "workspace"
