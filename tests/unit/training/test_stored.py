"""Tokenizers are found where the trainer would find them, without torch and the network, and kept for the next time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.data.example import Chat, Message, canonical
from finetune.data.tokens import Count, NotHere
from finetune.names import BUILTINS
from finetune.training import builtin
from finetune.training.examples import ChatEncoder
from finetune.training.tokens import LocalTokens
from tests.support import tiny

CHAT = Chat([Message("system", "be kind"), Message("user", "hi ☃?"), Message("assistant", "yo, é!")])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"))


def test_a_folder_is_loaded_once_and_then_read_from_the_cache(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = len(ChatEncoder(tiny.tokenizer()).encode(json.loads(canonical(CHAT))).ids)
    first = LocalTokens.open(str(base), cache=tmp_path / "cache")
    assert first.name == f"the tokenizer of {base}"
    # From here on nothing can be started.
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    again = LocalTokens.open(str(base), cache=tmp_path / "cache")
    for counter in (first, again):
        (count,) = counter.count([CHAT])
        assert isinstance(count, Count)
        assert count.total == (expected, expected)
    with pytest.raises(NotHere, match="cannot be loaded"):
        LocalTokens.open(str(base), cache=tmp_path / "other")


def test_other_files_are_loaded_anew_and_take_the_place_of_the_old_ones(base: Path, tmp_path: Path) -> None:
    folder, cache = tmp_path / "base", tmp_path / "cache"
    shutil.copytree(base, folder)
    (before,) = LocalTokens.open(str(folder), cache=cache).count([CHAT])
    (folder / "chat_template.jinja").write_text(tiny.MARKED.replace("<|im_start|>", "<|im_start|>" * 2))
    (after,) = LocalTokens.open(str(folder), cache=cache).count([CHAT])
    assert isinstance(before, Count)
    assert isinstance(after, Count)
    assert after.total.low == before.total.low + len(CHAT.messages)
    assert len(list(cache.iterdir())) == 1
    # What a power cut leaves is no tokenizer.
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert LocalTokens.open(str(folder), cache=cache).count([CHAT]) == [after]


def test_a_cache_that_takes_nothing_does_no_harm(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert LocalTokens.open(str(base), cache=tmp_path / "file" / "cache").count([CHAT])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "cannot be loaded"),
    ],
    ids=["template", "broken", "missing"],
)
def test_a_tokenizer_that_cannot_be_used_is_not_here(
    harm: Callable[[Path], None], says: str, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base, tmp_path / "base")
    harm(tmp_path / "base")
    with pytest.raises(NotHere, match=says):
        LocalTokens.open(str(tmp_path / "base"), cache=tmp_path)


def test_code_of_a_model_is_not_run_to_count(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["own.T", "own.T"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(NotHere, match="Python code"):
        LocalTokens.open(str(folder), cache=tmp_path, trust_remote_code=True)
    # Without trust the trainer uses the library's own class, and so does this.
    assert LocalTokens.open(str(folder), cache=tmp_path).count([CHAT])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/no/such", "no folder"),
        ("./none", "no folder"),
        ("a/b/c", "no folder"),
        ("nobody/nothing", "not on this machine"),
        ("no body/?", "no name that the model hub"),
        ("builtin:tiny-llama", "not built yet"),
        ("builtin:other", "not built yet"),
    ],
)
def test_a_base_model_that_is_not_on_this_machine(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(NotHere, match=says) as caught:
        LocalTokens.open(name, cache=tmp_path)
    assert caught.value.fix


def test_a_built_in_base_is_the_one_that_the_trainer_would_take(base: Path, tmp_path: Path) -> None:
    for name in BUILTINS:
        # Of another version of a library: its bytes may be others.
        (tmp_path / f"{name}-000000000000").mkdir()
        (tmp_path / f"{name}-ffffffffffff").mkdir()
        shutil.copytree(base, tmp_path / f"{name}-{builtin.fingerprint(builtin.Recipe())}")
        assert builtin.ensure(name, tmp_path, lambda line: pytest.fail(line)).is_dir()
        assert LocalTokens.open(f"builtin:{name}", cache=tmp_path).count([CHAT])


PROGRAM = """
import sys
from pathlib import Path
from finetune.data.example import Chat, Message
from finetune.training.tokens import LocalTokens
counter = LocalTokens.open(sys.argv[1], cache=Path(sys.argv[2]), revision=sys.argv[3] or None)
chat = Chat([Message("user", "hi"), Message("assistant", "yo")])
print(counter.count([chat])[0].total.low, counter.learned([chat])[0].low, len(counter.segments(chat)))
print([name for name in ("torch", "numpy.random") if name in sys.modules])
"""


def run(name: str, cache: Path, revision: str, hub: Path) -> str:
    env = {**os.environ, "HF_HUB_CACHE": str(hub)}
    argv = [sys.executable, "-c", PROGRAM, name, str(cache), revision]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    return done.stdout or done.stderr


def test_the_cache_of_the_hub_is_looked_at_and_torch_is_not_loaded(base: Path, tmp_path: Path) -> None:
    row = ChatEncoder(tiny.tokenizer()).encode(
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
    )
    expected = f"{len(row.ids)} {row.supervised} 3\n[]\n"
    assert run(str(base), tmp_path / "cache", "", tmp_path / "hub") == expected
    model, commit = tmp_path / "hub" / "models--some--model", "0123456789abcdef0123456789abcdef01234567"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    shutil.copytree(base, model / "snapshots" / commit, ignore=shutil.ignore_patterns("*.safetensors"))
    for revision in ("", commit):
        assert run("some/model", tmp_path / "cache", revision, tmp_path / "hub") == expected
    assert "not on this machine" in run("some/model", tmp_path / "cache", "0" * 40, tmp_path / "hub")
