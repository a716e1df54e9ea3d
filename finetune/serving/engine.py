"""One base model in memory and any number of LoRA adapters on it, asked by any number of threads.

Threads and adapters. PEFT switches an adapter on in the model itself, so whoever switches while another thread
is in a forward pass changes that thread's answer. One lock therefore covers "switch, then one forward pass",
and nothing longer: each answer has its own KV cache, so answers on different adapters take turns token by
token, a slow reader holds up nobody, and loading an adapter waits for one token, not for one answer. Mixed
batches (PEFT's `adapter_names`) would be faster under load; they are not exact for DoRA, and right comes first.

The base answers with every adapter layer off, and after the last adapter is unloaded PEFT's layers are taken
out of it. Adapters that would write into the base are refused (`adapters.check_fits`).
"""

import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from finetune.jobs import Json
from finetune.ports import Chat, LoadedBase
from finetune.serving.adapters import Shape, check_digest, check_fits, read_adapter
from finetune.serving.answer import Answer, EngineChat
from finetune.serving.asks import Ask, fault
from finetune.serving.fair import FairLock
from finetune.serving.prompts import Prompts, stop_ids
from finetune.serving.text import detokenise

#: Longest answer of a model that states no context length.
_LONGEST = 4096
#: No adapter has this name.
_UNKNOWN = "?"


@dataclass(kw_only=True)
class _Adapter:
    path: Path
    #: PEFT's name for it. Ours may hold dots, which PyTorch does not allow; never used twice.
    name: str
    template: str | None
    #: Answers in the making that use it.
    users: int = 0
    #: Unloaded by its owner; goes when the last user ends.
    gone: bool = False


