"""What a trainer is asked to do: `RUN_DIR/request.json`, read strictly into frozen dataclasses. No torch here."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from finetune.errors import Problem, TrainingError

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Positive = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Training:
    """How the optimiser runs. Every value but `checkpoint_every` changes the resulting adapter."""

    epochs: Positive
    #: Examples per optimiser step, however they are cut into micro-batches; an epoch's last step may have fewer.
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    #: In tokens, template included.
    max_seq_length: Annotated[int, Field(ge=2)]
    #: Part of all optimiser steps over which the rate rises linearly from 0.
    warmup_ratio: Ratio
    weight_decay: Annotated[float, Field(ge=0)]
    lr_scheduler: Literal["linear", "cosine", "constant"]
    #: Gradients are scaled down to this global L2 norm; 0 leaves them as they are.
    max_grad_norm: Annotated[float, Field(ge=0)]
    #: Optimiser steps between checkpoints; None: by time.
    checkpoint_every: Positive | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Lora:
    """The adapter: rank, scale (`alpha / r`), dropout on its input, and the modules that get one."""

    r: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    #: Names as a module path ends in (`q_proj`), or all linear layers but the output head.
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Local:
    """What concerns this machine only."""

    #: Most examples per forward pass; auto: by tokens.
    micro_batch_size: Literal["auto"] | Positive = "auto"
    #: Of the base model's weights; the adapter is always fp32. auto: bf16 on CUDA, else fp32.
    precision: Precision = "auto"
    trust_remote_code: bool = False
    #: Whether activations are made again for the backward pass instead of kept; auto: when memory runs out. Changes
    #: no bit of the adapter but by how many examples then fit through the model at once, as a lack of memory does.
    gradient_checkpointing: Literal["auto"] | bool = "auto"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Dpo:
    """What only `method: dpo` has."""

    #: How much the adapter is held to the base model: factor on the log-ratios of the two.
    beta: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Request:
    """One training, whole."""

    run_key: Annotated[str, Field(min_length=1)]
    #: `builtin:NAME`, a folder, or an id on the Hugging Face hub; the adapter carries it as it stands here.
    base_model: Annotated[str, Field(min_length=1)]
    #: Commit or branch on the hub; None: its default branch. Not used for folders.
    revision: str | None = None
    #: JSON lines of `{"messages": [...]}`, or of `{"prompt": [...], "chosen": [...], "rejected": [...]}` for dpo.
    train: Path
    #: The same; None: no validation.
    validation: Path | None = None
    data_digest: str
    recipe_digest: str
    method: Literal["sft", "dpo"]
    seed: Annotated[int, Field(ge=0)]
    training: Training
    #: None: the method is another one.
    dpo: Dpo | None = None
    lora: Lora
    local: Local
    #: Where built-in bases are kept.
    cache: Path

    @model_validator(mode="after")
    def _has_its_own(self) -> Self:
        if (self.dpo is None) != (self.method != "dpo"):
            raise ValueError("the section `dpo` goes with the method dpo")
        return self

    def settings_digest(self) -> str:
        """sha256 over everything here that changes the adapter, apart from data and base model."""
        training = asdict(self.training)
        local = asdict(self.local)
        del training["checkpoint_every"], local["gradient_checkpointing"]
        parts = [self.method, self.seed, training, asdict(self.lora), local]
        if self.dpo is not None:
            parts.append(asdict(self.dpo))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


_ADAPTER = TypeAdapter(Request)


def read(path: Path) -> Request:
    """The request in `path`. Raises TrainingError (E600) that names every field at fault."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(
            Problem(code="E600", what=f"the training request cannot be read: {error.strerror}", file=str(path))
        ) from error
    except ValidationError as error:
        raise TrainingError(
            *(
                Problem(
                    code="E600",
                    what=f"the training request is malformed: {fault['msg']}",
                    why="the trainer and the part that started it do not agree on what to train",
                    fix="start the trainer through `ft`, with the same version of ft on both sides",
                    file=str(path),
                    field=".".join(str(part) for part in fault["loc"]) or None,
                )
                for fault in error.errors(include_url=False, include_input=False)
            )
        ) from error
