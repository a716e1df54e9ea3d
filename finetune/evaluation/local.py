"""Weights in this process: one base in memory, its adapters put on in turn. The only place here that imports torch.

Answers come from the engine that serves (so a gateway of ours says the same), losses from the bare model: the engine
is given up for them, and made anew when answers are asked for again. Answers to questions with tools come from
`transformers`' own generate, because the engine takes no tools.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from finetune.errors import ServingError
from finetune.evaluation import calls
from finetune.evaluation.faults import fault
from finetune.evaluation.models import Answer, Loss, Model, Question
from finetune.jobs import Json
from finetune.ports import BaseLoader, LoadedBase

#: Tokens of one forward pass, padding included, unless a single row has more: logits take 4 bytes a word of the
#: vocabulary for each.
_BATCH_TOKENS: Final = 2048


class Encoded(NamedTuple):
    """A row as a training sees it: token ids, and which of them it supervises. Plain lists or tensors [T]."""

    ids: Any
    supervised: Any


class LocalEngine(Protocol):
    """What is needed of an engine (`finetune.serving` has one)."""

    #: Ids that end an answer.
    stop_ids: frozenset[int]
    #: Tokens that prompt and answer may have together; None: no limit.
    context: int | None

    def load_adapter(self, adapter_id: str, path: Path) -> None:
        """Make the adapter of this folder answer to this id. Raises ServingError when it does not fit."""
        ...

    def unload_adapter(self, adapter_id: str) -> bool:
        """Take it out of the model."""
        ...

    def fits(self, messages: Sequence[Json], adapter_id: str | None, max_tokens: int) -> bool:
        """Whether the context holds these messages and so many tokens more."""
        ...

    def answers(self, prompts: Sequence[Sequence[Json]], adapter_id: str | None, max_tokens: int) -> list[str]:
        """Greedy answers, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What other rooms have, handed in: this one knows none of them."""

    load: BaseLoader
    #: An engine that takes the loaded base over, by its name.
    engine: Callable[[str, LoadedBase], LocalEngine]
    #: From a tokenizer to what encodes rows as a training does. Raises ValueError for rows that it cannot take.
    encoder: Callable[[Any], Callable[[Mapping[str, Any]], Encoded]]


class Weights:
    """One base model in this process, and any number of adapters on it. For one thread."""

    def __init__(self, base_model: str, parts: Parts, say: Callable[[str], None]) -> None:
        """Loads the base: blocks, may download. Raises what `parts.load` raises."""
        self._name, self._parts = base_model, parts
        self._loaded = parts.load(base_model, say)
        self._encode = parts.encoder(self._loaded.tokenizer)
        self._engine = parts.engine(base_model, self._loaded)
        self._engaged = True
        #: Ids of the adapters in the engine.
        self._on: set[str] = set()

    def base(self, name: str | None = None) -> Model:
        """The base model itself, under its own name or this one."""
        return self._model(name or self._name, None)

    def adapter(self, name: str, folder: Path) -> Model:
        """The base with this adapter on. Raises ServingError when it does not fit: PEFT alone would not tell."""
        self._put_on(folder)
        return self._model(name, folder)

    def _model(self, name: str, folder: Path | None) -> Model:
        asked = _Asked(self, folder)
        return Model(name=name, answerer=asked, scorer=asked, weights=partial(self.bare, folder))

    # -- the engine, or the bare model ----------------------------------------------------------------------

    def answers(self, questions: Sequence[Question], max_tokens: int, folder: Path | None) -> list[Answer]:
        """See `Answerer.answers`, for the base (None) or an adapter."""
        adapter_id = self._put_on(folder)
        made: dict[int, Answer] = {}
        plain, with_tools = [], []
        for index, question in enumerate(questions):
            if question.tools:
                with_tools.append(index)
            elif (why := self._unfit(question, adapter_id)) is None:
                plain.append(index)
            else:
                made[index] = Answer(text="", fault=why)
        said = self._engine.answers([questions[index].messages for index in plain], adapter_id, max_tokens)
        for index, text in zip(plain, said, strict=True):
            made[index] = Answer(text=text, tokens=self._count(text))
        if with_tools:
            with self.bare(folder) as (model, tokenizer):
                for index in with_tools:
                    made[index] = self._use_tools(model, tokenizer, questions[index], max_tokens)
        return [made[index] for index in range(len(questions))]

    def losses(self, rows: Sequence[Json], folder: Path | None) -> list[Loss]:
        """See `Scorer.losses`, for the base (None) or an adapter. Rows longer than the context are cut to it."""
        encoded = [self._encoded(row) for row in rows]
        order = sorted(range(len(rows)), key=lambda index: len(encoded[index].ids))
        found: dict[int, Loss] = {}
        with self.bare(folder) as (model, _):
            for part in _batches(order, [len(each.ids) for each in encoded]):
                found |= zip(part, self._nll(model, [encoded[index] for index in part]), strict=True)
        return [found[index] for index in range(len(rows))]

    @contextmanager
    def bare(self, folder: Path | None) -> Iterator[tuple[Any, Any]]:
        """Model and tokenizer, with the layers of an adapter that `adapter` has taken while the block runs.

        The model's own generate ends with the tokens that end the engine's answers: tuned models learn to end with the
        chat template's, which a base's generation config need not name.
        """
        for adapter_id in sorted(self._on):
            self._engine.unload_adapter(adapter_id)
        self._on.clear()
        self._engaged = False
        model = self._loaded.model
        with self._ending(model), _wearing(model, folder):
            yield model, self._loaded.tokenizer

    @contextmanager
    def _ending(self, model: Any) -> Iterator[None]:
        config = model.generation_config
        before = config.eos_token_id, config.pad_token_id
        stops = sorted(self._engine.stop_ids)
        config.eos_token_id = stops or None
        if config.pad_token_id is None and stops:
            config.pad_token_id = stops[0]
        try:
            yield
        finally:
            config.eos_token_id, config.pad_token_id = before

    def _put_on(self, folder: Path | None) -> str | None:
        """The id of an adapter that the engine has, or is given now: it refuses what does not fit. None: the base."""
        if not self._engaged:
            self._engine = self._parts.engine(self._name, self._loaded)
            self._engaged = True
        if folder is None:
            return None
        adapter_id = str(folder)
        if adapter_id not in self._on:
            self._engine.load_adapter(adapter_id, folder)
            self._on.add(adapter_id)
        return adapter_id

    # -- one question, one row ------------------------------------------------------------------------------

    def _unfit(self, question: Question, adapter_id: str | None) -> str | None:
        try:
            fits = self._engine.fits(question.messages, adapter_id, 1)
        except ServingError as error:
            return error.problems[0].what
        return None if fits else f"the messages fill the context of {self._name}"

    def _count(self, text: str) -> int:
        return len(self._loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _use_tools(self, model: Any, tokenizer: Any, question: Question, max_tokens: int) -> Answer:
        import torch
        from jinja2 import TemplateError

        try:
            text = tokenizer.apply_chat_template(
                list(question.messages), tools=list(question.tools), tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            return Answer(text="", fault=f"the chat template refuses the messages: {error}")
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
        room = max_tokens if self._engine.context is None else min(max_tokens, self._engine.context - ids.shape[1])
        if room < 1:
            return Answer(text="", fault=f"the messages fill the context of {self._name}")
        with _told(self._name), torch.inference_mode():
            whole = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=1,
                max_new_tokens=room,
            )
        made = [token for token in whole[0, ids.shape[1] :].tolist() if token not in self._engine.stop_ids]
        # Marks of calls are special tokens in some tokenizers.
        said, found = calls.split(tokenizer.decode(made, skip_special_tokens=False))
        return Answer(text=said, calls=found, tokens=len(made))

    def _encoded(self, row: Mapping[str, Any]) -> Encoded:
        try:
            made = self._encode(row)
        except ValueError as error:
            raise fault(
                "E852",
                "the loss of a row cannot be computed",
                str(error),
                "change the row, or leave loss and perplexity out",
            ) from error
        most = self._engine.context
        return Encoded(made.ids[:most], made.supervised[:most])

    def _nll(self, model: Any, part: Sequence[Encoded]) -> list[Loss]:
        import torch
        from torch.nn import functional

        width = max(len(each.ids) for each in part)
        ids = torch.zeros((len(part), width), dtype=torch.long)
        seen, counts = torch.zeros_like(ids), torch.zeros((len(part), width), dtype=torch.bool)
        for place, each in enumerate(part):
            ids[place, : len(each.ids)] = torch.as_tensor(each.ids)
            seen[place, : len(each.ids)] = 1
            counts[place, : len(each.ids)] = torch.as_tensor(each.supervised)
        ids, seen, counts = (each.to(model.device) for each in (ids, seen, counts))
        targets, counts = ids[:, 1:], counts[:, 1:]
        with _told(self._name), torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1]
            each_nll = functional.cross_entropy(logits[counts].float(), targets[counts], reduction="none")
        nll = torch.zeros(counts.shape, dtype=torch.float64, device=model.device)
        nll[counts] = each_nll.double()
        return [Loss(float(total), int(count)) for total, count in zip(nll.sum(1), counts.sum(1), strict=True)]


class _Asked:
    """One of the models on a base: `Answerer` and `Scorer`."""

    def __init__(self, weights: Weights, folder: Path | None) -> None:
        self._weights, self._folder = weights, folder

    def answers(self, questions: Sequence[Question], max_tokens: int) -> list[Answer]:
        """See `Answerer.answers`. Raises ServingError, too."""
        return self._weights.answers(questions, max_tokens, self._folder)

    def losses(self, rows: Sequence[Json]) -> list[Loss]:
        """See `Scorer.losses`."""
        return self._weights.losses(rows, self._folder)


@contextmanager
def _wearing(model: Any, folder: Path | None) -> Iterator[None]:
    """The adapter's layers are in the model while the block runs; None: as it is."""
    if folder is None:
        yield
        return
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 by an old name; nothing that a user could change.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        worn = PeftModel.from_pretrained(model, str(folder)).eval()
    try:
        yield
    finally:
        worn.unload()
        if hasattr(model, "peft_config"):
            # PEFT's own mark; with it the next adapter would be taken for a second PEFT model around this one.
            del model.peft_config


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in our words what torch raises, which is most often that memory ran out."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        fix = "ask for shorter answers or shorter rows when memory ran out"
        raise fault("E854", f"{name} failed while it was evaluated", said, fix) from error


def _batches(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Neighbours of like length, so that padding is little."""
    part: list[int] = []
    for index in order:
        if part and (len(part) + 1) * lengths[index] > _BATCH_TOKENS:
            yield part
            part = []
        part.append(index)
    if part:
        yield part
