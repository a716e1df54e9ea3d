"""`python -m finetune.training.merge FOLDER --parent PID`: an adapter put into its base's weights, and compared there.

Reads `FOLDER/request.json` (`Asked`), tells what it does in `FOLDER/said.jsonl`: lines of `{"text"}`, the last
`{"done": RESULT}` or `{"failed": PROBLEM}`. Exit codes: 0 done, 1 failed; anything else is a death without a last line.

In fp32 and on the processor, whatever cards there are: sums of small changes do not drown in bf16, and a base that
fits a card in bf16 may not fit it in fp32. Written in the base's own precision.
"""

import argparse
import gc
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from finetune.errors import FtError, Problem, TrainingError
from finetune.jobs import Json
from finetune.process import die_with_parent, importing

with importing():
    import peft
    import torch
    import transformers
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers.utils.hub import cached_file

    from finetune.training import bases, disk

#: What both are asked.
_QUESTIONS = ("Hello, who are you?", "Where is my order?", "Say in one sentence what you can do.")
_TOKENS = 24
#: How far logits may be apart, as a share of the largest, where weights are rounded to this precision.
_ROUNDING = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_TEMPLATE = "chat_template.jinja"
#: How images are read, where the base reads some: servers want it beside the weights.
_SIGHT = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to merge, and where to. Folders as text: they come from JSON."""

    base_model: str
    #: As the adapter's lineage names what it was trained on (`Loaded.revision`); None: that is not known.
    base_revision: str | None
    #: The adapter's folder.
    adapter: str
    #: Where built-in bases are.
    cache: str
    #: For config and weights; made.
    weights: str
    #: For the tokenizer and the chat template; may be the same.
    tokenizer: str
    trust_remote_code: bool = False


class _Said(NamedTuple):
    """A greedy answer, with the logits that each token was chosen from."""

    tokens: list[int]
    logits: list[torch.Tensor]


def merge(asked: Asked, say: Callable[[str], None]) -> Json:
    """Write the merged model, load it again from the disk, and compare its answers with the adapter's on its base.

    Returns what was written and how near it is. Blocks for minutes. Raises TrainingError: what `bases.load` raises;
    E622; E847 for another base than it was trained on, and for answers that differ by more than rounding.
    """
    base = _loaded(asked, say)
    dtype, limit = _precision(base, asked)
    prompts = _prompts(base.tokenizer)
    say("putting the adapter into the base's weights")
    try:
        tuned: Any = PeftModel.from_pretrained(base.model, asked.adapter).eval()
        wanted = [_answered(tuned, prompt) for prompt in prompts]
        merged: Any = tuned.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _refused("the adapter cannot be put into its base", str(error).partition("\n")[0][:300]) from error
    for each in (*merged.parameters(), *merged.buffers()):
        # Positions of images are complex numbers, and stay that.
        if each.is_floating_point():
            each.data = each.data.to(dtype)
    _write(merged, base.tokenizer, asked)
    _copy_sight(base, asked)
    architecture, tokenizer = type(merged).__name__, type(base.tokenizer).__name__
    # Two models at once would be twice the memory.
    del tuned, merged, base
    gc.collect()
    say("comparing its answers with the adapter's")
    found = _held_against(asked, prompts, wanted, limit)
    return {
        **found,
        "dtype": str(dtype).removeprefix("torch."),
        "architecture": architecture,
        "tokenizer": tokenizer,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    }


def _loaded(asked: Asked, say: Callable[[str], None]) -> bases.Loaded:
    """The base that the adapter was trained on, in fp32 on the processor."""
    known = None if asked.base_revision == "unknown" else asked.base_revision
    base = bases.load(
        asked.base_model,
        cache=Path(asked.cache),
        precision="fp32",
        # Of a hub's model that commit; a folder has none.
        revision=known if known and known.isalnum() else None,
        trust_remote_code=asked.trust_remote_code,
        where=torch.device("cpu"),
        report=say,
    )
    if known not in (None, base.revision):
        raise TrainingError(
            Problem(
                code="E847",
                what=f"{asked.base_model} is not the base that the adapter was trained on any more",
                why=f"it was {str(known)[:24]}, and is {base.revision[:24]}: merged they answer nonsense",
                fix="restore the base's files, or train again with `ft submit RECIPE --force`",
            )
        )
    template = Path(asked.adapter) / _TEMPLATE
    if template.is_file():
        base.tokenizer.chat_template = template.read_text(encoding="utf-8")
    return base


def _precision(base: bases.Loaded, asked: Asked) -> tuple[torch.dtype, float]:
    """The dtype that the base's files say they have, and what rounding to it may change."""
    commit = getattr(base.model.config, "_commit_hash", None)
    options: dict[str, Any] = {"revision": commit, "trust_remote_code": asked.trust_remote_code}
    config: Any = transformers.AutoConfig.from_pretrained(base.source, **options)
    own = getattr(config, "dtype", None)
    dtype = own if own in _ROUNDING else torch.float32
    return dtype, _ROUNDING[dtype]


