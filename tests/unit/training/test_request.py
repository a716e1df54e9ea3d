import json
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import TrainingError
from finetune.training import request
from tests.support import tiny


def test_a_whole_request_is_read(tmp_path: Path) -> None:
    tiny.request(tmp_path, "builtin:tiny-llama", lora__target_modules=["q_proj", "v_proj"])
    read = request.read(tmp_path / "request.json")
    assert read.train == tmp_path / "train.jsonl"
    assert read.training.lr_scheduler == "cosine"
    assert read.lora.target_modules == ("q_proj", "v_proj")
    assert read.local.micro_batch_size == 3
    assert read.local.gradient_checkpointing == "auto", "as in requests of before there was such a thing"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": "kto"}, "method"),
        ({"method": "dpo", "dpo": {"beta": 0.0}}, "dpo.beta"),
        ({"method": "dpo", "dpo": {}}, "dpo.beta"),
        ({"training__epochs": 0}, "training.epochs"),
        ({"training__epochs": "3"}, "training.epochs"),
        ({"training__packing": True}, "training.packing"),
        ({"training__learning_rate": -1.0}, "training.learning_rate"),
        ({"lora__target_modules": []}, "lora.target_modules"),
        ({"local__precision": "fp16"}, "local.precision"),
        ({"local__gradient_checkpointing": "yes"}, "local.gradient_checkpointing"),
        ({"local__gradient_checkpointing": 1}, "local.gradient_checkpointing"),
        ({"seed": None}, "seed"),
    ],
)
def test_a_malformed_field_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    tiny.request(tmp_path, "b", **change)
    with pytest.raises(TrainingError) as caught:
        request.read(tmp_path / "request.json")
    assert all(problem.code == "E600" for problem in caught.value.problems)
    assert any((problem.field or "").startswith(field) for problem in caught.value.problems)


@pytest.mark.parametrize("change", [{"method": "dpo"}, {"dpo": {"beta": 0.1}}])
def test_a_method_and_its_section_go_together(tmp_path: Path, change: dict[str, Any]) -> None:
    tiny.request(tmp_path, "b", **change)
    with pytest.raises(TrainingError, match="E600") as caught:
        request.read(tmp_path / "request.json")
    assert "`dpo` goes with the method dpo" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_key": NaN}'])
def test_what_is_no_request_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(TrainingError, match="E600"):
        request.read(tmp_path / "request.json")


def test_a_missing_request_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        request.read(tmp_path / "request.json")


def test_settings_digest_sees_what_changes_the_adapter_only(tmp_path: Path) -> None:
    def digest(**changes: Any) -> str:
        tiny.request(tmp_path, "b", **changes)
        return request.read(tmp_path / "request.json").settings_digest()

    assert digest() == digest(training__checkpoint_every=3) == digest(run_key="other")
    assert digest() == digest(local__gradient_checkpointing=True) == digest(local__gradient_checkpointing=False)
    assert len({digest(), digest(seed=8), digest(lora__r=5), digest(training__epochs=3)}) == 4
    assert len({digest(), *(digest(method="dpo", dpo={"beta": beta}) for beta in (0.1, 0.2))}) == 3


def test_the_settings_of_a_supervised_training_are_what_they_were(tmp_path: Path) -> None:
    """A checkpoint that an earlier version of ft has written is resumed."""
    tiny.request(tmp_path, "b")
    assert (
        request.read(tmp_path / "request.json").settings_digest()
        == "6b473e1317e499b53d274ca5a29274674f4e949725b35d65ce8351aabdf57c81"
    )


def test_bytes_of_a_request_are_not_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(json.dumps({"run_key": "k", "token": "s3cret"}))
    with pytest.raises(TrainingError) as caught:
        request.read(tmp_path / "request.json")
    assert "s3cret" not in str(caught.value)
