"""The base model `builtin:tiny-llama`, built on the spot from our own text.

The quickstart must run where no model hub can be reached, and a LoRA on random weights learns nothing that
holds for unseen text. So we build a small Llama with its tokenizer, teach it for some seconds to read support
messages and to answer politely (`finetune.training.corpus`), and save it as ordinary `transformers` files: the
code that loads a Hugging Face folder loads this one and knows no difference.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from finetune.files import remove_left_behind, sync
from finetune.names import BUILTINS
from finetune.training import corpus

Row = tuple[list[int], list[int]]

PAD: Final = "<|pad|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"

CHAT_TEMPLATE: Final = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + '<|im_end|>' }}{%- endif %}"
    "{{- '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """What the bytes of the model depend on; another value in any field makes another folder in the cache."""

    seed: int = 11
    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 256
    layers: int = 2
    heads: int = 4
    context: int = 2048
    copying_steps: int = 80
    support_steps: int = 150
    batch_size: int = 24
    muon_rate: float = 0.02
    adam_rate: float = 1.5e-2

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole pretraining."""
        return self.copying_steps + self.support_steps


_RECIPES: Final[dict[str, Recipe]] = {"tiny-llama": Recipe()}


def ensure(name: str, cache: Path, report: Callable[[str], None]) -> Path:
    """Return the folder of the built-in base `name` below `cache`, building it first if it isn't there.

    Idempotent, and safe when two processes call it at once: each builds aside, the first to finish wins and the
    other takes the winner's folder. Blocks for some seconds when it builds. `report` gets plain lines of progress.
    The folder is read-only to its users. What a killed builder left goes after a day.

    Raises ValueError for a name not in `BUILTINS`, and what `disk.refusal` reads when `cache` cannot be written.
    """
    if name not in BUILTINS:
        raise ValueError(f"no built-in base model {name!r}; there is {', '.join(sorted(BUILTINS))}")
    folder = place_of(name, cache)
    remove_left_behind(cache, f".{name}-*")
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
    try:
        build(_RECIPES[name], aside, lambda line: report(f"building {name}: {line}"))
        _publish(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def place_of(name: str, cache: Path) -> Path:
    """The folder of the built-in base `name`, there or not: a change of whatever its bytes depend on gives another."""
    return cache / f"{name}-{fingerprint(_RECIPES[name])}"


def fingerprint(recipe: Recipe) -> str:
    """Twelve hex digits over the recipe, this code, the texts, and the libraries that do the arithmetic."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    for source in (__file__, corpus.__file__):
        digest.update(Path(source).read_bytes())
    for library in ("torch", "transformers", "tokenizers"):
        digest.update(f"{library}={version(library)};".encode())
    return digest.hexdigest()[:12]


def build(recipe: Recipe, folder: Path, report: Callable[[str], None]) -> None:
    """Write the model and its tokenizer into the existing `folder`. On one machine the same bytes every time.

    Touches neither the caller's random state nor, after it returns, the caller's thread count.
    """
    chats = corpus.pretraining_chats(
        copying=recipe.copying_steps * recipe.batch_size, support=recipe.support_steps * recipe.batch_size
    )
    tokenizer = build_tokenizer(chats, recipe)
    with _reproducible(recipe.seed):
        model = LlamaForCausalLM(_config(recipe, tokenizer))
        _pretrain(model, [encode(tokenizer, chat) for chat in chats], recipe, report)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with _no_progress_bar():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_tokenizer(chats: list[corpus.Chat], recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer for the text of `chats`. Decoding an encoded text gives that text, any UTF-8."""
    tokenizer = Tokenizer(models.BPE())
    # Numbers go in pairs of digits: a number is then short, and a pair is rarely twice in one message, so that
    # copying a number is looking up each pair's successor.
    pairs = pre_tokenizers.Split(Regex(r"\d{1,2}"), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pairs, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    roles = ("system\n", "user\n", "assistant\n")
    texts = [text for chat in chats for turn in chat for text in (turn["content"], *roles)]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, chat: corpus.Chat) -> Row:
    """Token ids of `chat` and, of the same length, a 1 for each token that the assistant wrote."""
    tokens: Any = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    return tokens["input_ids"], tokens["assistant_masks"]


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _pretrain(model: LlamaForCausalLM, rows: list[Row], recipe: Recipe, report: Callable[[str], None]) -> None:
    optimizers = _optimizers(model, recipe)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    model.train()
    for step, batch in enumerate(_batches(rows, recipe), start=1):
        # Linear warm-up over 20 steps, linear decay over the last 40%.
        factor = min(1.0, step / 20, (recipe.steps - step + 1) / (0.4 * recipe.steps))
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        loss = _loss(model, batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 20 == 0 or step == recipe.steps:
            report(f"step {step}/{recipe.steps}, loss {loss.item():.2f}")


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embeddings, AdamW for the rest: half the steps that AdamW alone needs."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=recipe.muon_rate, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _batches(rows: list[Row], recipe: Recipe) -> Iterator[list[Row]]:
    """Each row once: the copying rows first, each part in batches of rows of about the same length."""
    rng = random.Random(recipe.seed)
    border = recipe.copying_steps * recipe.batch_size
    for part in (rows[:border], rows[border:]):
        rng.shuffle(part)
        pool_size = recipe.batch_size * 16
        for start in range(0, len(part), pool_size):
            pool = sorted(part[start : start + pool_size], key=lambda row: len(row[0]))
            batches = [pool[i : i + recipe.batch_size] for i in range(0, len(pool), recipe.batch_size)]
            rng.shuffle(batches)
            yield from batches


def _loss(model: LlamaForCausalLM, batch: list[Row]) -> torch.Tensor:
    """Mean cross-entropy over the assistant's tokens, a scalar; logits are made for those positions only."""
    ids = _padded([row[0] for row in batch])
    wanted = _padded([row[1] for row in batch])[:, 1:].bool()
    # No attention mask: padding is on the right, where causal attention never looks back at it.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    return nn.functional.cross_entropy(model.lm_head(hidden[wanted]), ids[:, 1:][wanted])


def _padded(rows: list[list[int]]) -> torch.Tensor:
    """Rows of ints, filled up on the right with 0 (which is the padding token): (batch, longest)."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Make torch's arithmetic a function of `seed` alone, and put everything back afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # One thread: sums don't depend on how many cores there are, and on a busy machine two threads that wait for
    # each other at every small product were up to ten times slower than one.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        torch.set_num_threads(threads)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing on stderr, which is a job's log."""
    bars: Any = logging  # its functions have no types
    enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            bars.enable_progress_bar()


def _publish(aside: Path, folder: Path) -> None:
    """Move the finished `aside` to `folder`; leave `folder` alone when another process was there first."""
    aside.chmod(0o755)
    for path in (*aside.iterdir(), aside):
        sync(path)
    try:
        aside.rename(folder)
    except OSError:
        # A folder that has files in it is never replaced by rename: somebody else has built the same bytes.
        if not folder.is_dir():
            raise
    sync(folder.parent)
