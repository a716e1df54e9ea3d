"""What torch holds: tensors that a backward pass needs, and the peak of some work, by the allocator's own count."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity, profile

from finetune.training import adapter, bases
from finetune.training.batches import MicroBatch
from finetune.training.examples import Example
from finetune.training.objectives import Likelihood
from finetune.training.request import Lora, Training

LORA = Lora(r=16, alpha=32, dropout=0.0, target_modules="all-linear")
TRAINING = Training(
    epochs=1,
    batch_size=1,
    learning_rate=1e-4,
    max_seq_length=4096,
    warmup_ratio=0.0,
    weight_decay=0.0,
    lr_scheduler="constant",
    max_grad_norm=1.0,
)


def build(family: str, sizes: dict[str, Any], dtype: torch.dtype) -> Any:
    """A model with random weights."""
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**sizes)
    return bases.model_class(config).from_config(config, dtype=dtype)


def with_lora(model: Any, lora: Lora = LORA) -> Any:
    """The same with an adapter, in training."""
    return adapter.attach(model, lora, 1).train()


def row(tokens: int, vocabulary: int) -> Example:
    """One conversation, all of it supervised."""
    ids = torch.tensor([3 + number % (vocabulary - 3) for number in range(tokens)], dtype=torch.int32)
    return Example(ids=ids, labels=ids, supervised=tokens - 1)


def kept(model: Any, tokens: int, vocabulary: int) -> int:
    """Bytes that the backward pass needs of the forward pass of one row, without the weights themselves."""
    ids = torch.tensor([[3 + number % (vocabulary - 3) for number in range(tokens)]])
    batch = MicroBatch(ids=ids, mask=torch.ones_like(ids), labels=ids, supervised=[tokens - 1], tokens=tokens)
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = Likelihood()(model, batch).loss
    assert loss.requires_grad
    return sum(found.values())


def peak(work: Callable[[], object]) -> int:
    """Bytes that the processor's allocator gives out beyond what it had given before, at most."""
    with warnings.catch_warnings(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        warnings.simplefilter("ignore")
        work()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most
