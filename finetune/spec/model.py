"""Recipe: what the file says, typed. Nothing is converted, and an unset field is told from one set to its default.

Descriptions here are the ones that editors show and that `ft init` writes; defaults are added to them there.
"""

import warnings
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from finetune.names import PRODUCTION
from finetune.spec.types import (
    CONTRADICTION,
    EXACTLY_ONE,
    NOT_A_CHOICE,
    WRONG_TYPE,
    Alias,
    Duration,
    LeastScore,
    Memory,
    ModelRef,
    Money,
    ProviderName,
    RegionName,
    Slug,
    Text,
    Word,
    dollars,
    one_of,
    refuse,
    seconds,
)


class Section(BaseModel):
    """What all parts of a recipe have in common: frozen, strict, closed. `model_fields_set` tells set from unset."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        # A value may be a secret in the wrong place.
        hide_input_in_errors=True,
        # Building the validators takes longer than importing this module; `ft --help` needs none of them.
        defer_build=True,
    )


class Region(Section):
    """Where the data may go: one region."""

    region: RegionName = Field(description="The only region where the data may be processed.", examples=["eu"])


#: A test holds this to what the data room reads.
DataFormat = Literal[
    "auto",
    "openai",
    "completion",
    "alpaca",
    "sharegpt",
    "gemini",
    "mistral",
    "together",
    "fireworks",
    "bedrock",
    "openai-dpo",
    "preference",
    "gemini-preference",
    "together-preference",
    "fireworks-dpo",
    "kto",
]


class Dataset(Section):
    """The training data."""

    path: Text = Field(
        description="Training rows: a file, folder or pattern, or hf:owner/name, s3://, gs://, https://.",
        examples=["datasets/train.jsonl"],
    )
    format: DataFormat = Field(default="auto", description="Layout of the rows; auto looks at them.")
    keep_upload: bool | None = Field(
        default=None,
        description="Keep the files at a hosted provider when the job has ended. Unset: as FT_KEEP_UPLOADS says.",
        examples=[False],
    )
    field_map: dict[Text, Text] = Field(
        default_factory=dict,
        description="Names of columns: ours on the left, the file's on the right.",
        examples=[{"messages": "conversation"}],
    )


class Validation(Section):
    """Rows held back from training: a share of the training file, or a file of their own."""

    split: float | None = Field(
        default=None, gt=0, lt=1, description="Share of the rows to hold back, chosen by content.", examples=[0.1]
    )
    path: Text | None = Field(
        default=None,
        description="Validation file, relative to the recipe's folder; instead of split.",
        examples=["datasets/validation.jsonl"],
    )
    group_by: Text | None = Field(
        default=None,
        description="Key of the rows whose value keeps them on one side of the split.",
        examples=["customer_id"],
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.split is not None and self.path is not None:
            why = "Rows are held back from the training file, or come from a file of their own"
            refuse(CONTRADICTION, "cannot stand beside `validation.path`", why, "remove one of the two", "split")
        if self.split is None and self.path is None:
            why = "Without one of them there are no rows to validate with"
            fix = "write validation: {split: 0.1}, or remove validation"
            refuse(CONTRADICTION, "has neither split nor path", why, fix)
        if self.group_by is not None and self.split is None:
            why = "Rows are kept together where they are split, and a file of its own splits nothing"
            refuse(CONTRADICTION, "stands without `validation.split`", why, "add split, or remove it", "group_by")
        return self


class Training(Section):
    """How to train, in words that every provider has."""

    epochs: int = Field(default=3, ge=1, le=1000, description="Passes over all rows.")
    batch_size: int = Field(
        default=8, ge=1, le=65536, description="Rows per optimiser step, over all GPUs and accumulation steps together."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Peak learning rate, absolute. Unset: the target's own.", examples=[2e-4]
    )
    learning_rate_multiplier: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Factor on the target's own learning rate; instead of learning_rate.",
        examples=[1.0],
    )
    max_seq_length: int = Field(default=2048, ge=8, le=16777216, description="Longest row, in tokens.")
    packing: bool = Field(default=False, description="Put several short rows into one sequence.")
    warmup_ratio: float = Field(default=0.0, ge=0, le=1, description="Share of the steps in which the rate rises.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay (AdamW).")
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="How the learning rate falls after the warm-up."
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1000000, description="Gradients are clipped to this norm; 0 turns clipping off."
    )

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if self.learning_rate is not None and self.learning_rate_multiplier is not None:
            why = "One is absolute, the other a factor on the target's own rate; ft never turns one into the other"
            says = "cannot stand beside `training.learning_rate_multiplier`"
            refuse(CONTRADICTION, says, why, "remove one of the two", "learning_rate")
        return self


_MODULES = one_of(
    WRONG_TYPE,
    "must be all-linear or a list of module names",
    "A LoRA is laid on the layers named here",
    "write target_modules: all-linear, or target_modules: [q_proj, v_proj]",
)
_MICRO_BATCH = one_of(
    WRONG_TYPE,
    "must be auto or a whole number from 1 to 65536",
    "It is the number of rows that go through the model at a time",
    "write micro_batch_size: auto",
)
_CHECKPOINTING = one_of(
    WRONG_TYPE,
    "must be auto, true or false",
    "It says whether activations are made again for the backward pass instead of kept",
    "write gradient_checkpointing: auto",
)
_DATA = one_of(
    NOT_A_CHOICE,
    "must be any, local_only or {region: ...}",
    "It says where the data may go",
    "write data: any, data: local_only, or data: {region: eu}",
)

_Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]


class Lora(Section):
    """The adapter that is trained."""

    r: int = Field(default=16, ge=1, le=4096, description="Rank of the adapter.")
    alpha: int = Field(default=32, ge=1, le=65536, description="The adapter's output is scaled by alpha / r.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapter's input, a probability.")
    target_modules: Annotated[Literal["all-linear"] | _Names, _MODULES] = Field(
        default="all-linear", description="Layers that get an adapter: all-linear, or a list of module names."
    )


class Dpo(Section):
    """What only `method: dpo` has."""

    beta: float = Field(
        default=0.1,
        gt=0,
        le=100,
        description="How closely the model is held to its base: the smaller, the further preferences move it.",
    )


class Limits(Section):
    """What the job may not exceed, and what its target must have."""

    max_cost: Money | None = Field(
        default=None, description="Refuse to start above this estimate.", examples=["25 USD"]
    )
    deadline: Duration | None = Field(
        default=None,
        description="Cancel when not trained by then, counted from submission: s, m, h, d.",
        examples=["6h"],
    )
    data: Annotated[Literal["any", "local_only"] | Region, _DATA] = Field(
        default="any", description="Where the data may go: any, local_only, or {region: eu}."
    )
    min_context: int | None = Field(
        default=None,
        ge=1,
        le=100000000,
        description="Tokens that the tuned model must read in one request.",
        examples=[32000],
    )
    quality: LeastScore | None = Field(
        default=None,
        description="How good the base model must be, by scores that were imported.",
        examples=["arena >= 1300"],
    )

    @property
    def max_cost_usd(self) -> Decimal | None:
        """`max_cost` in US dollars; None when there is no limit."""
        return None if self.max_cost is None else dollars(self.max_cost)

    @property
    def deadline_s(self) -> int | None:
        """`deadline` in seconds; None when there is none."""
        return None if self.deadline is None else seconds(self.deadline)


class Gate(Section):
    """What the tuned model must reach before it is promoted."""

    metric: Slug = Field(description="The measure that decides.", examples=["exact_match"])
    min_gain: float = Field(default=0.0, description="Least gain over the other model, in the metric's unit.")
    over: ModelRef = Field(default="base", description="The model to beat: base, an alias, or a version.")
    guards: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(),
        description="Guard suites: what the model must still do as well. YAML files, or `lm-eval:TASK`.",
        examples=[["suites/manners.yaml"]],
    )
    max_guard_loss: float | None = Field(
        default=None, ge=0, description="Most that any guard metric may lose.", examples=[0.02]
    )
    sample_size: int = Field(
        default=200, ge=20, le=100_000, description="Rows of each suite that are asked, at most.", examples=[200]
    )


class Register(Section):
    """Where the tuned model goes."""

    alias: Alias = Field(default=PRODUCTION, description="The name that callers use, moved to the new version.")
    gateways: Annotated[tuple[Slug, ...], Field(strict=False)] = Field(
        default=(), description="Gateways that shall serve it.", examples=[["embedded"]]
    )
    canary: float | None = Field(
        default=None, gt=0, le=1, description="Share of the calls that the new version gets first.", examples=[0.1]
    )
    canary_pause: Duration = Field(
        default="5m", description="How long each share is kept and checked before the next.", examples=["5m"]
    )

    max_hosting: Money | None = Field(
        default=None,
        description="What an hour of hosting may cost, where the provider wants the model deployed (Azure).",
        examples=["3 USD"],
    )

    @property
    def canary_pause_s(self) -> int:
        """`canary_pause` in seconds."""
        return seconds(self.canary_pause)


class Resources(Section):
    """What a training on own machines needs."""

    gpus: int | None = Field(
        default=None,
        ge=0,
        le=4096,
        description="Number of GPUs. Unset: one, or none where there is none; 0: the processor.",
        examples=[1],
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory that it needs of each GPU; it shares the card with others. Unset: the whole card.",
        examples=["24GB"],
    )


class Local(Section):
    """What only the local trainer has."""

    micro_batch_size: Annotated[Literal["auto"] | Annotated[int, Field(ge=1, le=65536)], _MICRO_BATCH] = Field(
        default="auto", description="Rows that go through the model at a time; batch_size is reached by accumulation."
    )
    gradient_checkpointing: Annotated[Literal["auto"] | bool, _CHECKPOINTING] = Field(
        default="auto",
        description="Make activations again instead of keeping them: slower, far less memory. auto: if it must be.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="Number format of the training.")
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the base model. It can do anything you can."
    )


with warnings.catch_warnings():
    # `register` is the field's name in the file; what it hides is ABCMeta.register, which nobody calls on a Recipe.
    warnings.filterwarnings("ignore", message='Field name "register"', category=UserWarning)

    class Recipe(Section):
        """One fine-tuning job, whole: data, base model, method, limits, and where the result is served."""

        version: Annotated[Literal[1], EXACTLY_ONE] = Field(
            description="Version of this file's format, always 1.", examples=[1]
        )
        name: Slug = Field(description="Name of the tuned model.", examples=["support-bot"])
        base_model: Word = Field(
            description="The model to tune, as its publisher names it.", examples=["Qwen/Qwen3-0.6B"]
        )
        dataset: Dataset = Field(description="The training data.")
        provider: ProviderName = Field(
            default="local", description="Who trains: local, a hosted API such as openai, or auto.", examples=["local"]
        )
        method: Literal["sft", "dpo"] = Field(
            default="sft", description="sft: learn the answers. dpo: learn preferences."
        )
        validation: Validation | None = Field(default=None, description="Rows held back from training. Unset: none.")
        seed: int = Field(default=42, ge=0, le=2**32 - 1, description="Seed of everything random in the training.")
        training: Training = Field(default_factory=Training, description="How to train.")
        lora: Lora = Field(default_factory=Lora, description="The adapter that is trained.")
        dpo: Dpo = Field(default_factory=Dpo, description="What only dpo has.")
        limits: Limits = Field(default_factory=Limits, description="What the job may not exceed.")
        privacy: Literal["off", "warn", "strict"] = Field(
            default="off", description="Look for personal data in the rows: off, warn, or strict (refuse)."
        )
        gate: Gate | None = Field(default=None, description="What the model must reach to be promoted. Unset: no gate.")
        register: Register | None = Field(
            None, description="Where the tuned model goes. Unset: a version is recorded, no alias is moved."
        )
        resources: Resources = Field(default_factory=Resources, description="What a training on own machines needs.")
        notify: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
            default=(), description="Whom to tell when the job ends.", examples=[["ops"]]
        )
        local: Local = Field(default_factory=Local, description="What only the local trainer has.")
        provider_options: dict[Text, JsonValue] = Field(
            default_factory=dict,
            description="Handed to the provider as they are. Never a secret.",
            examples=[{"suffix": "v1"}],
        )
        allow_ignored: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
            default=(),
            description="Fields that the target may ignore; otherwise that is an error.",
            examples=[["lora.r"]],
        )

        @model_validator(mode="after")
        def _of_its_method(self) -> Self:
            if self.method != "dpo" and self.dpo != Dpo():
                why, fix = "It is about learning preferences", "remove it, or write method: dpo"
                refuse(CONTRADICTION, f"cannot stand beside `method: {self.method}`", why, fix, "dpo")
            return self

        @property
        def target(self) -> str:
            """`provider/base_model`, as users write it."""
            return f"{self.provider}/{self.base_model}"