class Engine:
    """Answers as one base model or as one of its adapters. Safe to use from several threads.

    Takes `loaded` over: nobody else may run or change the model afterwards.
    """

    def __init__(self, base_name: str, loaded: LoadedBase) -> None:
        self.base_name = base_name
        self._model = loaded.model.eval()
        self._tokenizer = loaded.tokenizer
        self._prompts = Prompts(base_name, loaded.tokenizer)
        self._lock = FairLock()
        self._peft: Any = None
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = itertools.count(1)
        self._on: str | None = None
        self._under_way = 0
        self._takes = frozenset(inspect.signature(self._model.forward).parameters)
        self.stop_ids = stop_ids(self._model, self._tokenizer)
        #: Tokens that prompt and answer may have together; None when the model's config sets no limit.
        self.context: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def adapters(self) -> dict[str, Path]:
        """Folders of the adapters that can be asked now, by id."""
        with self._lock:
            return {adapter_id: adapter.path for adapter_id, adapter in self._adapters.items()}

    @property
    def under_way(self) -> int:
        """Answers that have begun and not ended."""
        return self._under_way

    def load_adapter(self, adapter_id: str, path: Path, digest: str | None = None) -> None:
        """Make the adapter of this folder answer to `adapter_id`. Idempotent for the same folder.

        The weights are copied into memory: the folder may go afterwards. Raises ServingError: E750 (does not fit
        this base), E751 (no adapter there), E752 (the id belongs to another folder), E838 (the files have another
        digest). On an error nothing is loaded.
        """
        path = path.absolute()
        with self._lock:
            held = self._adapters.get(adapter_id)
            if held is not None and held.path == path:
                return
            if held is not None:
                raise fault(
                    "E752",
                    f"the adapter {adapter_id} has already been loaded from {held.path}",
                    f"{path} may hold other weights, and one name must not stand for two models",
                    "unload it first, or give the other adapter its own name",
                )
            check_digest(path, digest)
            files = read_adapter(path)
            check_fits(files, self.base_name, self._weight_shapes())
            name = f"adapter_{next(self._numbers)}"
            self._inject(name, path)
            self._adapters[adapter_id] = _Adapter(path=path, name=name, template=files.template)

    def unload_adapter(self, adapter_id: str) -> bool:
        """Refuse new questions to the adapter at once; free it when the answers under way have ended.

        False when there is no such adapter.
        """
        with self._lock:
            adapter = self._adapters.pop(adapter_id, None)
            if adapter is None:
                return False
            adapter.gone = True
            self._drop_unused(adapter)
            return True

    def generate(self, ask: Ask, adapter_id: str | None) -> Answer:
        """Begin an answer; None asks the base. Reads the prompt, runs no forward pass yet.

        Raises ServingError: E753 (adapter not loaded), E754 (prompt fills the context), E759 (chat template).
        """
        adapter = self._adapter(adapter_id)
        prompt = self._prompts.ids(ask.messages, adapter.template if adapter else None)
        room = self._room(len(prompt), ask.max_tokens)
        return Answer(self, ask, prompt, room, adapter_id)

    def chat(self, adapter_id: str | None) -> Chat:
        """The adapter, or the base for None, as something to chat with."""
        return EngineChat(lambda ask: self.generate(ask, adapter_id))

    def fits(self, messages: Sequence[Json], adapter_id: str | None, max_tokens: int) -> bool:
        """Whether the context holds these messages and `max_tokens` more; with 1, whether there can be any answer.

        No forward pass. Raises ServingError: E753 (adapter not loaded), E759 (chat template).
        """
        adapter = self._adapter(adapter_id)
        prompt = self._prompts.ids(messages, adapter.template if adapter else None)
        return self.context is None or len(prompt) + max_tokens <= self.context

    def answers(
        self,
        prompts: Sequence[Sequence[Json]],
        adapter_id: str | None,
        max_tokens: int,
        *,
        batch_size: int = 8,
    ) -> list[str]:
        """Greedy answers to many prompts, in their order, computed `batch_size` at a time. Blocks till all are done.

        Equal to asking one by one up to rounding: in fp32 the same text; in bf16 two almost equally likely tokens
        can change places. Raises as `generate` does, before the first forward pass.
        """
        adapter = self._adapter(adapter_id)
        rows = [self._prompts.ids(messages, adapter.template if adapter else None) for messages in prompts]
        rooms = [self._room(len(row), max_tokens) for row in rows]
        # Neighbours of like length pad little.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        texts = [""] * len(rows)
        with self.using(adapter_id) as held:
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                ids = self._greedy([rows[i] for i in part], [rooms[i] for i in part], held)
                for index, made in zip(part, ids, strict=True):
                    texts[index] = detokenise(made, self.decode)
        return texts

    def decode(self, ids: list[int]) -> str:
        """Text of the ids, special tokens left out, broken characters as U+FFFD."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    # -- prompt ---------------------------------------------------------------------------------------------

    def _adapter(self, adapter_id: str | None) -> _Adapter | None:
        if adapter_id is None:
            return None
        with self._lock:
            adapter = self._adapters.get(adapter_id)
        if adapter is None:
            raise fault(
                "E753",
                f"the adapter {adapter_id} is not loaded",
                "it was never loaded or has been unloaded; the base model does not answer in its place",
                "load it again, or ask for another model",
            )
        return adapter

    def _room(self, prompt_tokens: int, max_tokens: int | None) -> int:
        """How many tokens may be made after this prompt."""
        if self.context is None:
            return max_tokens if max_tokens is not None else _LONGEST
        left = self.context - prompt_tokens
        if left < 1:
            raise fault(
                "E754",
                f"the messages are {prompt_tokens} tokens, the context of {self.base_name} is {self.context}",
                "prompt and answer share the context, so no token is left for an answer",
                "shorten the messages",
                field="messages",
            )
        return left if max_tokens is None else min(left, max_tokens)

    # -- forward passes -------------------------------------------------------------------------------------

    @contextmanager
    def using(self, adapter_id: str | None) -> Iterator[_Adapter | None]:
        """Keep the adapter in memory while the block runs, also when it is unloaded meanwhile."""
        with self._lock:
            adapter = self._adapter(adapter_id)
            self._under_way += 1
            if adapter is not None:
                adapter.users += 1
        try:
            yield adapter
        finally:
            with self._lock:
                self._under_way -= 1
                if adapter is not None:
                    adapter.users -= 1
                    self._drop_unused(adapter)

    def step(self, ids: list[int], cache: Any, held: _Adapter | None) -> tuple[torch.Tensor, Any]:
        """Logits (vocabulary) after the last of `ids`, in fp32 on the CPU, and the cache for the next step."""
        row = torch.tensor([ids], device=self._model.device)
        logits, cache = self._forward(held, input_ids=row, past_key_values=cache)
        return logits[0], cache

    def picker(self, ask: Ask) -> Callable[[torch.Tensor], int]:
        """Greedy at temperature 0, else sampling with a generator of its own: answers do not disturb each other."""
        if ask.temperature == 0:
            return lambda logits: int(_sound(logits).argmax())
        generator = torch.Generator()
        if ask.seed is None:
            generator.seed()
        else:
            generator.manual_seed(ask.seed)
        return lambda logits: _sample(_sound(logits), ask, generator)

    def _forward(self, held: _Adapter | None, **inputs: Any) -> tuple[torch.Tensor, Any]:
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = 1
        try:
            with self._lock, torch.inference_mode():
                self._switch(None if held is None else held.name)
                out = self._model(**inputs, use_cache=True, return_dict=True)
                return out.logits[:, -1].float().cpu(), out.past_key_values
        except RuntimeError as exc:
            raise fault(
                "E758",
                f"{self.base_name} failed while answering",
                str(exc).partition("\n")[0],
                "ask for less (shorter messages, lower max_tokens) when memory ran out; else restart the server",
            ) from exc

    def _greedy(self, rows: list[list[int]], rooms: list[int], held: _Adapter | None) -> list[list[int]]:
        """New ids of each row, its end token left out. Rows are padded on the left to one length."""
        width = max(len(row) for row in rows)
        device = self._model.device
        pad = min(self.stop_ids, default=0)
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        made: list[list[int]] = [[] for _ in rows]
        live = set(range(len(rows)))
        cache = None
        while live:
            inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
            if "position_ids" in self._takes:
                inputs["position_ids"] = positions
            logits, cache = self._forward(held, **inputs)
            tokens = _sound(logits).argmax(-1)
            for index in sorted(live):
                token = int(tokens[index])
                if token not in self.stop_ids:
                    made[index].append(token)
                if token in self.stop_ids or len(made[index]) == rooms[index]:
                    live.discard(index)
            ids = tokens.to(device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            # Rows that have ended ride along; their positions must not leave the model's tables.
            positions = (positions[:, -1:] + 1).clamp(max=(self.context or sys.maxsize) - 1)
        return made

    # -- adapters in the model ------------------------------------------------------------------------------

    def _switch(self, name: str | None) -> None:
        """Make this adapter, or none for None, the one that the next forward pass uses. Under the lock."""
        if self._peft is None or name == self._on:
            return
        # Should the switch break off half way, the next one must not believe the old note.
        self._on = _UNKNOWN
        if name is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(name, inference_mode=True)
        self._on = name

    def _inject(self, name: str, path: Path) -> None:
        """Put the adapter's layers and weights into the model, or leave it as it was and raise E750."""
        self._on = _UNKNOWN
        try:
            if self._peft is None:
                config = PeftConfig.from_pretrained(str(path))
                config.inference_mode = True
                with warnings.catch_warnings():
                    # PEFT 0.21 asks transformers 5 by an old name; nothing that a user could change.
                    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
                    self._peft = PeftModel(self._model, config, adapter_name=name)
            result = self._peft.load_adapter(str(path), name, torch_device=str(self._model.device))
            self._model.eval()
            if result.missing_keys or result.unexpected_keys:
                strays = [*result.missing_keys, *result.unexpected_keys]
                raise ValueError(f"{len(strays)} weights are missing or have no place, such as {strays[0]}")
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as exc:
            self._eject(name)
            raise fault(
                "E750",
                f"the adapter in {path} does not fit {self.base_name}",
                str(exc).partition("\n")[0],
                "serve it on the base model that it was trained on",
            ) from exc

    def _eject(self, name: str) -> None:
        """Take the adapter's layers out; with the last one, PEFT's own layers too."""
        self._on = _UNKNOWN
        others = [] if self._peft is None else [other for other in self._peft.peft_config if other != name]
        if others:
            if name in self._peft.peft_config:
                # PEFT warns when it has to choose another active adapter by itself.
                self._peft.base_model.set_adapter(others[0], inference_mode=True)
                self._peft.delete_adapter(name)
            return
        self._peft = None
        # Not PEFT's unload: this also mends a model that PEFT left half changed.
        for place, module in list(self._model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                self._model.set_submodule(place, module.get_base_layer())
        if hasattr(self._model, "peft_config"):
            # PEFT's own mark; with it the next adapter would be taken for a second PEFT model around this one.
            del self._model.peft_config

    def _drop_unused(self, adapter: _Adapter) -> None:
        if adapter.gone and adapter.users == 0:
            self._eject(adapter.name)

    def _weight_shapes(self) -> dict[str, Shape]:
        """Shapes of the base's weights by module name, PEFT's wrappers looked through."""
        return {
            name.removesuffix(".base_layer"): tuple(module.weight.shape)
            for name, module in self._model.named_modules()
            if isinstance(getattr(module, "weight", None), torch.Tensor) and ".lora_" not in name
        }


def _sound(logits: torch.Tensor) -> torch.Tensor:
    """The logits, unless they hold no numbers: greedy choice would make some answer of them."""
    if not bool(torch.isfinite(logits.amax(-1)).all()):
        raise fault(
            "E758",
            "the model computed no numbers (NaN or infinity)",
            "its weights are broken or overflow in this precision, so any answer would be made up",
            "train the adapter again with a lower learning rate, or load the base in float32",
        )
    return logits


def _sample(logits: torch.Tensor, ask: Ask, generator: torch.Generator) -> int:
    # Less the greatest first: no overflow however low the temperature.
    probabilities = torch.softmax((logits - logits.max()) / ask.temperature, dim=-1)
    if ask.top_p >= 1:
        return int(torch.multinomial(probabilities, 1, generator=generator))
    likely, tokens = probabilities.sort(descending=True, stable=True)
    # A token stays when those before it do not yet reach top_p: the first always stays.
    likely = torch.where(likely.cumsum(-1) - likely < ask.top_p, likely, torch.zeros_like(likely))
    return int(tokens[torch.multinomial(likely, 1, generator=generator)])
