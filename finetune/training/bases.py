"""Base models: from the name in a recipe to weights and tokenizer in memory. Safetensors only."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import errors as hub
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from finetune.errors import Problem, TrainingError
from finetune.names import BUILTIN, BUILTINS, folder_of
from finetune.training import disk

Report = Callable[[str], None]

#: Ways of keeping weights small that `transformers` can undo while it loads: gpt-oss, and models in 8-bit floats.
_UNDONE = ("mxfp4", "fp8")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class BaseUnavailable(TrainingError):
    """The base model could not be fetched this time; the same request may succeed later."""

    retry = True


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A base model in memory (`finetune.ports.LoadedBase`)."""

    model: Any
    tokenizer: Any
    #: The folder, or the id on the hub.
    source: str | Path

    @cached_property
    def revision(self) -> str:
        """What exactly was loaded: the hub's commit, or `sha256:` over the folder's config and weights.

        Reads all weights of a folder once, about a second per GB.
        """
        commit: str | None = getattr(self.model.config, "_commit_hash", None)
        if isinstance(self.source, str):
            return commit or "unknown"
        total = hashlib.sha256()
        for path in sorted((self.source / "config.json", *self.source.glob("*.safetensors"))):
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return f"sha256:{total.hexdigest()}"

    @cached_property
    def template_digest(self) -> str:
        """sha256 of the chat template, in hex."""
        return hashlib.sha256(self.tokenizer.get_chat_template().encode()).hexdigest()


def device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def dtype_of(precision: str, where: torch.device) -> torch.dtype:
    """The dtype of the weights for `auto`, `fp32` or `bf16`; auto is bf16 on CUDA and fp32 elsewhere."""
    if precision == "auto":
        precision = "bf16" if where.type == "cuda" else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def resolve(base_model: str, cache: Path, report: Report) -> str | Path:
    """Where the base is: a built-in one's folder (built now if need be), a folder of the user, or an id on the hub.

    Blocks for some seconds while a built-in base is built for the first time. Raises TrainingError: E602, E603, E622.
    """
    if base_model.startswith(BUILTIN):
        return _built_in(base_model, cache, report)
    folder = folder_of(base_model)
    if folder is None:
        return base_model
    if folder.is_dir():
        return folder
    raise _problem("E603", base_model, "there is no such folder", "", "check the path in `base_model`")


def _built_in(base_model: str, cache: Path, report: Report) -> Path:
    from finetune.training import builtin  # builds models: not needed by those who bring their own

    name = base_model.removeprefix(BUILTIN)
    if name not in BUILTINS:
        known = ", ".join(f"{BUILTIN}{known}" for known in sorted(BUILTINS))
        raise _problem("E602", base_model, "there is no built-in base model of this name", "", f"use one of: {known}")
    try:
        return builtin.ensure(name, cache, report)
    except Exception as error:
        told = disk.refusal(error, cache)
        if told is None:
            raise
        raise told from error


def load(
    base_model: str,
    *,
    cache: Path,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    where: torch.device | None = None,
    report: Report,
) -> Loaded:
    """The base model on a device, ready for inference, with its tokenizer. Blocks; may download from the hub.

    `where` None: `device()`.

    Raises TrainingError: E602 to E608, E622; BaseUnavailable when another try may help.
    """
    where = where or device()
    source = resolve(base_model, cache, report)
    if isinstance(source, Path):
        _check_folder(base_model, source)
    report(f"loading {base_model}")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if isinstance(source, str):
        options["revision"] = revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        config = plain(AutoConfig.from_pretrained(source, **options))
        model: Any = model_class(config).from_pretrained(
            source, config=config, dtype=dtype_of(precision, where), use_safetensors=True, **options
        )
        model = model.to(where)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise _explained(base_model, source, error) from error
    try:
        tokenizer.get_chat_template()
    except ValueError as error:
        raise _problem(
            "E605",
            base_model,
            "the base model's tokenizer has no chat template",
            "messages become tokens by the template, in training as in serving",
            "use the model's instruct version, or put a chat_template.jinja into its folder",
        ) from error
    return Loaded(model=model, tokenizer=tokenizer, source=source)


def model_class(config: Any) -> Any:
    """What loads a model with this config whole, with its part for images where it has one.

    Only there an adapter's layers have the paths that the base's own files give them.
    """
    whole = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForImageTextToText if whole else AutoModelForCausalLM


def plain(config: Any) -> Any:
    """The same config, by which weights in small floats are loaded as wide ones: on small ones nothing is trained.

    Left alone, the library does so by what is installed beside it.
    """
    said = getattr(config, "quantization_config", None)
    if isinstance(said, dict) and said.get("quant_method") in _UNDONE:
        said["dequantize"] = True
    return config


def _check_folder(base_model: str, folder: Path) -> None:
    """Say in our words what `transformers` would say in a traceback."""
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise _problem(
            "E603",
            base_model,
            "the folder has no config.json",
            "it holds an adapter, not a base model" if adapter else "it is no model that transformers has saved",
            "name the folder of the base model itself",
        )
    if any(folder.glob("*.safetensors")):
        return
    if any(any(folder.glob(pattern)) for pattern in _PICKLED):
        raise _problem(
            "E604",
            base_model,
            "the folder has its weights as pickles only",
            "loading a pickle runs whatever code is in it",
            "convert it where you trust it: load it with transformers and call save_pretrained",
        )
    raise _problem("E603", base_model, "the folder has no weights", "", "it needs a model.safetensors")


def _explained(base_model: str, source: str | Path, error: Exception) -> TrainingError:
    chain = list(_causes(error))
    said = str(error).strip().split("\n", 1)[0][:300]
    if "trust_remote_code" in str(error):
        return _problem(
            "E607",
            base_model,
            "the base model brings its own Python code",
            "that code would run on this machine",
            "read it; if you trust it, set `local: {trust_remote_code: true}`",
        )
    if isinstance(source, str) and any(isinstance(cause, hub.GatedRepoError) for cause in chain):
        return _problem(
            "E606", base_model, "the base model is gated", said, "accept its terms on the hub and run `hf auth login`"
        )
    unknown = (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.HFValidationError)
    if isinstance(source, str) and any(isinstance(cause, unknown) for cause in chain):
        return _problem(
            "E606",
            base_model,
            "neither this machine nor the model hub knows this base model",
            said,
            "check `base_model`, or give the path of a folder",
        )
    absent = (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError)
    if isinstance(source, str) and any(isinstance(cause, absent) for cause in chain):
        return BaseUnavailable(*_unreachable(base_model).problems)
    return _problem(
        "E608",
        base_model,
        "the base model cannot be loaded",
        said,
        "check that `transformers` here knows this kind of model and that its files are whole",
    )


def _unreachable(base_model: str) -> TrainingError:
    return _problem(
        "E606",
        base_model,
        "the base model is not on this machine and the model hub cannot be reached",
        "a name that is no folder is looked up on the Hugging Face hub",
        f"give the path of a folder, or download it first where there is a network: hf download {base_model}",
    )


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _problem(code: str, base_model: str, what: str, why: str, fix: str) -> TrainingError:
    return TrainingError(
        Problem(code=code, what=f"{what}: {base_model}", why=why, fix=fix, field="base_model", value=base_model)
    )
