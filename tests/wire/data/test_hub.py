"""Data sets of the hub, against a stand-in. In processes of their own: the libraries read the environment at import."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.hub import SHA, Hub
from tests.support.servers import free_port

ROWS = [{"messages": [{"role": "user", "content": f"é {n}"}], "n": n} for n in range(600)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()

_CHILD = """
import json, sys
from pathlib import Path
from tests.support.sources import read

for spec in sys.argv[1:]:
    got = read(spec, Path(), fetch=True, target_bytes=10_000)
    problems = [[each.code, each.level, each.line, "\\n".join(each.lines())] for each in got.problems]
    places = [[place.file, place.kind, place.size, place.source.split, place.source.revision] for place in got.places]
    print(json.dumps([got.rows, got.numbers, len(got.blocks), places, problems]))
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


REPOSITORIES = {
    "own/lines": {"data.jsonl": LINES},
    "own/parquet": {
        "data/train-00000-of-00002.parquet": parquet(ROWS[:400]),
        "data/train-00001-of-00002.parquet": parquet(ROWS[400:]),
    },
    "own/splits": {"train.jsonl": LINES, "test.jsonl": LINES[:100_000].rpartition(b"\n")[0] + b"\n"},
    "own/configs": {
        "README.md": b"---\nconfigs:\n- {config_name: small, data_files: a.jsonl}\n"
        b"- {config_name: large, data_files: b.jsonl}\n---\n",
        "a.jsonl": b'{"a": 1}\n',
        "b.jsonl": LINES,
    },
    "own/mixed": {"train.jsonl": b'{"a": 1, "t": [{"x": {"y": 1}}]}\n{"a": "two", "t": [{"x": {"z": [1]}}]}\n'},
    "own/broken": {"train.jsonl": b'{"a": 1}\n{"a": \n'},
    "own/binary": {"train.parquet": parquet([{"a": b"x"}])},
    "own/empty": {"README.md": b"# nothing\n"},
    "own/gated": {"data.jsonl": LINES},
    "own/script": {"script.py": b"print()\n", "README.md": b"# script\n"},
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub(REPOSITORIES) as server:
        server.gated.add("own/gated")
        yield server


def ask(folder: Path, url: str, *specs: str, **env: str) -> list[Any]:
    """What `read` gives for each spec: rows, numbers, count of blocks, places, problems."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, *specs],
        env=clean | {"HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_rows(hub: Hub, tmp_path: Path) -> None:
    specs = (
        "hf:own/lines",
        "hf:own/parquet?split=train",
        f"hf:own/splits?split=test&revision={SHA}",
        "hf:own/configs?config=small",
    )

    lines, columns, split, config = ask(tmp_path, hub.url, *specs)

    assert lines[0] == columns[0] == ROWS
    assert lines[1] == list(range(1, 601))
    assert lines[2] > 2
    assert lines[3] == [["hf:own/lines", "hf", None, "train", SHA]]
    assert split[0] == ROWS[: len(split[0])]
    assert split[3][0][3] == "test"
    assert config[0] == [{"a": 1}]
    assert [each[4] for each in (lines, columns, split, config)] == [[]] * 4
    assert not (tmp_path / "hf" / "datasets").exists() or not any((tmp_path / "hf" / "datasets").iterdir())


def test_values_of_several_types_stay_what_they_are(hub: Hub, tmp_path: Path) -> None:
    ((rows, *_, problems),) = ask(tmp_path, hub.url, "hf:own/mixed")

    assert rows == [{"a": 1, "t": [{"x": {"y": 1}}]}, {"a": "two", "t": [{"x": {"z": [1]}}]}]
    assert problems == []


FAULTS = {
    "hf:own/splits": ("E235", "There are: train, test"),
    "hf:own/splits?split=dev": ("E235", "has no split `dev`"),
    "hf:own/configs": ("E235", "There are: small, large"),
    "hf:own/configs?config=medium": ("E235", "There are: small, large"),
    "hf:own/nowhere": ("E201", "is not there"),
    "hf:own/lines?revision=v2": ("E201", "revision"),
    "hf:own/gated": ("E233", "accept"),
    "hf:own/empty": ("E229", "no data files"),
    "hf:own/script": ("E233", "program"),
    "hf:own/broken": ("E223", "cannot read the rows"),
    "hf:own/binary": ("E228", "binary"),
}


def test_faults(hub: Hub, tmp_path: Path) -> None:
    for (spec, (code, said)), answer in zip(FAULTS.items(), ask(tmp_path, hub.url, *FAULTS), strict=True):
        ((found, level, _, text),) = answer[4]
        assert (spec, found, level) == (spec, code, "error")
        assert said in text


def test_a_hub_that_refuses(tmp_path: Path) -> None:
    refused = {
        "own/lines": (401, "E233"),
        "own/parquet": (403, "E233"),
        "own/mixed": (500, "E232"),
        "own/splits": (429, "E232"),
    }
    with Hub(REPOSITORIES) as hub:
        hub.failing.update({name: status for name, (status, _) in refused.items()})

        answers = ask(tmp_path, hub.url, *(f"hf:{name}" for name in refused))

    for (name, (_, code)), (_, _, _, places, problems) in zip(refused.items(), answers, strict=True):
        assert (name, places, [each[0] for each in problems]) == (name, [], [code])


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    files = {
        "own/lines": ("data.jsonl", 403, "E233"),
        "own/mixed": ("train.jsonl", 404, "E201"),
        "own/broken": ("train.jsonl", 500, "E232"),
    }
    with Hub(REPOSITORIES) as hub:
        for repo, (name, status, _) in files.items():
            hub.failing[f"GET /datasets/{repo}/resolve/{SHA}/{name}"] = status

        answers = ask(tmp_path, hub.url, *(f"hf:{repo}" for repo in files))

    for (repo, (_, _, code)), (rows, _, _, _, problems) in zip(files.items(), answers, strict=True):
        assert (repo, rows, [each[0] for each in problems]) == (repo, [], [code])


def test_nobody_listens(tmp_path: Path) -> None:
    ((_, _, _, _, problems),) = ask(tmp_path, f"http://127.0.0.1:{free_port()}", "hf:own/lines")

    assert [each[0] for each in problems] == ["E232"]


def test_the_user_wants_no_network(hub: Hub, tmp_path: Path) -> None:
    ((_, _, _, _, problems),) = ask(tmp_path, hub.url, "hf:own/lines", HF_HUB_OFFLINE="1")

    assert [each[0] for each in problems] == ["E232"]
    assert "HF_HUB_OFFLINE" in problems[0][3]


def test_a_folder_of_the_same_name_is_not_taken_for_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own/lines").mkdir(parents=True)
    (tmp_path / "own/lines/data.jsonl").write_text('{"a": "from here"}\n')
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)

    assert ask(tmp_path, hub.url, "hf:own/lines")[0][0] == ROWS
