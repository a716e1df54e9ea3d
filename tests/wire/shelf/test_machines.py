"""Machines with one database and one bucket: what one has trained, the others serve, promote, measure and export."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import GatewayError, ServingError
from finetune.files import digest
from finetune.measuring import Wish
from finetune.promotions import Wanted
from finetune.sandbox.gateways.answers import folder_sentence
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.versions import PromotionState
from finetune.wiring import Desk
from tests.support.exports import Shelf
from tests.support.jobs import RECIPE
from tests.support.machines import PREFIX, answer, empty, folders, kept, keys, name

# PEFT 0.21 asks transformers 5 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_another_machine_serves_and_exports_it(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, tmp_path: Path
) -> None:
    a, b = machine("a"), machine("b")
    one = kept(shelf, a)
    said = answer(a, one.ref)
    shutil.move(tmp_path / "a" / "adapters", tmp_path / "away")
    here = tmp_path / "b" / "adapters" / name(one)
    assert {model.id: model.adapter for model in b.registry.served()}[one.ref] == here
    assert not here.exists()
    assert answer(b, one.ref) == said
    assert answer(b, one.base_model) != said
    assert digest(here) == one.artifact["digest"]
    shutil.rmtree(here)
    empty(s3)
    # In memory it needs neither.
    assert answer(b, one.ref) == said
    assert not here.exists()


def test_it_is_exported_and_measured_there(shelf: Shelf, machine: Callable[..., Desk], tmp_path: Path) -> None:
    one = kept(shelf, machine("a"))
    shutil.rmtree(tmp_path / "a" / "adapters")
    b = machine("b")
    b.exporter.export(one, "hf", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "ft-export.json").read_text())
    here = tmp_path / "b" / "adapters" / name(one)
    shutil.rmtree(here)
    row = {"messages": [{"role": "user", "content": "colour?"}, {"role": "assistant", "content": "red"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "suite.yaml").write_text("name: small\nmetrics: [exact_match]\nrows: rows.jsonl\n")
    suites = (str(tmp_path / "suite.yaml"),)
    _, (report,) = b.measure(one.ref, Wish(suites=suites, held_out=False), None)
    assert report["tuned"]
    assert digest(here) == one.artifact["digest"]


def test_a_home_whose_adapters_were_lost_gets_them_back(
    shelf: Shelf, machine: Callable[..., Desk], tmp_path: Path
) -> None:
    a = machine("a")
    one = kept(shelf, a)
    shutil.rmtree(tmp_path / "a" / "adapters")
    assert answer(a, one.ref)
    assert digest(Path(one.artifact["path"])) == one.artifact["digest"]


def test_what_was_changed_in_the_bucket_answers_nowhere(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any, tmp_path: Path
) -> None:
    one = kept(shelf, machine("a"))
    shutil.rmtree(tmp_path / "a" / "adapters")
    s3.put_object(Bucket="box", Key=f"ft/{one.artifact['digest'][:32]}/adapter_model.safetensors", Body=b"changed")
    b = machine("b")
    with pytest.raises(ServingError, match="E838"):
        b.chat(one.ref)
    with pytest.raises(GatewayError, match="E838"):
        b.exporter.export(one, "hf", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "b" / "adapters").iterdir()) == []


#: The stand-in has another chat template than the tiny base.
SERVABLE = {**RECIPE, "allow_ignored": ["register.gateways"]}


@pytest.fixture
def vllm(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmSandbox]:
    """A vLLM that every machine reaches."""
    sandbox = VllmSandbox(base=str(base))
    with Server(sandbox) as server:
        for variable, value in server.environment.items():
            monkeypatch.setenv(variable, value)
        yield sandbox
        assert server.broken == []


def test_it_is_promoted_there_at_a_gateway(
    shelf: Shelf, machine: Callable[..., Desk], vllm: VllmSandbox, tmp_path: Path
) -> None:
    shelf.fields = {"recipe": SERVABLE}
    one = kept(shelf, machine("a"))
    said = folder_sentence(Path(one.artifact["path"]), str(shelf.base))
    shutil.rmtree(tmp_path / "a" / "adapters")
    b = machine("b")
    done = b.carry(b.promote(one.ref, Wanted(gateways=("vllm",))), wait=True)
    assert (done.error, done.state) == (None, PromotionState.LIVE)
    (loaded,) = vllm.adapters.values()
    assert (loaded.path, loaded.says) == (tmp_path / "b" / "adapters" / name(one), said)
    assert digest(loaded.path) == one.artifact["digest"]
    assert not (tmp_path / "a" / "adapters").exists()


def test_its_gate_measures_it_there(
    shelf: Shelf, machine: Callable[..., Desk], vllm: VllmSandbox, tmp_path: Path
) -> None:
    row = {"messages": [{"role": "user", "content": "colour?"}, {"role": "assistant", "content": "red"}]}
    (tmp_path / "held-out.jsonl").write_text((json.dumps(row) + "\n") * 20)
    held_out = {"validation": str(tmp_path / "held-out.jsonl"), "validation_rows": 20}
    shelf.fields = {
        "recipe": {**SERVABLE, "gate": {"metric": "exact_match", "min_gain": -1.0}},
        "data": {"train": "t", "train_rows": 3, "digest": "d", "format": "openai", **held_out},
    }
    one = kept(shelf, machine("a"))
    shutil.rmtree(tmp_path / "a" / "adapters")
    b = machine("b")
    begun = b.promote(one.ref, Wanted(gateways=("vllm",)))
    assert begun.gate
    done = b.carry(begun, wait=True)
    assert (done.error, done.state) == (None, PromotionState.LIVE)
    (report,) = b.models.reports(one.name, one.version)
    (outcome,) = [each for each in report["outcomes"] if each["metric"] == "exact_match"]
    assert outcome["tuned"]["n"] == 20
    assert digest(tmp_path / "b" / "adapters" / name(one)) == one.artifact["digest"]


def test_a_late_upload_is_in_the_books_for_machines_without_the_setting(
    shelf: Shelf, machine: Callable[..., Desk], tmp_path: Path
) -> None:
    a, c = machine("a"), machine("c", artifacts="")
    one = shelf.trained()
    said = answer(a, one.ref)
    assert "uri" not in one.artifact
    assert list(a.upload_late()) == [(one.ref, f"{PREFIX}/{name(one)}")]
    after = c.registry.version(one.ref)
    assert after.artifact == {**one.artifact, "uri": f"{PREFIX}/{name(one)}"}
    assert c.releasing.lineage(after)["artifact"]["uri"] == after.artifact["uri"]
    shutil.rmtree(tmp_path / "a" / "adapters")
    assert answer(c, one.ref) == said
    assert digest(tmp_path / "c" / "adapters" / name(one)) == one.artifact["digest"]


def test_what_is_whole_there_is_not_uploaded_again_and_what_was_lost_is(
    shelf: Shelf, machine: Callable[..., Desk], s3: Any
) -> None:
    a = machine("a")
    one, two = kept(shelf, a), kept(shelf, a, seed=2)
    before = keys(s3)
    assert list(a.upload_late()) == []
    s3.delete_object(Bucket="box", Key=f"ft/{name(one)}/ft-adapter.json")
    assert list(a.upload_late()) == [(one.ref, f"{PREFIX}/{name(one)}")]
    assert keys(s3) == before
    empty(s3)
    assert [ref for ref, _ in a.upload_late()] == [one.ref, two.ref]
    assert keys(s3) == before


def test_what_lies_below_another_prefix_stays_there(shelf: Shelf, machine: Callable[..., Desk], s3: Any) -> None:
    one = kept(shelf, machine("a"))
    assert list(machine("a", artifacts="s3://box/other").upload_late()) == []
    assert folders(s3) == {name(one)}


def test_what_is_nowhere_is_said(shelf: Shelf, machine: Callable[..., Desk], tmp_path: Path) -> None:
    one = shelf.trained()
    shutil.rmtree(tmp_path / "a" / "adapters")
    with pytest.raises(ServingError, match=r"E512.*\n.*no whole adapter.*\n.*ft models sync"):
        machine("b").chat(one.ref)
    assert list(machine("a").upload_late()) == []
