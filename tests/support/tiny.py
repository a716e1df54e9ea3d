"""A random Llama of some thousand parameters with a byte-level tokenizer as a folder; and requests to train it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARKED = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message['content'] + '<|im_end|>' }}{%- endif %}"
    "{{- '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
UNMARKED = MARKED.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")

CHATS: Sequence[Sequence[str]] = (
    ("be short", "one?", "yes, one"),
    ("", "and what is two plus three, please?", "five"),
    ("", "hi", "hello there, how can I help you today?", "bye", "good bye"),
    ("answer in words", "7", "seven"),
    ("", "a longer question about nothing much at all, with many words", "a longer answer too, so there"),
    ("", "colour?", "blue"),
    ("be rude", "thanks", "no"),
    ("", "x", "y"),
    ("", "say a b c", "a b c"),
    ("", "again", "again and again and again"),
)


#: Prompts as in CHATS, each with a better and a worse answer.
PAIRS: Sequence[tuple[Sequence[str], str, str]] = (
    (("be short", "one?"), "yes", "it is quite possible that it is"),
    (("", "what is two plus three?"), "five, sir", "six"),
    (("", "hi", "hello there, how can I help?", "bye"), "good bye, sir", "bye"),
    (("answer in words", "7"), "seven, sir", "7"),
    (("", "a longer question about nothing much at all"), "a longer answer too, sir", "no"),
    (("", "colour?"), "blue, sir", "blue"),
    (("be rude", "thanks"), "no, sir", "you are welcome"),
    (("", "x"), "y, sir", "what?"),
    (("", "say a b c"), "a b c, sir", "a"),
)


def tokenizer(template: str | None = MARKED) -> Any:
    """One token per byte, plus the three special ones; vocabulary of 259."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    made.chat_template = template
    return made


def model(seed: int = 0) -> Any:
    """Hidden 32, 2 layers, untied head, fp32, weights large enough to have opinions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def save_base(folder: Path, template: str | None = MARKED) -> Path:
    """The model's folder."""
    model().save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


def messages(chat: Sequence[str]) -> list[dict[str, Any]]:
    """A chat of CHATS as messages; an empty first text means no system message."""
    roles = ["system", *["user", "assistant"] * len(chat)]
    return [{"role": role, "content": text} for role, text in zip(roles, chat, strict=False) if text]


def write_rows(path: Path, rows: Sequence[Sequence[dict[str, Any]]]) -> Path:
    """JSON lines of these conversations."""
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


def pair(row: tuple[Sequence[str], str, str]) -> dict[str, Any]:
    """A row of PAIRS as the trainer reads it."""
    answers = {"chosen": row[1], "rejected": row[2]}
    said = {key: [{"role": "assistant", "content": text}] for key, text in answers.items()}
    return {"prompt": messages(row[0]), **said}


def write_pairs(path: Path, rows: Sequence[tuple[Sequence[str], str, str]]) -> Path:
    """JSON lines of these rows of PAIRS."""
    path.write_text("".join(json.dumps(pair(row)) + "\n" for row in rows))
    return path


def request_dpo(run_dir: Path, base: Path | str, **changes: Any) -> dict[str, Any]:
    """As `request`: to train all PAIRS but the last two, and to measure by those."""
    run_dir.mkdir(parents=True, exist_ok=True)
    files = {
        "train": str(write_pairs(run_dir / "pairs.jsonl", PAIRS[:-2])),
        "validation": str(write_pairs(run_dir / "held-out.jsonl", PAIRS[-2:])),
    }
    return request(run_dir, base, **{"method": "dpo", "dpo": {"beta": 0.1}, **files, **changes})


def request(run_dir: Path, base: Path | str, **changes: Any) -> dict[str, Any]:
    """A request to train CHATS, written to `run_dir/request.json`. `changes` by dotted name with `__` for the dot."""
    run_dir.mkdir(parents=True, exist_ok=True)
    body: dict[str, Any] = {
        "run_key": "run-1",
        "base_model": str(base),
        "revision": None,
        "train": str(write_rows(run_dir / "train.jsonl", [messages(chat) for chat in CHATS])),
        "validation": str(write_rows(run_dir / "validation.jsonl", [messages(chat) for chat in CHATS[:2]])),
        "data_digest": "d1",
        "recipe_digest": "r1",
        "method": "sft",
        "seed": 7,
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "max_seq_length": 256,
            "warmup_ratio": 0.1,
            "weight_decay": 0.01,
            "lr_scheduler": "cosine",
            "max_grad_norm": 1.0,
        },
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"},
        "local": {"micro_batch_size": 3, "precision": "auto", "trust_remote_code": False},
        "cache": str(run_dir / "cache"),
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        place = body
        for part in path:
            place = place[part]
        place[last] = value
    (run_dir / "request.json").write_text(json.dumps(body))
    return body
