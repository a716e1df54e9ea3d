import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from finetune import files
from finetune.errors import TrainingError
from finetune.training import adapter, request
from finetune.training.request import Lora
from tests.support import tiny
from tests.unit.training.test_engine import ALL


def attached(lora: Lora = ALL, seed: int = 1) -> Any:
    made = adapter.attach(tiny.model(), lora, seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    return made.eval()


def write(run_dir: Path, made: Any, **changes: Any) -> dict[str, Any]:
    tiny.request(run_dir, "my/base", **changes)
    asked = request.read(run_dir / "request.json")
    return adapter.write(made, asked, {"run_key": asked.run_key}, run_dir / "adapter")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_peft_loads_it_and_gives_the_same_logits(tmp_path: Path, targets: Any) -> None:
    made = attached(Lora(r=3, alpha=5, dropout=0.1, target_modules=targets))
    write(tmp_path, made)
    loaded = PeftModel.from_pretrained(tiny.model(), tmp_path / "adapter").eval()
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        ours, theirs, base = (model(input_ids=ids).logits for model in (made, loaded, tiny.model()))
    assert torch.equal(ours, theirs)
    assert (ours - base).abs().max() > 0.01


def test_the_format_is_the_one_that_servers_read(tmp_path: Path) -> None:
    """vLLM reads r, lora_alpha and target_modules' last parts, and fp32 tensors named as PEFT names them."""
    write(tmp_path, attached(), revision="abc")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert list(config) == sorted(config)
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 8, "none")
    assert config["target_modules"] == sorted(config["target_modules"])
    assert set(config["target_modules"]) == {f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")}
    assert (config["base_model_name_or_path"], config["revision"]) == ("my/base", "abc")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
        assert file.get_slice(names[0]).get_dtype() == "F32"
    assert len(names) == 28
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names


def test_the_digest_is_of_the_adapter_and_not_of_the_run(tmp_path: Path) -> None:
    one = write(tmp_path / "a", attached(), run_key="one")
    two = write(tmp_path / "b", attached(), run_key="two")
    other = write(tmp_path / "c", attached(seed=2))
    assert one["digest"] == two["digest"] == files.digest(tmp_path / "a" / "adapter")
    assert one["digest"] != other["digest"]
    assert json.loads((tmp_path / "b" / "adapter" / "lineage.json").read_text()) == two["lineage"] == {"run_key": "two"}


def test_a_target_that_is_not_there_is_named_with_those_that_are() -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, target_modules=("q_proj", "query"))
    with pytest.raises(TrainingError, match=r"(?s)E613.*query.*down_proj, gate_proj"):
        adapter.attach(tiny.model(), lora, 1)


def test_the_output_head_gets_no_adapter() -> None:
    assert not any("lm_head" in name for name, p in attached().named_parameters() if p.requires_grad)
