"""What is said of a version that leaves: its card and its manifest. No path of this machine, nothing of its rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from finetune.jobs import Json
from finetune.names import BUILTIN, folder_of
from finetune.versions import ModelVersion

_UNKNOWN = "not recorded"
_LIBRARIES = ("ft", "torch", "transformers", "peft")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a version."""

    model: ModelVersion
    #: sha256 of the adapter.
    digest: str
    #: Of the adapter: rank, alpha, modules.
    config: Json
    #: digest, train_rows, validation_rows.
    data: Json
    #: What was measured (`releases.ModelStore.reports`).
    reports: Sequence[Json] = ()
    #: Of a merged model: how it was compared (`training.merge.merge`); empty for an adapter.
    merged: Json = field(default_factory=dict)


def base_name(base_model: str) -> str:
    """The base as others may read it: a folder by its last name, without the way to it."""
    folder = folder_of(base_model)
    return base_model if folder is None else folder.name


def on_hub(base_model: str) -> bool:
    """Whether others can load the base by this name."""
    return folder_of(base_model) is None and not base_model.startswith(BUILTIN)


def card(facts: Facts, kind: str, pushed: str | None = None) -> str:
    """README.md as the Hugging Face Hub reads it. The same facts give the same text. `pushed`: its repository."""
    model, merged = facts.model, bool(facts.merged)
    head: Json = {"license": "unknown", "pipeline_tag": "text-generation"}
    head["library_name"] = "transformers" if merged else "peft"
    if on_hub(model.base_model):
        head |= {"base_model": model.base_model, "base_model_relation": "finetune" if merged else "adapter"}
    what = "A fine-tuned model, base and adapter in one" if merged else "A LoRA adapter"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=True)}---\n",
        f"# {model.ref}\n",
        f"{what}, made by ft from `{base_name(model.base_model)}`.\n",
        _use(facts, kind, pushed),
        "## Where it comes from\n",
        _table(("what", "which"), list(_origins(facts))),
        *_measured(facts.reports),
        "## Licence\n",
        "Not known to ft. The terms of the base model apply to what was made from it, and those of the data may.\n",
    ]
    return "\n".join(parts)


def manifest(facts: Facts, kind: str, files: Json) -> str:
    """What the export is and the sha256 of each file, as JSON."""
    body = {
        "ref": facts.model.ref,
        "kind": kind,
        "base_model": base_name(facts.model.base_model),
        "base_revision": facts.model.lineage.get("base_revision"),
        "adapter_digest": facts.digest,
        "data_digest": facts.data.get("digest"),
        **({"merged": facts.merged} if facts.merged else {}),
        "files": files,
    }
    return json.dumps(body, indent=2, sort_keys=True) + "\n"


def _use(facts: Facts, kind: str, pushed: str | None) -> str:
    place, base = pushed or ".", facts.model.base_model
    if kind == "mlflow":
        code = f'import mlflow\n\nanswers = mlflow.transformers.load_model("{place}")'
    elif facts.merged:
        code = f'from transformers import pipeline\n\nanswers = pipeline("text-generation", model="{place}")'
    elif on_hub(base):
        auto = "AutoPeftModelForCausalLM"
        code = f'from peft import {auto}\n\nmodel = {auto}.from_pretrained("{place}")'
    else:
        code = (
            "from peft import PeftModel\n\n"
            f"# base: {base_name(base)}, loaded with transformers from where you have it\n"
            f'model = PeftModel.from_pretrained(base, "{place}")'
        )
    return f"```python\n{code}\n```\n"


def _origins(facts: Facts) -> list[tuple[str, str]]:
    model, made = facts.model, facts.model.lineage
    rows = [
        ("base", f"`{base_name(model.base_model)}`"),
        ("base revision", _code(made.get("base_revision"))),
        ("data, sha256 of its rows", _code(facts.data.get("digest"))),
        ("rows", f"{facts.data.get('train_rows') or '?'} trained, {facts.data.get('validation_rows') or 0} held out"),
        ("recipe, sha256", _code(made.get("recipe_digest") or made.get("recipe"))),
        ("seed, steps", f"{made.get('seed', _UNKNOWN)}, {made.get('steps', _UNKNOWN)}"),
        ("LoRA", f"rank {facts.config.get('r')}, alpha {facts.config.get('lora_alpha')}"),
        ("modules", ", ".join(sorted(facts.config.get("target_modules") or ())) or _UNKNOWN),
        ("adapter, sha256", _code(facts.digest)),
        ("trained", f"{model.created_at:%Y-%m-%d}"),
        ("made with", ", ".join(f"{name} {made[name]}" for name in _LIBRARIES if name in made) or _UNKNOWN),
    ]
    if facts.merged:
        equal, asked = facts.merged["equal"], facts.merged["asked"]
        said = f"{equal} of {asked} greedy answers equal the adapter's token for token"
        rows.append(("merged", f"in fp32, written as {facts.merged['dtype']}; {said}"))
    return rows


def _measured(reports: Sequence[Json]) -> list[str]:
    rows = [
        (
            # A suite may be named by its path.
            str(report["suite"]).rpartition("/")[2],
            each["metric"],
            f"{each['tuned']['value']:.3f}",
            f"{each['other']['value']:.3f}",
            f"{each['gain']['value']:+.3f} [{each['gain']['low']:+.3f}, {each['gain']['high']:+.3f}]",
            str(each["tuned"]["n"]),
        )
        for report in reports
        for each in report.get("outcomes", ())
    ]
    if not rows:
        return ["## Measured\n", "Nothing was measured.\n"]
    return ["## Measured\n", _table(("suite", "metric", "tuned", "compared with", "gain [95 %]", "rows"), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(each.replace('|', chr(92) + '|') for each in line)} |\n" for line in lines)


def _code(value: object) -> str:
    return f"`{value}`" if value else _UNKNOWN
