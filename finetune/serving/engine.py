"""One base model in memory and any number of LoRA adapters on it, asked by any number of threads.

Threads and adapters. PEFT switches an adapter on in the model itself, so whoever switches while another thread
is in a forward pass changes that thread's answer. One lock therefore covers "choose, then one forward pass", and
nothing longer. Answers under way go through the model together where their adapters allow it (`batches`), else they
take turns token by token: a slow reader holds up nobody, and loading an adapter waits for one pass, not for one answer.

The base answers with every adapter layer off, and after the last adapter is unloaded PEFT's layers are taken
out of it. Adapters that would write into the base are refused (`adapters.check_fits`).
"""

import inspect
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from finetune.jobs import Json
from finetune.ports import Chat, LoadedBase
from finetune.serving.adapters import check_digest, check_fits, read_adapter
from finetune.serving.answer import Answer, EngineChat
from finetune.serving.asks import Ask, fault
from finetune.serving.batches import Pick, Rounds, Row
from finetune.serving.fair import FairLock
from finetune.serving.layers import AdapterLayers
from finetune.serving.prompts import Prompts, stop_ids
from finetune.serving.text import detokenise

#: Longest answer of a model that states no context length.
_LONGEST = 4096


@dataclass(kw_only=True)
class _Adapter:
    path: Path
    #: PEFT's name for it. Ours may hold dots, which PyTorch does not allow; never used twice.
    name: str
    template: str | None
    #: Rows of one kind can be in one pass: empty where adapters can be mixed, else the name.
    kind: str
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
        self._layers = AdapterLayers(base_name, self._model)
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = itertools.count(1)
        #: Adapters to take out as soon as no pass is running.
        self._spent: list[str] = []
        self._passing = False
        self._under_way = 0
        self._takes = frozenset(inspect.signature(self._model.forward).parameters)
        self.stop_ids = stop_ids(self._model, self._tokenizer)
        #: Tokens that prompt and answer may have together; None when the model's config sets no limit.
        self.context: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._rounds = Rounds(self._lock, self._forward, self.stop_ids, device=self._model.device, context=self.context)

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
            check_fits(files, self.base_name, self._layers.shapes())
            name = f"adapter_{next(self._numbers)}"
            self._layers.inject(name, path)
            kind = "" if self._layers.mixes(name) else name
            self._adapters[adapter_id] = _Adapter(path=path, name=name, template=files.template, kind=kind)

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
                made = self._together([rows[i] for i in part], [rooms[i] for i in part], held)
                for index, ids in zip(part, made, strict=True):
                    texts[index] = detokenise([token for token in ids if token not in self.stop_ids], self.decode)
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

    def tokens(self, prompt: list[int], room: int, ask: Ask, held: _Adapter | None) -> Generator[int, None, None]:
        """The answer's tokens, at most `room`, the one that ends the turn included. Close it to make no more.

        Raises ServingError E758.
        """
        row = self._row(prompt, room, self._picker(ask), held)
        try:
            while (token := self._rounds.token(row)) is not None:
                yield token
        finally:
            self._rounds.close(row)

    def _row(self, prompt: list[int], room: int, pick: Pick, held: _Adapter | None) -> Row:
        name, kind = (held.name, held.kind) if held else (None, "")
        return Row(prompt, room, name, pick, kind=kind)

    def _together(self, prompts: list[list[int]], rooms: list[int], held: _Adapter | None) -> Iterator[list[int]]:
        """Greedy ids of each prompt."""
        rows = [self._row(ids, room, _greedy, held) for ids, room in zip(prompts, rooms, strict=True)]
        for row, room in zip(rows, rooms, strict=True):
            row.ahead = room
        try:
            self._rounds.begin(rows)
            for row in rows:
                yield list(iter(partial(self._rounds.token, row), None))
        finally:
            for row in rows:
                self._rounds.close(row)

    def _picker(self, ask: Ask) -> Pick:
        """Greedy at temperature 0, else sampling with a generator of its own: answers do not disturb each other."""
        if ask.temperature == 0:
            return _greedy
        generator = torch.Generator()
        if ask.seed is None:
            generator.seed()
        else:
            generator.manual_seed(ask.seed)
        return lambda logits: _sample(_sound(logits), ask, generator)

    def _forward(self, adapters: Sequence[str | None], inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """One pass (`batches.Forward`). Under the lock."""
        inputs = {key: value for key, value in inputs.items() if key != "position_ids" or key in self._takes}
        if "logits_to_keep" in self._takes:
            inputs["logits_to_keep"] = 1
        self._passing = True
        try:
            with torch.inference_mode():
                self._layers.choose(adapters)
                out = self._model(**inputs, use_cache=True, return_dict=True)
                return out.logits[:, -1].float().cpu(), out.past_key_values
        except RuntimeError as exc:
            raise fault(
                "E758",
                f"{self.base_name} failed while answering",
                str(exc).partition("\n")[0],
                "ask for less (shorter messages, lower max_tokens) when memory ran out; else restart the server",
            ) from exc
        finally:
            self._passing = False
            self._take_out()

    # -- adapters that nobody needs any more -------------------------------------------------------------------

    def _drop_unused(self, adapter: _Adapter) -> None:
        if adapter.gone and adapter.users == 0:
            self._spent.append(adapter.name)
            self._take_out()

    def _take_out(self) -> None:
        # A collected answer can come here in the middle of a pass of the same thread.
        while self._spent and not self._passing:
            self._layers.eject(self._spent.pop())


def _greedy(logits: torch.Tensor) -> int:
    return int(_sound(logits).argmax())


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
