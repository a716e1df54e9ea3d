"""The tokenizer that the trainer would load for a base model, found on this machine and kept so that it loads fast.

What a tokenizer is, `transformers` decides: it may build another than the one in tokenizer.json. It does so here too,
once for each state of the files and libraries, in a process of its own that has no torch (a second and 200 MB less)
and no network. What comes out is kept in the cache: the backend as JSON, the templates, the special tokens.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from finetune.data.tokens import NotHere
from finetune.names import BUILTIN, BUILTINS, folder_of
from finetune.process import importing

#: Another number when what is kept changes its form.
_FORM: Final = 1
_TIMEOUT_S: Final = 120
#: What `transformers` reads of a folder to make a tokenizer.
_READ: Final = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "additional_chat_templates/*.jinja")
_EXTRA: Final = "pip install 'ft-orchestrator[local]'"
#: What is looked for in the hub's cache, and what is downloaded to have it.
_TOKENIZER: Final = ("tokenizer", "--include '*token*' '*.json' '*.jinja'")
_CONFIG: Final = ("config.json", "config.json, or `ft estimate --fetch`")


class Stored(msgspec.Struct, frozen=True, tag=True):
    """A tokenizer without its library."""

    #: JSON for `tokenizers.Tokenizer.from_buffer`.
    tokenizer: bytes
    #: The chat template for rows without tools, and for those with some.
    template: str
    tools_template: str
    special_tokens: dict[str, str]
    #: True if special tokens in a text are split like other text.
    split_special_tokens: bool


class _Refused(msgspec.Struct, frozen=True, tag=True):
    """Why there is none."""

    why: str


class _Wanted(msgspec.Struct, frozen=True):
    """What the other process is to load: a built-in base below `cache`, a folder, or an id on the hub."""

    builtin: str | None
    source: str
    revision: str | None


def find(base_model: str, *, cache: Path, revision: str | None = None, trust_remote_code: bool = False) -> Stored:
    """The tokenizer of a base model as recipes name it; built-in ones are below `cache`.

    Blocks for one to five seconds the first time, then for about 0.1 s. Never downloads, and runs no code that came
    with a model. A hub's model is what the hub's cache has of it. Raises NotHere.
    """
    if base_model.startswith(BUILTIN):
        wanted, parts = _built_in(base_model.removeprefix(BUILTIN), cache)
    else:
        wanted, folder = _place(base_model, revision)
        if trust_remote_code and _brings_code(folder):
            raise NotHere("the base model brings its own Python code, which is not run to count tokens")
        parts = _files(folder)
    key = hashlib.sha256(msgspec.json.encode((_FORM, wanted, _version("tokenizers"), _version("transformers"))))
    for part in parts:
        key.update(hashlib.sha256(part).digest())
    whose = hashlib.sha256(base_model.encode()).hexdigest()[:16]
    kept = cache / f"tokenizer-{whose}-{key.hexdigest()[:24]}"
    return _read(kept) or _load(wanted, kept, f"tokenizer-{whose}-*")


def config(base_model: str, *, cache: Path, revision: str | None = None) -> dict[str, Any]:
    """The config.json of a base model, as `find` finds its tokenizer. Never downloads. Raises NotHere."""
    if base_model.startswith(BUILTIN):
        name = base_model.removeprefix(BUILTIN)
        built = sorted(cache.glob(f"{name}-*/config.json"), key=lambda path: path.stat().st_mtime)
        if name not in BUILTINS or not built:
            raise NotHere(f"{base_model} is not built yet", "ft builds it for its first training")
        path = built[-1]
    else:
        path = _place(base_model, revision, _CONFIG)[1] / "config.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise NotHere(
            f"{base_model} has no config.json here that can be read", f"hf download {base_model} config.json"
        ) from None
    if not isinstance(found, dict):
        raise NotHere(f"the config.json of {base_model} is no object")
    return found


def fetch_config(base_model: str, *, revision: str | None = None) -> None:
    """Have the config.json of a base model on the hub in the hub's cache. Blocks. Raises NotHere."""
    if base_model.startswith(BUILTIN) or folder_of(base_model):
        return
    try:
        from huggingface_hub import errors, hf_hub_download  # an extra
    except ModuleNotFoundError:
        raise NotHere("the library of the model hub is not installed", _EXTRA) from None
    try:
        hf_hub_download(base_model, "config.json", revision=revision)
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError, OSError) as error:
        said = str(error).strip().split("\n", 1)[0][:200]
        raise NotHere(f"the config.json of {base_model} cannot be fetched: {said}") from None


def _built_in(name: str, cache: Path) -> tuple[_Wanted, Iterator[bytes]]:
    """What `builtin.place_of` names its folder by, as far as that is known without torch."""
    if name not in BUILTINS or not any(cache.glob(f"{name}-*")):
        raise NotHere(f"{BUILTIN}{name} is not built yet", "ft builds it for its first training")
    code = [Path(__file__).with_name(file).read_bytes() for file in ("builtin.py", "corpus.py")]
    return _Wanted(name, str(cache), None), iter([*code, _version("torch").encode()])


