import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from finetune import files
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


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        # As tokenizers raises it.
        Exception("No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_and_tried_again_and_leaves_nothing_behind(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(disk.DiskFull, match=r"(?s)E622.*(No space left|quota exceeded).*make room") as caught:
        disk.publish(tmp_path / "a", fails(error))
    assert caught.value.retry
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), SafetensorError("I/O error: Permission denied (os error 13)")]
)
def test_a_disk_that_refuses_is_told_and_not_tried_again(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(TrainingError, match=r"(?s)E622.*Permission denied.*fix the permissions") as caught:
        disk.publish(tmp_path / "a", fails(error))
    assert not caught.value.retry


def test_what_is_not_the_disks_fault_stays_what_it_is(tmp_path: Path) -> None:
    error = SafetensorError("dtype int3 is not covered")
    with pytest.raises(SafetensorError) as caught:
        disk.publish(tmp_path / "a", fails(error))
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_safetensors_still_fails_in_the_words_that_we_read(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, numpy; from pathlib import Path; from safetensors.numpy import save_file\n"
        "from finetune.errors import TrainingError; from finetune.training import disk\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: disk.publish(Path(sys.argv[1]), lambda f: save_file({'a': numpy.zeros(9999)}, f / 'a.safetensors'))\n"
        "except TrainingError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert "E622: the trainer cannot write: File too large" in said
    assert list(tmp_path.iterdir()) == []


def fails(error: Exception) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "x").write_text("x")
        raise error

    return write


def test_the_digest_sees_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    for folder, names, contents in (("a", "xy", "12"), ("b", "xy", "12"), ("c", "xy", "13"), ("d", "xz", "12")):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, contents, strict=True):
            (tmp_path / folder / name).write_text(content)
    (tmp_path / "b" / "lineage.json").write_text("other")
    a, b, c = (files.digest(tmp_path / folder, ("x", "y")) for folder in "abc")
    assert a == b == files.digest(tmp_path / "a", ("y", "x"))
    assert len({a, c, files.digest(tmp_path / "d", ("x", "z"))}) == 3


def test_one_trainer_in_a_folder(tmp_path: Path) -> None:
    with disk.sole_owner(tmp_path):
        with pytest.raises(disk.FolderBusy) as caught, disk.sole_owner(tmp_path):
            pass
        assert caught.value.retry
    with disk.sole_owner(tmp_path):
        pass
