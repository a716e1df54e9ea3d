import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetune.errors import ServingError
from finetune.files import digest
from finetune.serving.adapters import check_digest, check_fits, read_adapter

BASE = {"model.layers.0.q_proj": (8, 4), "model.embed_tokens": (20, 4)}
Q = "base_model.model.model.layers.0.q_proj"
FITTING = {f"{Q}.lora_A.weight": (2, 4), f"{Q}.lora_B.weight": (8, 2)}


def folder(root: Path, shapes: dict[str, tuple[int, ...]], **config: Any) -> Path:
    made = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "bias": "none", **config}
    (root / "adapter_config.json").write_text(json.dumps(made))
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, root / "adapter_model.safetensors")
    return root


def check(path: Path, base: str = "org/base") -> None:
    check_fits(read_adapter(path), base, BASE)


def test_what_fits_is_silent(tmp_path: Path) -> None:
    embedding = {
        "base_model.model.model.embed_tokens.lora_embedding_A": (2, 20),
        "base_model.model.model.embed_tokens.lora_embedding_B": (4, 2),
        f"{Q}.lora_magnitude_vector.weight": (8,),
    }
    check(folder(tmp_path, FITTING | embedding))


@pytest.mark.parametrize("name", ["/somewhere/base", "./base", "a/b/c", None, "", "org/base"])
def test_a_base_named_by_a_folder_is_compared_by_shape(tmp_path: Path, name: str | None) -> None:
    check(folder(tmp_path, FITTING, base_model_name_or_path=name))


def test_a_base_that_is_a_folder_itself_is_compared_by_shape(tmp_path: Path) -> None:
    check(folder(tmp_path, FITTING), base=str(tmp_path))


@pytest.mark.parametrize(
    ("shapes", "config", "why"),
    [
        (FITTING, {"base_model_name_or_path": "org/other"}, "org/other"),
        (FITTING, {"bias": "all"}, "biases"),
        ({}, {}, "no weights"),
        ({f"{Q}.lora_A.weight": (2, 5), f"{Q}.lora_B.weight": (8, 2)}, {}, "8x4"),
        ({f"{Q}.lora_A.weight": (2, 4), f"{Q}.lora_B.weight": (9, 2)}, {}, "9x2"),
        ({f"{Q}.lora_A.weight": (2, 4)}, {}, "only one"),
        ({Q.replace("0", "1") + ".lora_A.weight": (2, 4)}, {}, "layers.1"),
        (FITTING | {"base_model.model.model.embed_tokens.weight": (20, 4)}, {}, "would replace"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, Any], why: str
) -> None:
    path = folder(tmp_path, shapes, **config)
    with pytest.raises(ServingError) as caught:
        check(path)
    assert caught.value.problems[0].code == "E750"
    assert why in caught.value.problems[0].why


def test_folders_without_an_adapter(tmp_path: Path) -> None:
    def code() -> str:
        with pytest.raises(ServingError) as caught:
            read_adapter(tmp_path)
        assert f"No adapter found for {tmp_path}" in caught.value.problems[0].what
        return caught.value.problems[0].code

    assert code() == "E751"
    folder(tmp_path, FITTING, peft_type="IA3")
    assert code() == "E751"
    folder(tmp_path, FITTING)
    (tmp_path / "adapter_config.json").write_text("{")
    assert code() == "E751"
    folder(tmp_path, FITTING)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not tensors")
    assert code() == "E751"
    (tmp_path / "adapter_model.safetensors").unlink()
    assert code() == "E751"


def test_the_template_of_the_training_is_read(tmp_path: Path) -> None:
    path = folder(tmp_path, FITTING)
    assert read_adapter(path).template is None
    (path / "chat_template.jinja").write_text("{{ messages }}")
    assert read_adapter(path).template == "{{ messages }}"


def test_a_registered_adapter_is_loaded_only_as_it_was_registered(tmp_path):
    path = folder(tmp_path, FITTING)
    registered = digest(path)
    check_digest(path, registered)
    check_digest(path, None)
    folder(tmp_path, FITTING, bias="all")
    with pytest.raises(ServingError, match="E838"):
        check_digest(path, registered)
    # What is missing is told by whoever reads it.
    (tmp_path / "adapter_model.safetensors").unlink()
    check_digest(path, registered)