def _place(base_model: str, revision: str | None, part: tuple[str, str] = _TOKENIZER) -> tuple[_Wanted, Path]:
    """What to load, and the folder that has its files."""
    if folder := folder_of(base_model):
        if not folder.is_dir():
            raise NotHere(f"there is no folder {base_model}", "check the path in `base_model`")
        return _Wanted(None, str(folder), None), folder
    try:
        from huggingface_hub import errors, try_to_load_from_cache  # an extra, and the hub's cache has its own layout
    except ModuleNotFoundError:
        raise NotHere("the library of the model hub is not installed", _EXTRA) from None
    try:
        paths = [
            try_to_load_from_cache(base_model, name, revision=revision)
            for name in ("tokenizer_config.json", "tokenizer.json", "config.json")
        ]
    except errors.HFValidationError:
        raise NotHere(f"{base_model} is no name that the model hub could have", "check `base_model`") from None
    found = [Path(path) for path in paths if isinstance(path, str)]
    if not found:
        name, files = part
        raise NotHere(f"the {name} of {base_model} is not on this machine", f"hf download {base_model} {files}")
    return _Wanted(None, base_model, revision), found[0].parent


def _brings_code(folder: Path) -> bool:
    return any(b'"auto_map"' in path.read_bytes() for path in folder.glob("*config.json"))


def _files(folder: Path) -> Iterator[bytes]:
    for path in sorted({path for pattern in _READ for path in folder.glob(pattern)}):
        yield path.name.encode()
        with path.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()


def _version(library: str) -> str:
    """Raises NotHere where it is missing."""
    try:
        return version(library)
    except PackageNotFoundError:
        raise NotHere(f"{library} is not installed", _EXTRA) from None


def _read(kept: Path) -> Stored | None:
    try:
        return msgspec.msgpack.decode(kept.read_bytes(), type=Stored)
    except (OSError, msgspec.MsgspecError):
        # Not there, or what a full disk has left of it.
        return None


def _load(wanted: _Wanted, kept: Path, older: str) -> Stored:
    """Have the other process load it, and keep what it gives if the cache can be written."""
    with tempfile.TemporaryDirectory(prefix="ft-tokenizer-") as folder:
        out = Path(folder) / "answer"
        argv = [sys.executable, "-P", "-m", __name__, msgspec.json.encode(wanted).decode(), str(out)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        said = ""
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=_TIMEOUT_S)
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {done.returncode}"
            answer = msgspec.msgpack.decode(out.read_bytes(), type=Stored | _Refused)
        except subprocess.TimeoutExpired:
            raise NotHere(f"its tokenizer did not load within {_TIMEOUT_S} s") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise NotHere(f"its tokenizer cannot be loaded: {(said or str(error))[:200]}") from None
    if isinstance(answer, _Refused):
        raise NotHere(answer.why)
    _keep(answer, kept, older)
    return answer


def _keep(stored: Stored, kept: Path, older: str) -> None:
    """Nothing depends on it, so a cache that takes no files is no fault."""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        for left in kept.parent.glob(older):
            left.unlink(missing_ok=True)
        aside = kept.with_suffix(f".{os.getpid()}")
        aside.write_bytes(msgspec.msgpack.encode(stored))
        aside.replace(kept)


def main(argv: Sequence[str]) -> int:
    """The other process: `WANTED OUT`, the one JSON, the other the path for the answer. The exit status."""
    wanted = msgspec.json.decode(argv[0], type=_Wanted)
    answer: Stored | _Refused
    try:
        answer = _loaded(wanted)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        said = str(error).strip().partition("\n")[0][:200]
        answer = _Refused(f"its tokenizer cannot be loaded: {said or type(error).__name__}")
    Path(argv[1]).write_bytes(msgspec.msgpack.encode(answer))
    return 0


def _loaded(wanted: _Wanted) -> Stored | _Refused:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    source = wanted.source
    if wanted.builtin is not None:
        from finetune.training import builtin  # names its folder, and needs torch

        folder = builtin.place_of(wanted.builtin, Path(source))
        if not folder.is_dir():
            return _Refused(f"{BUILTIN}{wanted.builtin} is not built yet")
        source = str(folder)
    else:
        # Importing it raises now. `transformers` does tokenizers without it.
        sys.modules["torch"] = None  # type: ignore[assignment]
    if wanted.revision is not None:
        options["revision"] = wanted.revision
    with importing():
        from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
    if not getattr(tokenizer, "is_fast", False):
        return _Refused("its tokenizer does not tell which text a token stands for")
    try:
        template, tools_template = tokenizer.get_chat_template(), tokenizer.get_chat_template(tools=[])
    except ValueError:
        return _Refused("its tokenizer has no chat template")
    return Stored(
        tokenizer=tokenizer.backend_tokenizer.to_str().encode(),
        template=template,
        tools_template=tools_template,
        special_tokens=tokenizer.special_tokens_map,
        split_special_tokens=bool(tokenizer.split_special_tokens),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
