"""A merged model in MLflow's layout, without MLflow: its `transformers` flavor, which it loads, logs and serves.

Layout and fields are those that `mlflow.transformers.save_model(task="llm/v1/chat")` of MLflow 3.17 writes:
`model/` has weights, `components/tokenizer/` the tokenizer, `MLmodel` says so. Adapters alone are left out: MLflow
loads one only on a base of the Hugging Face Hub, and merged every version stands by itself.
"""

import json
import platform
from pathlib import Path
from typing import Any

import yaml

from finetune.exports.card import Facts

WEIGHTS = "model"
TOKENIZER = "components/tokenizer"
_TASK = "llm/v1/chat"


def describe(folder: Path, facts: Facts) -> None:
    """Write what MLflow reads beside the weights. Raises OSError."""
    python = platform.python_version()
    packages = [f"{name}=={facts.merged['versions'][name].partition('+')[0]}" for name in ("torch", "transformers")]
    requirements = ["mlflow", *packages]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    _write(folder / "python_env.yaml", {"python": python, "dependencies": ["-r requirements.txt"]})
    pip = {"pip": requirements}
    _write(
        folder / "conda.yaml",
        {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", pip]},
    )
    _write(folder / "MLmodel", _model(facts, python))


def _model(facts: Facts, python: str) -> dict[str, Any]:
    loader = {
        "loader_module": "mlflow.transformers",
        "python_version": python,
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    }
    flavor = {
        "task": "text-generation",
        "inference_task": _TASK,
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": facts.merged["architecture"],
        "model_binary": WEIGHTS,
        "components": ["tokenizer"],
        "tokenizer_type": facts.merged["tokenizer"],
        # What answers call it.
        "source_model_name": facts.model.ref,
        "torch_dtype": f"torch.{facts.merged['dtype']}",
        "transformers_version": facts.merged["versions"]["transformers"],
        "code": None,
    }
    return {
        "flavors": {"python_function": loader, "transformers": flavor},
        "metadata": {"task": _TASK, "ft_version": facts.model.ref, "ft_adapter_digest": facts.digest},
        "model_uuid": facts.digest[:32],
        "utc_time_created": f"{facts.model.created_at:%Y-%m-%d %H:%M:%S.%f}",
        "signature": {"inputs": json.dumps(_inputs()), "outputs": json.dumps(_outputs()), "params": None},
    }


def _inputs() -> list[dict[str, Any]]:
    message = {"role": {"type": "string", "required": True}, "content": {"type": "string", "required": False}}
    messages = {"type": "array", "items": {"type": "object", "properties": message}}
    options = {"temperature": "double", "max_tokens": "long", "top_p": "double"}
    return [
        {**messages, "name": "messages", "required": True},
        *({"type": kind, "name": name, "required": False} for name, kind in options.items()),
    ]


def _outputs() -> list[dict[str, Any]]:
    plain = {"id": "string", "object": "string", "created": "long", "model": "string"}
    said = {"role": {"type": "string", "required": True}, "content": {"type": "string", "required": False}}
    choice = {
        "index": {"type": "long", "required": True},
        "finish_reason": {"type": "string", "required": True},
        "message": {"type": "object", "properties": said, "required": True},
    }
    choices = {"type": "array", "items": {"type": "object", "properties": choice}}
    return [
        *({"type": kind, "name": name, "required": True} for name, kind in plain.items()),
        {**choices, "name": "choices", "required": True},
    ]


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=True), encoding="utf-8")
