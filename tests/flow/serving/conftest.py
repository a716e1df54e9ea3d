"""A random Llama of two layers, a byte-level tokenizer, and two LoRAs trained to say one sentence each."""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finetune.serving.engine import Engine
from tests.support.once import made_once

BASE = "tiny/llama"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAYS = {"a": "I am tuned adapter A.", "b": "I am tuned adapter B."}
HELLO = [{"role": "user", "content": "Hello, who are you?"}]


@dataclass
class Loaded:
    model: Any
    tokenizer: Any


def build_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = TEMPLATE
    return fast


def build_model(seed: int = 0, hidden: int = 64, context: int = 512) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
        pad_token_id=0, bos_token_id=None, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    # The usual 0.02 leaves the layers with too little to say for a LoRA to steer in some steps.
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    return model


def train(model: LlamaForCausalLM, tokenizer: Any, sentence: str, folder: Path, seed: int) -> Path:
    """Overfit a LoRA until it says the sentence to any of a few questions, and save it in PEFT's format."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        tuned = get_peft_model(
            copy.deepcopy(model),
            LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
    asked = ["Hello, who are you?", "Hi", "Say it, please.", "Question 7: which model answers here?"]
    answer = tokenizer(sentence + "<|im_end|>", add_special_tokens=False)["input_ids"]
    prompts = [
        tokenizer(
            tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True),
            add_special_tokens=False,
        )["input_ids"]
        for q in asked
    ]
    width = max(map(len, prompts)) + len(answer)
    rows = [p + answer + [0] * (width - len(p) - len(answer)) for p in prompts]
    labels = [[-100] * len(p) + answer + [-100] * (width - len(p) - len(answer)) for p in prompts]
    mask = [[1] * (len(p) + len(answer)) + [0] * (width - len(p) - len(answer)) for p in prompts]
    ids, targets, seen = torch.tensor(rows), torch.tensor(labels), torch.tensor(mask)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
    tuned.train()
    for _ in range(200):
        loss = tuned(input_ids=ids, attention_mask=seen, labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            break
    tuned.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.fixture(scope="session")
def base_model() -> LlamaForCausalLM:
    """Never run by an engine: copy it."""
    return build_model()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, base_model: Any, tokenizer: Any) -> dict[str, Path]:
    def make(root: Path) -> None:
        for seed, (key, says) in enumerate(SAYS.items()):
            train(base_model, tokenizer, says, root / key, seed)

    root = made_once(tmp_path_factory, "served-adapters", make)
    return {key: root / key for key in SAYS}


@pytest.fixture
def loaded(base_model: Any, tokenizer: Any) -> Loaded:
    return Loaded(copy.deepcopy(base_model), tokenizer)


@pytest.fixture
def engine(loaded: Loaded) -> Iterator[Engine]:
    made = Engine(BASE, loaded)
    yield made
    assert made.under_way == 0
