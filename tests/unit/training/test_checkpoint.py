import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.training.batches import Limits
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine
from tests.unit.training.test_engine import engine, rows

WHO = {"data_digest": "d", "seed": 3, "versions": {"torch": "2"}}


def trained(tmp_path: Path, steps: int) -> Engine:
    made = engine(Limits(4, None))
    for step in range(steps):
        made.step(rows(tmp_path), step, 1e-2, lambda: None, pytest.fail)
    return made


def state(made: Engine) -> dict[str, Any]:
    moments = made.optimizer.state
    return {name: [p, *(moments[p][m] for m in sorted(moments[p]))] for name, p in made.parameters.items()}


def same(one: Engine, other: Engine) -> bool:
    a, b = state(one), state(other)
    return all(torch.equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))


def test_what_was_saved_comes_back_bit_by_bit(tmp_path: Path) -> None:
    before = trained(tmp_path, 2)
    before.limits = Limits(2, 99)
    Checkpoints(tmp_path / "c", WHO).save(before, 2)
    after = engine(Limits(4, None))
    assert Checkpoints(tmp_path / "c", WHO).resume(after, pytest.fail) == 2
    assert same(before, after)
    assert after.limits == Limits(2, 99)
    for made in (before, after):
        made.step(rows(tmp_path), 2, 1e-2, lambda: None, pytest.fail)
    assert same(before, after)


def test_before_the_first_step_there_is_a_state_too(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", WHO).save(engine(Limits(4, None)), 0)
    assert Checkpoints(tmp_path / "c", WHO).resume(engine(Limits(4, None)), pytest.fail) == 0


def test_nothing_there_is_step_zero(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "c", WHO).resume(engine(Limits(4, None)), pytest.fail) == 0


def test_two_are_kept(tmp_path: Path) -> None:
    made = trained(tmp_path, 1)
    for step in (1, 2, 3, 12):
        Checkpoints(tmp_path / "c", WHO).save(made, step)
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-00000003", "step-00000012"]


def test_no_pickle_is_written(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", WHO).save(trained(tmp_path, 1), 1)
    names = sorted(path.name for path in (tmp_path / "c" / "step-00000001").iterdir())
    assert names == ["adapter.safetensors", "manifest.json", "optimizer.safetensors"]


@pytest.mark.parametrize("harm", ["cut tensors", "flip a bit", "no manifest", "half a manifest", "no tensors"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str) -> None:
    made = trained(tmp_path, 1)
    for step in (1, 2):
        Checkpoints(tmp_path / "c", WHO).save(made, step)
    newest = tmp_path / "c" / "step-00000002"
    tensors, manifest = newest / "optimizer.safetensors", newest / "manifest.json"
    data = bytearray(tensors.read_bytes())
    if harm == "cut tensors":
        tensors.write_bytes(data[:-8])
    elif harm == "flip a bit":
        data[-1] ^= 1
        tensors.write_bytes(data)
    elif harm == "no manifest":
        manifest.unlink()
    elif harm == "half a manifest":
        manifest.write_text(manifest.read_text()[:40])
    else:
        tensors.unlink()
    warnings: list[str] = []
    assert Checkpoints(tmp_path / "c", WHO).resume(engine(Limits(4, None)), warnings.append) == 1
    assert warnings == ["step-00000002 is damaged and was left aside"]


def test_a_folder_that_was_still_being_written_is_not_looked_at(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", WHO).save(trained(tmp_path, 1), 1)
    shutil.move(tmp_path / "c" / "step-00000001", tmp_path / "c" / ".step-00000001.part")
    assert Checkpoints(tmp_path / "c", WHO).resume(engine(Limits(4, None)), pytest.fail) == 0
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({**WHO, "seed": 4}, "seed"),
        ({**WHO, "data_digest": "e"}, "data_digest"),
        ({**WHO, "versions": {"torch": "3"}}, "versions"),
        ({**WHO, "dtype": "bfloat16"}, "dtype"),
    ],
)
def test_another_runs_checkpoints_are_refused_by_field_and_removed(
    tmp_path: Path, other: dict[str, Any], field: str
) -> None:
    Checkpoints(tmp_path / "c", WHO).save(trained(tmp_path, 1), 1)
    fresh, untouched = engine(Limits(4, None)), engine(Limits(4, None))
    warnings: list[str] = []
    assert Checkpoints(tmp_path / "c", other).resume(fresh, warnings.append) == 0
    assert f"({field} differ" in warnings[0]
    assert same(fresh, untouched)
    assert not (tmp_path / "c").exists()


def test_the_number_of_threads_is_taken_over(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", WHO).save(trained(tmp_path, 1), 1)
    manifest = tmp_path / "c" / "step-00000001" / "manifest.json"
    body = json.loads(manifest.read_text())
    had = torch.get_num_threads()
    assert body["threads"] == had
    manifest.write_text(json.dumps({**body, "threads": had + 1}))
    try:
        Checkpoints(tmp_path / "c", WHO).resume(engine(Limits(4, None)), pytest.fail)
        assert torch.get_num_threads() == had + 1
    finally:
        torch.set_num_threads(had)


def test_who_is_not_the_keeper_reads_and_leaves_the_folder_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    before = trained(tmp_path, 1)
    Checkpoints(folder, WHO).save(before, 1)
    (folder / ".step-00000002.part").mkdir()
    names = sorted(path.name for path in folder.iterdir())
    reader = Checkpoints(folder, WHO, keeper=False)
    after = engine(Limits(4, None))
    assert reader.resume(after, pytest.fail) == 1
    assert same(before, after)
    reader.save(after, 2)
    warnings: list[str] = []
    assert Checkpoints(folder, {**WHO, "processes": 2}, keeper=False).resume(after, warnings.append) == 0
    assert "(processes differ)" in warnings[0]
    assert sorted(path.name for path in folder.iterdir()) == names
