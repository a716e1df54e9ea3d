"""What one target takes of training data, and what it costs: the form in which the catalogue hands these to others.

Needs neither pydantic nor YAML, so a worker process unpickles it without loading them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

Method = Literal["sft", "dpo"]
Role = Literal["system", "user", "assistant", "tool"]
Layout = Literal[
    "openai",
    "openai-dpo",
    "mistral",
    "gemini",
    "gemini-preference",
    "together",
    "together-preference",
    "fireworks",
    "fireworks-dpo",
    "bedrock",
    "completion",
    "local",
    "local-dpo",
]

METHODS: Final[tuple[Method, ...]] = ("sft", "dpo")


@dataclass(frozen=True, kw_only=True)
class DataRules:
    """The data limits of one target and method. Hashable, picklable.

    A limit that is None is not published, or there is none: it cannot be checked. `sources` says where each of the
    others is published. Turns, roles and parts are those of our own rows, whatever the target calls them.
    """

    #: For messages: `OpenAI`, or `OpenAI gpt-4.1-mini` where the catalogue knows the model.
    target: str
    #: The layout in which the target wants its rows.
    format: Layout

    # The file.
    min_rows: int | None = None
    max_rows: int | None = None
    #: Rows of training and validation together.
    min_rows_total: int | None = None
    max_rows_total: int | None = None
    #: Rows with an image, audio, video or file in them.
    max_media_rows: int | None = None
    max_validation_rows: int | None = None
    max_file_bytes: int | None = None
    #: What goes into one request; a larger file is sent in parts.
    max_upload_bytes: int | None = None
    max_validation_bytes: int | None = None
    #: Tokens of the training file times epochs.
    max_trained_tokens: int | None = None

    # One row.
    min_messages: int | None = None
    max_messages: int | None = None
    #: Messages of the user; in a preference row those of the prompt.
    max_turns: int | None = None
    #: Messages in each of the two answers of a preference row.
    max_answer_messages: int | None = None
    max_row_tokens: int | None = None
    max_row_bytes: int | None = None
    max_images: int | None = None
    max_image_bytes: int | None = None

    # What a row may hold.
    roles: frozenset[Role] | None = None
    #: A system message, if any, comes before all others.
    system_first: bool | None = None
    #: The first message that is not the system's is the user's.
    starts_with_user: bool | None = None
    #: User and assistant take turns; messages of tools stand between them.
    alternates: bool | None = None
    ends_with_assistant: bool | None = None
    tools: bool | None = None
    parallel_tool_calls: bool | None = None
    images: bool | None = None
    audio: bool | None = None
    video: bool | None = None
    files: bool | None = None
    #: `weight` of a message: 0 takes an answer out of the loss.
    weights: bool | None = None
    #: `weight` of a row: a factor on its loss.
    row_weights: bool | None = None

    #: URL by name of the limit, for every limit that is not None.
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """US dollars, rounded up to cents. Both None: no price is published."""

    low_usd: Decimal | None = None
    high_usd: Decimal | None = None
    #: How it was reckoned, for people: "1.2 M tokens x 3 epochs at 3.00 a million".
    basis: str = ""
    #: URL of the price; None without one.
    source: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return self.high_usd is not None
