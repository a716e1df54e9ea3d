import subprocess
import sys
from pathlib import Path

import pytest

from finetune.errors import TrainingError
from finetune.training import disk


def test_a_published_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    disk.publish(tmp_path / "a", lambda folder: disk.write_json(folder / "old.json", 1))
    disk.publish(tmp_path / "a", lambda folder: disk.write_json(folder / "new.json", 2))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_that_dies_leaves_the_old_folder_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    disk.publish(tmp_path / "a", lambda folder: disk.write_json(folder / "f", 1))
    code = (
        "import os, signal; from pathlib import Path; from finetune.training import disk\n"
        f"disk.publish(Path({str(tmp_path / 'a')!r}),"
        " lambda f: ((f / 'half').write_text('x'), os.kill(os.getpid(), signal.SIGKILL)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["f"]
    disk.publish(tmp_path / "a", lambda folder: disk.write_json(folder / "g", 1))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        (folder / "x").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match=r"(?s)E622.*No space left.*make room"):
        disk.publish(tmp_path / "a", full)
    assert list(tmp_path.iterdir()) == []


def test_the_digest_sees_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    for folder, names, contents in (("a", "xy", "12"), ("b", "xy", "12"), ("c", "xy", "13"), ("d", "xz", "12")):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, contents, strict=True):
            (tmp_path / folder / name).write_text(content)
    (tmp_path / "b" / "lineage.json").write_text("other")
    a, b, c = (disk.digest(tmp_path / folder, ("x", "y")) for folder in "abc")
    assert a == b == disk.digest(tmp_path / "a", ("y", "x"))
    assert len({a, c, disk.digest(tmp_path / "d", ("x", "z"))}) == 3


def test_one_trainer_in_a_folder(tmp_path: Path) -> None:
    with disk.sole_owner(tmp_path):
        with pytest.raises(disk.FolderBusy) as caught, disk.sole_owner(tmp_path):
            pass
        assert caught.value.retry
    with disk.sole_owner(tmp_path):
        pass
