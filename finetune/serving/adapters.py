"""Does this folder hold a LoRA, and one of this base model? Read from the files' heads, before anything is loaded.

PEFT loads what fits by name and says nothing of the rest: weights of another base of the same shape, an adapter
with half of its layers, or full weights that overwrite the base's. Each of these would answer wrongly without
a word, so each is refused here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import ServingError
from finetune.files import digest
from finetune.jobs import Json
from finetune.serving.asks import fault

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
TEMPLATE = "chat_template.jinja"

Shape = tuple[int, ...]

_PREFIX = "base_model.model."
_LINEAR = re.compile(r"^(?P<module>.+)\.lora_(?P<part>[AB])\.weight$")
_EMBEDDING = re.compile(r"^(?P<module>.+)\.lora_embedding_(?P<part>[AB])$")
_MAGNITUDE = re.compile(r"^.+\.lora_magnitude_vector(\.weight)?$")


@dataclass(frozen=True, kw_only=True)
class AdapterFiles:
    """An adapter folder as its files describe it."""

    path: Path
    config: Json
    #: Shape of each tensor, by the name it has in the file.
    shapes: Mapping[str, Shape]
    #: The chat template that the adapter was trained with, when its folder carries one; else None.
    template: str | None

    @property
    def base(self) -> str | None:
        """The base model's name as the trainer wrote it (an id or a folder); None when it wrote none."""
        return self.config.get("base_model_name_or_path") or None


def read_adapter(path: Path) -> AdapterFiles:
    """The folder's description. Raises ServingError E751 when it holds no LoRA in safetensors."""
    # Not at the top: safetensors belongs to the extra `local`, and the server's pages work without it.
    from safetensors import SafetensorError, safe_open

    if not (path / CONFIG).is_file():
        raise _unreadable(path, f"there is no {CONFIG} in that folder")
    if not (path / WEIGHTS).is_file():
        raise _unreadable(path, f"there is no {WEIGHTS} in that folder")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        with safe_open(path / WEIGHTS, framework="np") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
        template = path / TEMPLATE
        text = template.read_text(encoding="utf-8") if template.is_file() else None
    except (OSError, ValueError, SafetensorError) as exc:
        raise _unreadable(path, f"its files cannot be read ({type(exc).__name__})") from exc
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _unreadable(path, f"{CONFIG} does not describe a LoRA")
    return AdapterFiles(path=path, config=config, shapes=shapes, template=text)


def check_digest(path: Path, wanted: str | None) -> None:
    """Silent when the folder has this digest, none is wanted, or it cannot be read; else raises ServingError E838."""
    if wanted is None:
        return
    try:
        now = digest(path)
    except OSError:
        # Whoever reads the files next says what is missing.
        return
    if now != wanted:
        raise fault(
            "E838",
            f"the adapter in {path} is not what was registered",
            f"its digest was {wanted[:12]}, and is {now[:12]}",
            "restore the folder, or train again with `ft submit RECIPE --force`",
        )


def check_fits(files: AdapterFiles, base_name: str, base_shapes: Mapping[str, Shape]) -> None:
    """Silent when every tensor has its place in the base model; else raises ServingError E750.

    `base_shapes` are the weights of the base's modules by module name. A base that is named by a folder, on
    either side, is compared by shapes only: the same model may lie in many folders.
    """
    named = files.base
    if named and _is_id(named) and _is_id(base_name) and named != base_name:
        raise _misfit(files, f"it was trained on {named}, this base is {base_name}")
    if files.config.get("bias", "none") != "none":
        raise _misfit(files, "it changes the base's biases, which would change every other model on this base")
    if not files.shapes:
        raise _misfit(files, "it holds no weights")
    parts: dict[str, set[str]] = {}
    for key, shape in files.shapes.items():
        name = key.removeprefix(_PREFIX)
        if _MAGNITUDE.match(name):
            continue
        match = _LINEAR.match(name) or _EMBEDDING.match(name)
        if match is None:
            raise _misfit(files, f"{name} is no LoRA weight and would replace one of the base's")
        _check_shape(files, match["module"], match["part"], shape, base_shapes)
        parts.setdefault(match["module"], set()).add(match["part"])
    for module, found in parts.items():
        if found != {"A", "B"}:
            raise _misfit(files, f"{module} has only one of its two LoRA matrices")


def _check_shape(files: AdapterFiles, module: str, part: str, shape: Shape, base_shapes: Mapping[str, Shape]) -> None:
    base = base_shapes.get(module)
    if base is None:
        raise _misfit(files, f"this base has no {module}")
    # lora_A is [r, in] and lora_B [out, r] of a weight [out, in]; an embedding's weight is [in, out]. Conv1D
    # turns its weight round, so the width must be one of the weight's sides; PEFT checks the rest when it loads.
    width = shape[-1] if part == "A" else shape[0]
    if width not in base:
        raise _misfit(files, f"{module} is {_sides(base)} in this base, the adapter's lora_{part} {_sides(shape)}")


def _is_id(name: str) -> bool:
    """False for what is (or was, on the training machine) a folder."""
    return not (name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).exists())


def _sides(shape: Shape) -> str:
    return "x".join(str(side) for side in shape)


def _unreadable(path: Path, why: str) -> ServingError:
    return fault("E751", f"No adapter found for {path}", why, "give the folder that the training wrote (PEFT's format)")


def _misfit(files: AdapterFiles, why: str) -> ServingError:
    what = f"the adapter in {files.path} does not fit this base model"
    return fault("E750", what, why, "serve it on the base model that it was trained on")