def _copy_sight(base: bases.Loaded, asked: Asked) -> None:
    config = base.model.config
    if config.get_text_config() is config:
        return
    commit = getattr(config, "_commit_hash", None)
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    for name in _SIGHT:
        if found := cached_file(base.source, name, revision=commit, **quiet):
            shutil.copyfile(found, Path(asked.weights) / name)


def _prompts(tokenizer: Any) -> list[list[int]]:
    chats = ([{"role": "user", "content": question}] for question in _QUESTIONS)
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@torch.inference_mode()
def _answered(model: Any, prompt: list[int]) -> _Said:
    said = _Said([], [])
    ids, cache = torch.tensor([prompt]), None
    ends = model.generation_config.eos_token_id
    while len(said.tokens) < _TOKENS:
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        logits, cache = out.logits[0, -1].float(), out.past_key_values
        said.logits.append(logits)
        said.tokens.append(int(logits.argmax()))
        if said.tokens[-1] in (ends if isinstance(ends, list) else [ends]):
            break
        ids = torch.tensor([said.tokens[-1:]])
    return said


def _write(merged: Any, tokenizer: Any, asked: Asked) -> None:
    try:
        merged.save_pretrained(asked.weights)
        for name in ("is_local", "local_files_only"):
            # How it was loaded here is nothing for others.
            tokenizer.init_kwargs.pop(name, None)
        tokenizer.save_pretrained(asked.tokenizer)
    except Exception as error:
        told = disk.refusal(error, Path(asked.weights))
        if told is None:
            raise
        raise told from error


def _held_against(asked: Asked, prompts: list[list[int]], wanted: list[_Said], limit: float) -> Json:
    """What is on the disk, asked the same. Raises TrainingError (E847) unless it answers as the adapter does."""
    options: dict[str, Any] = {"trust_remote_code": asked.trust_remote_code}
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(asked.tokenizer, **options)
    if _prompts(tokenizer) != prompts:
        raise _refused("the tokenizer that was written reads prompts in another way than the base's", "")
    whole = bases.model_class(transformers.AutoConfig.from_pretrained(asked.weights, **options))
    model: Any = whole.from_pretrained(asked.weights, dtype=torch.float32, use_safetensors=True, **options)
    said = [_answered(model.eval(), prompt) for prompt in prompts]
    far = max(_distance(one, other) for one, other in zip(wanted, said, strict=True))
    # Not a number is near to nothing, and above no limit either.
    if not far <= limit:
        raise _refused(
            "the merged model does not answer as the adapter does",
            f"asked the same, their logits are up to {far:.2%} apart, and rounding explains {limit:.1%}",
        )
    equal = sum(one.tokens == other.tokens for one, other in zip(wanted, said, strict=True))
    return {"asked": len(prompts), "equal": equal, "apart": far}


def _distance(one: _Said, other: _Said) -> float:
    """The largest difference of logits while both have said the same, as a share of the largest logit."""
    found = 0.0
    for a, b, own, its in zip(one.logits, other.logits, one.tokens, other.tokens, strict=False):
        found = max(found, float((a - b).abs().max() / a.abs().max()))
        if own != its:
            break
    return found


def _refused(what: str, why: str) -> TrainingError:
    fix = "nothing was written; look at `ft models lineage` and the versions of torch and peft, then try again"
    return TrainingError(Problem(code="E847", what=what, why=why or "it would answer otherwise than here", fix=fix))


def main(argv: Sequence[str] | None = None) -> int:
    """Merge what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="finetune.training.merge")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--parent", type=int, required=True, help="pid of who starts this; it ends with that process")
    given = parser.parse_args(argv)
    die_with_parent(given.parent)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with (given.folder / "said.jsonl").open("a", encoding="utf-8", buffering=1) as said:

        def tell(**line: Any) -> None:
            said.write(json.dumps(line) + "\n")

        try:
            asked = Asked(**json.loads((given.folder / "request.json").read_text(encoding="utf-8")))
            tell(done=merge(asked, lambda text: tell(text=text)))
        except FtError as error:
            tell(failed=error.problems[0].brief)
            return 1
        except Exception as error:  # noqa: BLE001 -- the last line of defence: no traceback reaches a user
            traceback.print_exc()
            tell(failed=_refused("the merge failed unexpectedly", f"{type(error).__name__}: {error}").problems[0].brief)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
