import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from finetune.errors import TrainingError
from finetune.training import bases
from tests.support import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


def load(name: str | Path, **changes: Any) -> bases.Loaded:
    return bases.load(str(name), cache=Path("/nowhere"), report=lambda _: None, **changes)


def test_a_folder_is_loaded_with_its_tokenizer(base: Path) -> None:
    said: list[str] = []
    loaded = bases.load(str(base), cache=Path("/nowhere"), report=said.append)
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert loaded.tokenizer.get_chat_template() == tiny.MARKED
    assert said == [f"loading {base}"]
    assert load(base, precision="bf16").model.dtype == torch.bfloat16


def test_the_revision_of_a_folder_is_of_its_weights_and_config(base: Path, tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("same", "weights", "config")]
    for copy in copies:
        tiny.save_base(copy)
    tiny.model(seed=1).save_pretrained(copies[1])
    config = copies[2] / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    revisions = [load(path).revision for path in (base, *copies)]
    assert revisions[0].startswith("sha256:")
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3


def test_templates_have_digests(base: Path, tmp_path: Path) -> None:
    other = tiny.save_base(tmp_path / "other", tiny.UNMARKED)
    assert load(base).template_digest == load(base).template_digest != load(other).template_digest


def test_a_built_in_base_is_made_in_the_cache(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builtin = ModuleType("finetune.training.builtin")
    asked: list[object] = []

    def ensure(name: str, cache: Path, report: Any) -> Path:
        asked.append((name, cache))
        return base

    builtin.__dict__.update(BUILTINS={"tiny-llama"}, ensure=ensure)
    monkeypatch.setitem(sys.modules, "finetune.training.builtin", builtin)
    monkeypatch.setattr("finetune.training.builtin", builtin, raising=False)
    assert bases.resolve("builtin:tiny-llama", tmp_path, lambda _: None) == base
    assert asked == [("tiny-llama", tmp_path)]
    builtin.__dict__["ensure"] = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with pytest.raises(TrainingError, match=r"E622.*No space"):
        bases.resolve("builtin:tiny-llama", tmp_path, lambda _: None)
    builtin.__dict__["ensure"] = lambda *_: (_ for _ in ()).throw(SafetensorError("I/O error (os error 28)"))
    with pytest.raises(TrainingError, match=r"E622.*No space") as caught:
        bases.resolve("builtin:tiny-llama", tmp_path, lambda _: None)
    assert caught.value.retry
    builtin.__dict__["ensure"] = lambda *_: (_ for _ in ()).throw(LookupError("a fault"))
    with pytest.raises(LookupError):
        bases.resolve("builtin:tiny-llama", tmp_path, lambda _: None)
    with pytest.raises(TrainingError, match=r"(?s)E602.*builtin:tiny-llama"):
        bases.resolve("builtin:huge", tmp_path, lambda _: None)


def test_a_home_folder_is_found(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base.parent))
    assert bases.resolve(f"~/{base.name}", base, lambda _: None) == base


@pytest.mark.parametrize("name", ["/no/such", "./none", "~/none-of-it", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_id(name: str) -> None:
    with pytest.raises(TrainingError, match=r"E603.*no such folder"):
        load(name)


def test_an_id_that_is_nowhere_says_what_to_do() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(bases.BaseUnavailable, match=r"(?s)E606.*hub cannot be reached.*folder.*hf download") as caught:
        load("nobody/nothing-at-all")
    assert caught.value.retry


def only(base: Path, tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes((base / name).read_bytes())
    return tmp_path


def test_a_folder_without_a_config_is_no_model(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"E603.*no config\.json"):
        load(only(base, tmp_path, "model.safetensors"))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"(?s)E603.*an adapter, not a base"):
        load(tmp_path)


def test_a_folder_without_weights_is_no_model(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"E603.*no weights"):
        load(only(base, tmp_path, "config.json"))


def test_pickled_weights_are_not_loaded(base: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(TrainingError, match=r"(?s)E604.*pickle.*save_pretrained"):
        load(only(base, tmp_path, "config.json"))


def test_without_a_chat_template_there_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)E605.*instruct"):
        load(tiny.save_base(tmp_path, None))


def test_code_that_comes_with_a_model_is_not_run(base: Path, tmp_path: Path) -> None:
    folder = tiny.save_base(tmp_path)
    config = folder / "config.json"
    config.write_text(
        config.read_text().replace(
            '"model_type": "llama"',
            '"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}',
        )
    )
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(TrainingError, match=r"(?s)E607.*trust_remote_code: true"):
        load(folder)


@pytest.mark.parametrize("harm", ["kind", "weights"])
def test_a_model_that_cannot_be_loaded_says_so(tmp_path: Path, harm: str) -> None:
    folder = tiny.save_base(tmp_path)
    if harm == "kind":
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "martian"'))
    else:
        (folder / "model.safetensors").write_bytes(b"not at all")
    with pytest.raises(TrainingError, match="E608"):
        load(folder)
