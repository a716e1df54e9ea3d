"""Versions taken elsewhere: what was written is loaded by the libraries that others load it with."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune.clock import SystemClock
from finetune.errors import FtError, GatewayError, NotFound, StateError, TrainingError, UsageError
from finetune.exports.merging import Merger
from finetune.training import bases, merge
from finetune.wiring import Desk
from tests.support import tiny
from tests.support.exports import Shelf, write_adapter

# PEFT 0.21 asks transformers 5 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ASKED = ("and what is two plus three, please?", "colour?", "a longer question about nothing much at all")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.save_base(tmp_path / "bases of mine" / "tiny-base")


@pytest.fixture
def shelf(base: Path) -> Iterator[Shelf]:
    made = Shelf(Path(os.environ["FT_HOME"]), base)
    yield made
    made.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    said: list[str] = []
    made = Desk(say=said.append)
    yield made
    made.close()


def revision(base: Path) -> str:
    return bases.load(str(base), cache=base, precision="fp32", report=lambda line: None).revision


def greedy(model: Any, tokenizer: Any, question: str) -> list[int]:
    chat = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**ids, do_sample=False, max_new_tokens=20, pad_token_id=0)
    return made[0, ids["input_ids"].shape[1] :].tolist()


def answers(model: Any, tokenizer: Any) -> list[list[int]]:
    return [greedy(model.eval(), tokenizer, question) for question in ASKED]


def tuned_answers(base: Path, adapter: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Of the base alone, and with the adapter on it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    plain = answers(model, tokenizer)
    return plain, answers(PeftModel.from_pretrained(model, adapter), tokenizer)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fault(call: Any) -> tuple[type[FtError], str]:
    with pytest.raises(FtError) as caught:
        call()
    assert all(problem.fix for problem in caught.value.problems)
    return type(caught.value), caught.value.problems[0].code


def must_tell_nothing(folder: Path, tmp_path: Path) -> None:
    """No path of this machine, and the sums are right."""
    found = everything(folder)
    assert [name for name, content in found.items() if str(tmp_path).encode() in content] == []
    assert [name for name, content in found.items() if b"bases of mine" in content] == []
    manifest = json.loads(found.pop("ft-export.json"))
    assert manifest["files"] == {name: sha256(content).hexdigest() for name, content in found.items()}


def test_a_merged_model_answers_as_the_adapter_does(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained(base_revision=revision(shelf.base))
    made = desk.exporter.export(one, "merged", str(tmp_path / "out"))
    plain, wanted = tuned_answers(shelf.base, Path(one.artifact["path"]))
    assert plain != wanted
    out = tmp_path / "out"
    assert answers(AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)) == wanted
    must_tell_nothing(out, tmp_path)
    assert made.files == tuple(sorted(everything(out)))
    assert made.bytes == sum(map(len, everything(out).values()))
    assert made.notes == ()
    card = (out / "README.md").read_text()
    assert "3 of 3 greedy answers equal the adapter's token for token" in card
    assert "library_name: transformers" in card
    assert not list((shelf.home / "exports").iterdir())


def test_peft_loads_the_adapter(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    template = tiny.tokenizer().chat_template
    one = shelf.trained(chat_template_digest=sha256(template.encode()).hexdigest())
    report = {
        "suite": f"{tmp_path}/manners.yaml",
        "other": "base",
        "outcomes": [
            {
                "metric": "exact_match",
                "tuned": {"value": 0.62, "n": 50},
                "other": {"value": 0.41, "n": 50},
                "gain": {"value": 0.21, "low": 0.1, "high": 0.3},
            }
        ],
    }
    shelf.models.add_report("bot", 1, report, shelf.world.clock.now())
    made = desk.exporter.export(one, "hf", str(tmp_path / "out"))
    out = tmp_path / "out"
    _, wanted = tuned_answers(shelf.base, Path(one.artifact["path"]))
    assert tuned_answers(shelf.base, out)[1] == wanted
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-base"
    assert (out / "chat_template.jinja").read_text() == template
    must_tell_nothing(out, tmp_path)
    card = (out / "README.md").read_text()
    assert "| manners.yaml | exact_match | 0.620 | 0.410 | +0.210 [+0.100, +0.300] | 50 |" in card
    assert "license: unknown" in card
    assert f"`{one.artifact['digest']}`" in card
    assert "tiny-base" in made.notes[0]


def test_another_template_than_it_was_trained_with_is_left_out(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    made = desk.exporter.export(shelf.trained(chat_template_digest="0" * 64), "hf", str(tmp_path / "out"))
    assert "chat_template.jinja" not in made.files
    assert "another one now" in made.notes[-1]


def test_the_same_version_makes_the_same_files(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained()
    for name in ("a", "b"):
        desk.exporter.export(one, "hf", str(tmp_path / name))
    assert everything(tmp_path / "a") == everything(tmp_path / "b")


def test_mlflows_layout(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained()
    desk.exporter.export(one, "mlflow", str(tmp_path / "out"))
    out = tmp_path / "out"
    said = yaml.safe_load((out / "MLmodel").read_text())
    flavor, loader = said["flavors"]["transformers"], said["flavors"]["python_function"]
    model = AutoModelForCausalLM.from_pretrained(out / flavor["model_binary"])
    tokenizer = AutoTokenizer.from_pretrained(out / "components" / flavor["components"][0])
    assert type(model).__name__ == flavor["pipeline_model_type"]
    assert type(tokenizer).__name__ == flavor["tokenizer_type"]
    assert str(model.dtype) == flavor["torch_dtype"]
    assert answers(model, tokenizer) == tuned_answers(shelf.base, Path(one.artifact["path"]))[1]
    assert all((out / name).is_file() for name in loader["env"].values())
    assert next(each["name"] for each in json.loads(said["signature"]["inputs"])) == "messages"
    assert f"torch=={torch.__version__.partition('+')[0]}" in (out / "requirements.txt").read_text().splitlines()
    must_tell_nothing(out, tmp_path)


def test_it_is_written_in_the_bases_own_precision(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    tiny.model().to(torch.bfloat16).save_pretrained(shelf.base)
    desk.exporter.export(shelf.trained(), "merged", str(tmp_path / "out"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype is torch.bfloat16
    assert "written as bfloat16" in (tmp_path / "out" / "README.md").read_text()


def test_changed_files_do_not_leave(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained()
    weights = Path(one.artifact["path"]) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    for kind in ("hf", "merged", "mlflow"):
        said = fault(lambda kind=kind: desk.exporter.export(one, kind, str(tmp_path / "out")))
        assert said == (GatewayError, "E838")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one, out = shelf.trained(), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    assert fault(lambda: desk.exporter.export(one, "hf", str(out))) == (UsageError, "E846")
    assert everything(out) == {"mine": b"mine"}


def test_another_base_than_it_was_trained_on_is_refused(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained(base_revision=revision(shelf.base))
    tiny.model(seed=5).save_pretrained(shelf.base)
    out = tmp_path / "places" / "out"
    assert fault(lambda: desk.exporter.export(one, "merged", str(out))) == (TrainingError, "E847")
    assert list(out.parent.iterdir()) == []


def test_a_base_that_is_gone_is_told_as_ever(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    one = shelf.trained()
    shelf.base.rename(tmp_path / "moved")
    assert fault(lambda: desk.exporter.export(one, "merged", str(tmp_path / "out"))) == (TrainingError, "E603")


def test_weights_that_are_not_merged_are_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", base)
    asked = merge.Asked(
        base_model=str(base),
        base_revision=None,
        adapter=str(tmp_path / "adapter"),
        cache=str(tmp_path),
        weights=str(base),
        tokenizer=str(base),
    )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    prompts = merge._prompts(tokenizer)
    plain = [merge._answered(model.eval(), prompt) for prompt in prompts]
    assert merge._held_against(asked, prompts, plain, 1e-3)["equal"] == 3
    tuned = PeftModel.from_pretrained(model, asked.adapter).eval()
    wanted = [merge._answered(tuned, prompt) for prompt in prompts]
    for limit in merge._ROUNDING.values():
        said = fault(lambda limit=limit: merge._held_against(asked, prompts, wanted, limit))
        assert said == (TrainingError, "E847")


def test_a_merge_that_is_killed_is_told(tmp_path: Path) -> None:
    killed = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"]
    merger = Merger(folder=tmp_path / "m", log=tmp_path / "log", command=lambda folder: killed, clock=SystemClock())
    with pytest.raises(TrainingError) as caught:
        merger.merge({}, lambda line: None)
    assert caught.value.problems[0].code == "E849"
    assert "killed by signal 9" in caught.value.problems[0].what
    assert list((tmp_path / "m").iterdir()) == []


def test_hosted_versions_have_nothing_to_export(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    job = shelf.world.submit("ft_h", artifact={"model": "ft:gpt"})
    hosted = shelf.models.add_model(job, shelf.world.clock.now())
    assert fault(lambda: desk.exporter.export(hosted, "hf", str(tmp_path / "out"))) == (NotFound, "E845")


def test_a_place_that_takes_nothing_is_named(shelf: Shelf, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = fault(lambda: desk.exporter.export(shelf.trained(), "hf", str(tmp_path / "file" / "out")))
    assert said == (StateError, "E848")
