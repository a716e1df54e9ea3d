"""What requests to Together's fine-tuning and files may hold: every field, its type and bounds. Others are refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Purpose = Literal["fine-tune", "calibration", "eval", "batch-api"]
FileType = Literal["csv", "jsonl", "parquet"]
_Share = Annotated[float, Field(ge=0, le=1)]
_Least = Annotated[float, Field(ge=0)]
#: Of a suffix. together 3.1.1, lib/types/fine_tuning.py.
SUFFIX: int = 40


class Body(BaseModel):
    """JSON that is sent: each field of its own type, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Sft(Body):
    """Supervised training."""

    method: Literal["sft"]
    train_on_inputs: bool | Literal["auto"]


class Dpo(Body):
    """Training on preferences."""

    method: Literal["dpo"]
    dpo_beta: Annotated[float, Field(gt=0)] | None = None
    rpo_alpha: _Least | None = None
    simpo_gamma: _Least | None = None
    dpo_normalize_logratios_by_length: bool = False
    dpo_reference_free: bool = False


class Lora(Body):
    """A LoRA is trained."""

    type: Literal["Lora"]
    lora_r: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_trainable_modules: str = "all-linear"


class Full(Body):
    """All weights are trained."""

    type: Literal["Full"]


class LinearArgs(Body):
    """How far the rate falls."""

    min_lr_ratio: _Share = 0.0


class CosineArgs(Body):
    """How far the rate falls, and in how many waves."""

    min_lr_ratio: _Share
    num_cycles: Annotated[float, Field(gt=0)]


class Linear(Body):
    """The rate falls along a line."""

    lr_scheduler_type: Literal["linear"]
    lr_scheduler_args: LinearArgs | None = None


class Cosine(Body):
    """The rate falls along a cosine."""

    lr_scheduler_type: Literal["cosine"]
    lr_scheduler_args: CosineArgs | None = None


class Multimodal(Body):
    """What of a model that sees is trained."""

    train_vision: bool = False


Method = Annotated[Sft | Dpo, Field(discriminator="method")]
TrainingType = Annotated[Lora | Full, Field(discriminator="type")]
Scheduler = Annotated[Linear | Cosine, Field(discriminator="lr_scheduler_type")]


class Priced(Body):
    """What a price is estimated of."""

    training_file: str
    validation_file: str | None = None
    model: str | None = None
    n_epochs: int = Field(default=1, ge=1)
    n_evals: int = Field(default=0, ge=0)
    training_method: Method = Sft(method="sft", train_on_inputs="auto")
    training_type: TrainingType | None = None
    from_checkpoint: str | None = None


class JobIn(Priced):
    """What a job is created from."""

    packing: bool = True
    max_seq_length: int | None = Field(default=None, ge=1)
    n_checkpoints: int = Field(default=1, ge=1)
    batch_size: int | Literal["max"] = "max"
    gradient_accumulation_steps: int | None = Field(default=None, ge=0)
    learning_rate: float = Field(default=1e-5, gt=0)
    lr_scheduler: Scheduler | None = None
    warmup_ratio: _Share = 0.0
    max_grad_norm: float = Field(default=1.0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    random_seed: int | None = None
    suffix: str | None = Field(default=None, max_length=SUFFIX)
    wandb_api_key: str | None = None
    wandb_key: str | None = None
    wandb_base_url: str | None = None
    wandb_project_name: str | None = None
    wandb_name: str | None = None
    wandb_entity: str | None = None
    train_on_inputs: bool | Literal["auto"] | None = None
    multimodal_params: Multimodal | None = None
    early_stopping_enabled: bool | None = None
    early_stopping_patience: int | None = Field(default=None, ge=1)
    early_stopping_min_delta: _Least | None = None
    early_stopping_warmup_evals: int | None = Field(default=None, ge=0)
    from_hf_model: str | None = None
    hf_model_revision: str | None = None
    hf_api_token: str | None = None
    hf_output_repo_name: str | None = None


class Told(Body):
    """What is told of a file before its bytes are sent."""

    purpose: Purpose
    file_name: str = Field(min_length=1)
    file_type: FileType
    checksum: str = Field(pattern="^[0-9a-f]{64}$")


class Initiate(Told):
    """The same, of one that comes in parts."""

    file_size: int = Field(ge=1)
    num_parts: int = Field(ge=1, le=250)


class Part(Body):
    """A part that was sent."""

    part_number: int = Field(ge=1)
    etag: str = Field(min_length=1)


class Abort(Body):
    """Which upload in parts is meant."""

    upload_id: str
    file_id: str


class Complete(Abort):
    """All parts of it."""

    parts: list[Part] = Field(min_length=1)


class _Query(BaseModel):
    """Everything in a query is text, so types are read from it."""

    model_config = ConfigDict(extra="forbid")


class NoQuery(_Query):
    """Operations without parameters."""


class MetricsQuery(_Query):
    """Which rows of metrics."""

    global_step_from: int | None = None
    global_step_to: int | None = None
    logged_at_from: str | None = None
    logged_at_to: str | None = None
    resolution: int | None = Field(default=None, ge=1)


class DownloadQuery(_Query):
    """Which weights."""

    ft_id: str
    checkpoint: Literal["merged", "adapter", "model_output_path"] | None = None
    checkpoint_step: int | None = Field(default=None, ge=0)


class LimitsQuery(_Query):
    """Whose limits."""

    model_name: str


class DeleteQuery(_Query):
    """Of old, and without effect."""

    force: bool = False
