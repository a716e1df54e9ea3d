"""Takes a version elsewhere: its adapter as Hugging Face's tools load it, merged, or in MLflow's layout."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from finetune.errors import NotFound, Problem
from finetune.exports import mlflow
from finetune.exports.card import Facts, base_name, card, manifest
from finetune.exports.stores import MANIFEST, publish
from finetune.files import ADAPTER_FILES
from finetune.jobs import Json
from finetune.names import BUILTIN, folder_of
from finetune.versions import ModelVersion

#: What `--to` takes.
KINDS: Final = ("hf", "mlflow", "merged")
_CONFIG, _WEIGHTS = ADAPTER_FILES
_LINEAGE: Final = "lineage.json"
_TEMPLATE: Final = "chat_template.jinja"


class Merge(Protocol):
    """Merges a version's adapter into its base, in a process of its own (`merging.Merger`)."""

    def __call__(self, facts: Facts, adapter: Path, weights: Path, tokenizer: Path) -> Json:
        """Write the merged model and its tokenizer; what `training.merge.merge` returns. Raises TrainingError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and where."""

    ref: str
    kind: str
    #: As it was asked for; of the hub, `owner/name@tag`.
    place: str
    #: Names, sorted.
    files: tuple[str, ...]
    bytes: int
    #: What whoever uses it should know.
    notes: tuple[str, ...] = ()


class Exporter:
    """Writes exports. Each is whole or not there, and overwrites nothing."""

    def __init__(
        self,
        *,
        facts: Callable[[ModelVersion], Facts],
        checked: Callable[[ModelVersion], Path],
        merge: Merge,
        template: Callable[[str], str | None],
        aside: Path,
    ) -> None:
        """`checked`: the adapter's folder, once its digest was found right (E838). `template`: the chat template of a
        base, None where its tokenizer is not on this machine. `aside`: a folder of ours.
        """
        self._facts, self._checked, self._merge, self._template = facts, checked, merge, template
        self._aside = aside

    def export(self, model: ModelVersion, kind: str, out: str) -> Exported:
        """Write it to `out`, a path or an address (`stores.publish`). Blocks, for minutes where weights are merged.

        Raises NotFound E845, GatewayError E838, UsageError E846, StateError E848, TrainingError.
        """
        adapter = self._adapter(model)
        made: list[Exported] = []
        publish(out, self._aside, lambda folder: made.append(self._fill(folder, model, kind, (adapter, None))))
        return replace(made[0], place=out)

    def push(self, model: ModelVersion, repo: str, send: Callable[[Path], tuple[str, str]]) -> Exported:
        """Write the adapter as `hf` aside, have `send` upload that folder, and take it away. Raises as `export` does.

        `send` returns the repository and the tag. The same facts give the same files, so it can be repeated.
        """
        adapter = self._adapter(model)
        shutil.rmtree(self._aside, ignore_errors=True)
        try:
            self._aside.mkdir(parents=True)
            made = self._fill(self._aside, model, "hf", (adapter, repo))
            name, tag = send(self._aside)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
        return replace(made, place=f"{name}@{tag}")

    def _adapter(self, model: ModelVersion) -> Path:
        if "path" not in model.artifact:
            why = f"its weights are at {model.provider}, which keeps them"
            fix = "train the recipe on `provider: local` to have weights of your own"
        elif "gone" in model.artifact:
            why = f"`ft models gc --retired` removed its files on {str(model.artifact['gone'])[:10]}"
            fix = "`ft submit RECIPE --force` trains it again"
        else:
            return self._checked(model)
        raise NotFound(Problem(code="E845", what=f"{model.ref} has no adapter on this machine", why=why, fix=fix))

    def _fill(self, folder: Path, model: ModelVersion, kind: str, way: tuple[Path, str | None]) -> Exported:
        """Write all files. `way`: from which folder, and to which repository of the hub, if any."""
        adapter, pushed = way
        config: Json = json.loads((adapter / _CONFIG).read_text(encoding="utf-8"))
        facts = replace(self._facts(model), config=config)
        notes: list[str] = []
        if kind == "hf":
            notes = self._as_adapter(folder, facts, adapter)
        elif kind == "merged":
            facts = replace(facts, merged=self._merge(facts, adapter, folder, folder))
        else:
            merged = self._merge(facts, adapter, folder / mlflow.WEIGHTS, folder / mlflow.TOKENIZER)
            facts = replace(facts, merged=merged)
            mlflow.describe(folder, facts)
        (folder / "README.md").write_text(card(facts, kind, pushed), encoding="utf-8")
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        digests = {name: _sha256(path) for name, path in files.items()}
        (folder / MANIFEST).write_text(manifest(facts, kind, digests), encoding="utf-8")
        total = sum(path.stat().st_size for path in (*files.values(), folder / MANIFEST))
        return Exported(
            ref=model.ref,
            kind=kind,
            place=pushed or ".",
            files=tuple(sorted((*files, MANIFEST))),
            bytes=total,
            notes=(*notes, *_rounded(facts)),
        )

    def _as_adapter(self, folder: Path, facts: Facts, adapter: Path) -> list[str]:
        """PEFT's files, with the names of folders of this machine taken out; what there is to say of it."""
        notes = []
        shutil.copyfile(adapter / _WEIGHTS, folder / _WEIGHTS)
        config = dict(facts.config)
        named = str(config.get("base_model_name_or_path") or "")
        if folder_of(named) is not None:
            config["base_model_name_or_path"] = base_name(named)
            notes.append(f"its base was a folder here, and is called {base_name(named)} there")
            _write(folder / _CONFIG, config)
        else:
            shutil.copyfile(adapter / _CONFIG, folder / _CONFIG)
        made = {key: base_name(value) if key == "base_model" else value for key, value in facts.model.lineage.items()}
        _write(folder / _LINEAGE, made)
        if named.startswith(BUILTIN):
            notes.append(f"its base {named} is ft's own: nobody else has it, --to merged stands by itself")
        template = self._own_template(adapter) or self._template(facts.model.base_model)
        wanted = facts.model.lineage.get("chat_template_digest")
        if template is None:
            notes.append("without a chat template: the base's tokenizer is not on this machine; tools use the base's")
        elif wanted not in (None, hashlib.sha256(template.encode()).hexdigest()):
            notes.append("without a chat template: the base has another one now than when this was trained")
        else:
            (folder / _TEMPLATE).write_text(template, encoding="utf-8")
        return notes

    def _own_template(self, adapter: Path) -> str | None:
        path = adapter / _TEMPLATE
        return path.read_text(encoding="utf-8") if path.is_file() else None


def _rounded(facts: Facts) -> tuple[str, ...]:
    if not facts.merged or facts.merged["equal"] == facts.merged["asked"]:
        return ()
    told = f"{facts.merged['equal']} of {facts.merged['asked']} test answers are the adapter's token for token"
    return (f"{told}; the others differ by rounding to {facts.merged['dtype']}",)


def _write(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
