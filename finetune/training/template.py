"""Chat templates: from rows to the text that a model reads, and where in it the answers to learn stand. No torch.

An answer's text is its content with the end-of-turn mark. Where the template marks that text with `{% generation %}`
the marks decide; else it is found by rendering the conversation up to each answer. Neither is guessed: a row in which
the text cannot be placed is an error.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from finetune.data.tokens import NotPlaced
from finetune.training.sandboxed import hasten

_MARKED: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")
Span = tuple[int, int]
Row = Mapping[str, Any]
Messages = Sequence[dict[str, Any]]


class UnplacedRow(NotPlaced):
    """The template cannot render a row, or the answers cannot be found in what it rendered; says why."""


class Rendered(NamedTuple):
    """A row as the model reads it."""

    text: str
    #: From where to where, in characters, the answers to learn stand: in order, and none within another.
    spans: list[Span]


class Template:
    """The chat template of one tokenizer. Rows are `{"messages": [...]}`, and `tools` if any; not truncated."""

    def __init__(self, template_for: Callable[[Any], str], special_tokens: Mapping[str, str]) -> None:
        """`template_for(tools)` is the template's text for a row with these tools (None: without any)."""
        # Half a second, and counts may never be asked for.
        from transformers.utils import chat_template_utils

        self._renderer: Any = chat_template_utils.render_jinja_template
        self._compiled: Any = getattr(chat_template_utils, "_compile_jinja_template", None)
        self._template_for, self._special_tokens = template_for, special_tokens

    def render(self, row: Row) -> Rendered:
        """The text and its answers. Raises UnplacedRow."""
        messages: Messages = row["messages"]
        tools = row.get("tools")
        plain = _plain(messages)
        text, marked = self._render(plain, tools)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        learned = [i for i in answers if message_weight(messages[i])]
        if marked is None:
            spans = [self._place(plain, tools, i, text) for i in learned]
        elif len(marked) == len(answers):
            spans = [span for i, span in zip(answers, marked, strict=True) if i in learned]
        elif len(learned) == len(answers):
            spans = marked
        else:
            raise UnplacedRow(f"weight 0 on an answer, but the template marks {len(marked)} texts as generated")
        return Rendered(text, _united(spans))

    def texts(self, rows: Sequence[Row]) -> list[str | UnplacedRow]:
        """The text of each row, as `render` gives it; in the place of one that the template refuses, the error."""
        if all(row.get("tools") is None for row in rows):
            try:
                # One call for all: what it does once is half of the work of a simple template.
                return [*self._call([_plain(row["messages"]) for row in rows], None, ask=False, marks=False)[0]]
            except UnplacedRow:
                pass
        return [self._text(row) for row in rows]

    def prompt_and_text(self, row: Row) -> tuple[str, str]:
        """What generation will be given before the row's last answer, and the row's text up to the end of it.

        Raises UnplacedRow.
        """
        messages = _plain(row["messages"])
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        prompt, _ = self._render(messages[:last], row.get("tools"), ask=True)
        text, _ = self._render(messages[: last + 1], row.get("tools"))
        return prompt, text

    def _text(self, row: Row) -> str | UnplacedRow:
        try:
            return self._call([_plain(row["messages"])], row.get("tools"), ask=False, marks=False)[0][0]
        except UnplacedRow as error:
            return error

    def _render(self, messages: Messages, tools: Any, ask: bool = False) -> tuple[str, list[Span] | None]:
        """The text, and the spans that the template marks as generated (None if it marks none at all)."""
        marks = bool(_MARKED.search(self._template_for(tools)))
        texts, spans = self._call([messages], tools, ask=ask, marks=marks)
        return texts[0], list(spans[0]) if marks else None

    def _call(
        self, conversations: Sequence[Messages], tools: Any, *, ask: bool, marks: bool
    ) -> tuple[list[str], list[list[Span]]]:
        try:
            text = self._template_for(tools)
            if self._compiled:
                hasten(self._compiled(text).environment)
            rendered = self._renderer(
                conversations=[list(messages) for messages in conversations],
                tools=tools,
                chat_template=text,
                add_generation_prompt=ask,
                return_assistant_tokens_mask=marks,
                **self._special_tokens,
            )
        # A template is a program that came with the model: it may raise anything.
        except Exception as error:
            raise UnplacedRow(f"the chat template refuses it: {error}") from error
        return cast("tuple[list[str], list[list[Span]]]", rendered)

    def _place(self, messages: Messages, tools: Any, index: int, text: str) -> Span:
        """Where in `text` message `index`, an answer, stands: from the end of its prompt to its end-of-turn mark."""
        prompt, _ = self._render(messages[:index], tools, ask=True)
        upto, _ = self._render(messages[: index + 1], tools)
        if not (text.startswith(prompt) and upto.startswith(prompt)):
            raise UnplacedRow(
                f"the prompt before message {index + 1} is not how the whole conversation begins in this template"
            )
        start = len(prompt)
        content = str(messages[index].get("content") or "").strip()
        said, found, mark = upto[start:].rpartition(content) if content else (upto[start:], "", "")
        # White space after the mark belongs to the template; without a mark it is what ends the turn.
        end_mark = mark.rstrip() or mark
        if text.startswith(upto):
            return start, start + len(said + found) + len(end_mark)
        # Some templates render an earlier answer differently once the conversation goes on.
        if content and text.startswith(content + end_mark, start):
            return start, start + len(content + end_mark)
        raise UnplacedRow(f"message {index + 1} is rendered differently once the conversation goes on")


def message_weight(message: Mapping[str, Any]) -> bool:
    """False for an answer that is not to be learned (`"weight": 0`). Raises UnplacedRow for other than 0 and 1."""
    weight = message.get("weight")
    if weight not in (None, 0, 1):
        raise UnplacedRow(f"weight {weight!r} is neither 0 nor 1")
    return weight != 0


def within(begins: Sequence[int], spans: Sequence[Span]) -> int:
    """How many of `begins`, which are sorted, lie in `spans`, of which none overlap."""
    return sum(bisect_left(begins, stop) - bisect_left(begins, start) for start, stop in spans)


def _plain(messages: Messages) -> list[dict[str, Any]]:
    return [{k: v for k, v in m.items() if k != "weight" and v is not None} for m in messages]


def _united(spans: Sequence[Span]) -> list[Span]:
    out: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out
