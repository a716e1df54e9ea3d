"""What requests to Fireworks' datasets and fine-tuning may hold: every field, its type and bounds. Others are refused.

By the types of the vendor's package (fireworks-ai 1.2). What its later types call deprecated or say is rejected is
refused here: `earlyStop`, `gradientAccumulationSteps`, `jinjaTemplate` and the `mtp` fields.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

#: As the vendor's package demands of a model's id; that it begins with a letter is the stricter reading.
ID_PATTERN = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
_Whole = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Empty(_Body):
    """No field at all."""


class DatasetIn(_Body):
    """What a data set is to be; only those that are uploaded can be made here."""

    displayName: str = ""
    exampleCount: _Whole | None = None
    userUploaded: Empty
    format: Literal["FORMAT_UNSPECIFIED", "CHAT", "COMPLETION", "RL"] = "FORMAT_UNSPECIFIED"


class CreateDataset(_Body):
    """POST datasets."""

    datasetId: Id
    dataset: DatasetIn


class UploadEndpoint(_Body):
    """POST datasets/ID:getUploadEndpoint."""

    filenameToSize: Annotated[dict[str, _Whole], Field(min_length=1)]
    readMask: str = ""


class Wandb(_Body):
    """Weights and Biases."""

    enabled: bool = False
    apiKey: str = ""
    project: str = ""
    entity: str = ""
    runId: str = ""


class Training(_Body):
    """What both kinds of job have."""

    baseModel: str | None = None
    warmStartFrom: str | None = None
    outputModel: str | None = None
    epochs: int | None = Field(default=None, ge=1)
    learningRate: float | None = Field(default=None, gt=0)
    learningRateWarmupSteps: int | None = Field(default=None, ge=0)
    maxContextLength: int | None = Field(default=None, ge=1)
    #: A model that is an addon has a rank of 4 to 64.
    loraRank: int | None = Field(default=None, ge=4, le=64)
    batchSizeSamples: int | None = Field(default=None, ge=1)
    optimizerWeightDecay: float | None = Field(default=None, ge=0)
    samplerCheckpointSaveIntervalSteps: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.baseModel is None) == (self.warmStartFrom is None):
            raise ValueError("exactly one of baseModel and warmStartFrom must be specified")
        return self


class CreateSft(Training):
    """POST supervisedFineTuningJobs."""

    dataset: str
    displayName: str = ""
    evaluationDataset: str | None = None
    evalAutoCarveout: bool = False
    isTurbo: bool = False
    wandbConfig: Wandb | None = None


class Dpo(_Body):
    """DPO's own."""

    beta: float | None = Field(default=None, gt=0, lt=0.5)


class Loss(_Body):
    """What a preference job makes small."""

    method: Literal["METHOD_UNSPECIFIED", "DPO", "ORPO"] = "METHOD_UNSPECIFIED"
    dpo: Dpo | None = None


class CreateDpo(_Body):
    """POST dpoJobs."""

    dataset: str
    displayName: str = ""
    trainingConfig: Training
    lossConfig: Loss | None = None
    wandbConfig: Wandb | None = None


class Page(BaseModel):
    """The query of a list. Types are read from text."""

    model_config = ConfigDict(extra="forbid")

    pageSize: int = Field(default=50, ge=0)
    pageToken: str = ""

    def of(self, rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
        """One page of rows under `key`, with where the next begins."""
        begin, size = int(self.pageToken or 0), min(self.pageSize or 50, 200)
        more = begin + size < len(rows)
        token = {"nextPageToken": str(begin + size)} if more else {}
        return {key: rows[begin : begin + size], **token, "totalSize": len(rows)}


class ModelsPage(Page):
    """The query of a list of models, with the one filter that the vendor's pages show."""

    filter: Literal["", "supports_serverless=true"] = ""
