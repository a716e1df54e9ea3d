"""One training, from the request in a run's folder to the adapter in it."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import PeftModel

from finetune import __version__, traces
from finetune.report import Json, Reporter
from finetune.training import adapter, bases, batches, examples, recompute
from finetune.training.bases import Loaded
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine
from finetune.training.examples import ChatEncoder, Encoder, Examples
from finetune.training.loop import Loop
from finetune.training.objectives import Likelihood, Objective, Preference
from finetune.training.peak import Peak
from finetune.training.preferences import PairEncoder
from finetune.training.ranks import ALONE, Ranks
from finetune.training.request import Request
from finetune.training.schedule import Steps
from finetune.training.stop import Stop


def train(asked: Request, run_dir: Path, reporter: Reporter, stop: Stop, ranks: Ranks = ALONE) -> Json:
    """Train what is asked for, with the other `ranks`; returns the artifact in `run_dir/adapter`, which rank 0 writes.

    Resumes from the newest checkpoint in `run_dir`. Idempotent: run again, it ends with the same bytes.
    Raises TrainingError, and Interrupted when asked to stop. Ranks other than 0 return an empty artifact.
    """
    peak = Peak(ranks.device)
    with ranks.sole_owner(run_dir):
        _make_deterministic()
        with traces.span("load base"):
            loaded = _load(asked, reporter, ranks)
        with traces.span("read data"):
            train_rows, validation = _read_data(asked, loaded, reporter)
        steps = Steps(len(train_rows.rows), asked.seed, asked.training)
        model = adapter.attach(loaded.model, asked.lora, asked.seed)
        engine = _engine(model, asked, loaded, ranks, reporter)
        reporter.event(
            f"training {len(train_rows.rows)} rows, {steps.total} steps of {asked.training.batch_size} on "
            f"{_devices(ranks)} with {torch.get_num_threads()} threads{' each' if ranks.count > 1 else ''}, "
            f"weights in {_dtype(loaded)}"
        )
        identity = _identity(asked, loaded, (train_rows, validation), steps.total) | _made_by(ranks)
        loop = Loop(
            engine=engine,
            checkpoints=Checkpoints(run_dir / "checkpoints", identity, keeper=ranks.first),
            steps=steps,
            train=train_rows,
            validation=validation,
            checkpoint_every=asked.training.checkpoint_every,
            reporter=reporter,
            stop=stop,
            clock=time.monotonic,
            ranks=ranks,
        )
        with traces.span("train", {"ft.steps": steps.total}):
            loop.run()
        if not ranks.first:
            return {}
        lineage = _lineage(asked, loaded, steps.total) | _made_by(ranks)
        with traces.span("write adapter"):
            artifact = adapter.write(model, asked, lineage, run_dir / "adapter")
        return artifact | ({} if (held := peak.bytes()) is None else {"peak_memory_bytes": held})


def _load(asked: Request, reporter: Reporter, ranks: Ranks) -> Loaded:
    # What has to be downloaded or built is there when the others look for it.
    with ranks.first_before_others():
        return bases.load(
            asked.base_model,
            cache=asked.cache,
            precision=asked.local.precision,
            revision=asked.revision,
            trust_remote_code=asked.local.trust_remote_code,
            where=ranks.device,
            report=reporter.event,
        )


def _make_deterministic() -> None:
    """Make equal inputs give equal bytes on this machine, whatever ran before."""
    torch.use_deterministic_algorithms(True)
    # Our code reads no uninitialised memory, and filling all of it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _read_data(asked: Request, loaded: Loaded, reporter: Reporter) -> tuple[Examples, Examples | None]:
    def warn(message: str) -> None:
        reporter.event(message, "warning")

    most = asked.training.max_seq_length
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(context, int) and context < most:
        warn(f"max_seq_length = {most} exceeds the base model's context; using {context}")
        most = context
    encoder = _encoder(asked, loaded)
    train_rows = examples.load(asked.train, encoder, most, warn)
    if asked.validation is None:
        return train_rows, None
    return train_rows, examples.load(asked.validation, encoder, most, warn)


def _encoder(asked: Request, loaded: Loaded) -> Encoder:
    return ChatEncoder(loaded.tokenizer) if asked.dpo is None else PairEncoder(loaded.tokenizer)


def _engine(model: PeftModel, asked: Request, loaded: Loaded, ranks: Ranks, reporter: Reporter) -> Engine:
    objective: Objective = Likelihood() if asked.dpo is None else Preference(asked.dpo.beta)
    most = limits(asked, loaded, lambda message: reporter.event(message, "warning"))
    return Engine(model, asked.training, asked.seed, _pad_id(loaded), most, objective=objective, ranks=ranks)


def _pad_id(loaded: Loaded) -> int:
    # Padding is masked in attention and loss: any valid id does.
    return loaded.tokenizer.pad_token_id or 0


def limits(asked: Request, loaded: Loaded, warn: Callable[[str], None]) -> batches.Limits:
    """What may go through the model at once, and whether it keeps its activations; `warn` where it has to."""
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    wanted = asked.local.gradient_checkpointing
    again = None if wanted == "auto" else wanted
    if again and not recompute.possible(loaded.model):
        warn("this base model cannot make its activations again: they are kept")
        again = None
    return batches.limits(asked.local.micro_batch_size, asked.training.batch_size, vocabulary, again)


def _dtype(loaded: Loaded) -> str:
    return str(loaded.model.dtype).removeprefix("torch.")


def _devices(ranks: Ranks) -> str:
    return ranks.device.type if ranks.count == 1 else f"{ranks.count} x {ranks.device.type}"


def _made_by(ranks: Ranks) -> dict[str, Any]:
    """Part of what a checkpoint must have been made by, as the order of sums depends on it.

    One process adds nothing: its checkpoints are those of before there could be several.
    """
    return {"device": ranks.device.type} | ({"processes": ranks.count} if ranks.count > 1 else {})


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def _identity(
    asked: Request, loaded: Loaded, data: tuple[Examples, Examples | None], total_steps: int
) -> dict[str, Any]:
    """What a checkpoint must have been made from to be resumed."""
    return {
        "data_digest": asked.data_digest,
        "recipe_digest": asked.recipe_digest,
        "settings": asked.settings_digest(),
        "tokens": data[0].digest,
        "base_model": asked.base_model,
        "base_revision": loaded.revision,
        "seed": asked.seed,
        "total_steps": total_steps,
        "dtype": _dtype(loaded),
        "versions": _versions(),
    }


def _lineage(asked: Request, loaded: Loaded, total_steps: int) -> Json:
    """What the adapter was made from."""
    return {
        "run_key": asked.run_key,
        "recipe_digest": asked.recipe_digest,
        "data_digest": asked.data_digest,
        "method": asked.method,
        **({} if asked.dpo is None else asdict(asked.dpo)),
        "base_model": asked.base_model,
        "base_revision": loaded.revision,
        "chat_template_digest": loaded.template_digest,
        "seed": asked.seed,
        "steps": total_steps,
        "dtype": _dtype(loaded),
        "threads": torch.get_num_threads(),
        # Not part of the identity: a checkpoint outlives an update of ft.
        **{"ft": __version__, "python": platform.python_version(), **_versions()},
    }
