"""Messages to token ids through the chat template, and the ids that end an answer."""

import threading
from collections.abc import Sequence
from typing import Any

from finetune.jobs import Json
from finetune.serving.asks import fault


class Prompts:
    """Renders messages for one base model. Safe to use from several threads."""

    def __init__(self, base_name: str, tokenizer: Any) -> None:
        self._base_name = base_name
        self._tokenizer = tokenizer
        # Fast tokenizers refuse two callers at once while one of them changes their settings.
        self._lock = threading.Lock()

    def ids(self, messages: Sequence[Json], template: str | None) -> list[int]:
        """The prompt's ids, with the start of an assistant's turn at the end.

        `template` is the adapter's own chat template; None: the tokenizer's. Raises ServingError E759.
        """
        # Not at the top: jinja2 comes with the extra `local`.
        from jinja2 import TemplateError

        template = template or self._tokenizer.chat_template
        if not template:
            raise fault(
                "E759",
                f"{self._base_name} has no chat template",
                "without one nobody knows how it was taught to read messages",
                "serve a chat model, or an adapter whose folder holds the chat_template.jinja of its training",
                field="messages",
            )
        try:
            with self._lock:
                text = self._tokenizer.apply_chat_template(
                    list(messages), chat_template=template, tokenize=False, add_generation_prompt=True
                )
                # The template has written the special tokens already.
                ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        except TemplateError as exc:
            raise fault(
                "E759",
                f"the chat template of {self._base_name} refuses these messages: {exc}",
                "each model's template sets which roles it knows and in what order",
                "begin with a user message and let user and assistant take turns",
                field="messages",
            ) from exc
        return ids


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """End of text by the model's and the tokenizer's word, and what the chat template writes after an answer.

    Tuned models learn to end with the template's token, which a base's generation config need not name.
    """
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = set(named if isinstance(named, list) else [named])
    return frozenset(
        int(token) for token in ids | {tokenizer.eos_token_id, _end_of_turn(tokenizer)} if token is not None
    )


def _end_of_turn(tokenizer: Any) -> int | None:
    """The special token right after an assistant's answer in the chat template; None when there is none."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return None
    answer = "the-answer-ends-here"
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(talk, tokenize=False)
    except TemplateError:
        return None
    after = text.rpartition(answer)[2].lstrip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    added = tokenizer.added_tokens_decoder
    # An ordinary token there, such as a line end, is also part of answers.
    return ids[0] if ids and ids[0] in added and added[ids[0]].special else None
