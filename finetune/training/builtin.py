"""The base model `builtin:tiny-llama`, built on the spot from our own text.

The quickstart must run where no model hub can be reached, and a LoRA on random weights learns nothing that
holds for unseen text. So we build a small Llama with its tokenizer, teach it for some seconds to read support
messages and to answer politely (`finetune.training.corpus`), and save it as ordinary `transformers` files: the
code that loads a Hugging Face folder loads this one and knows no difference.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finetune.training import corpus

BUILTINS: Final[frozenset[str]] = frozenset({"tiny-llama"})

PAD: Final = "<|pad|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
IGNORED: Final = -100

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
    """What the built model depends on: one changed value makes another folder."""

    revision: int = 1
    seed: int = 11
    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 256
    layers: int = 3
    heads: int = 4
    context: int = 2048
    chats: int = 6000
    steps: int = 300
    batch_size: int = 24
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    threads: int = 2
