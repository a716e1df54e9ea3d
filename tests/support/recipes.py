"""Recipes over a random Llama of some thousand parameters: real trainings of a few seconds."""

import json
from pathlib import Path

from tests.support.tiny import save_base


def base(folder: Path) -> Path:
    """The random base model; made once a folder."""
    return folder if (folder / "config.json").exists() else save_base(folder)


def write(
    folder: Path, base_model: Path, *, name: str = "bot", epochs: int = 2, rows: int = 24, more: str = ""
) -> Path:
    """A recipe and its data in `folder`; returns the recipe's path. `more` are further lines of YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"messages": [{"role": "user", "content": f"n {number}?"}, {"role": "assistant", "content": f"yes {number}"}]}
        for number in range(rows)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"version: 1\nname: {name}\nbase_model: {base_model}\ndataset: {{path: data.jsonl}}\n"
        f"training: {{epochs: {epochs}, batch_size: 4, learning_rate: 1.0e-3}}\nlora: {{r: 4, alpha: 8}}\n{more}"
    )
    return recipe
