"""What a base model's chat template makes of some fixed conversations, for comparing it with a server's. No torch."""

import hashlib
from pathlib import Path
from typing import Any, Final

from finetune.data.tokens import NotHere
from finetune.deployments import Rendered, Template
from finetune.training import template
from finetune.training.stored import Stored, find

_Talk = tuple[dict[str, Any], ...]
_SYSTEM: Final[_Talk] = ({"role": "system", "content": "Answer in one word."},)
_TALK: Final[_Talk] = (
    {"role": "user", "content": "What is two plus three?"},
    {"role": "assistant", "content": "Five."},
    {"role": "user", "content": "And twice that?"},
)
#: Some templates write a system message of their own when there is none, some take none.
TALKS: Final = (_TALK, _SYSTEM + _TALK)
_ANSWER: Final = {"role": "assistant", "content": "Ten."}
#: How templates ask for the date.
_DATE: Final = "strftime_now"


def template_of(base_model: str, *, cache: Path, digest: str | None = None) -> Template:
    """The template that a training of this base has, if it is that of the digest (None: any). Raises nothing.

    Blocks as `stored.find` does, and for half a second the first time. Never downloads.
    """
    try:
        stored = find(base_model, cache=cache)
        if digest not in (None, digest_of(stored)):
            return Template(unknown="the base has another chat template here now than when this was trained")
        return rendered(stored)
    except NotHere as error:
        return Template(unknown=error.what, fix=error.fix)
    except ModuleNotFoundError as error:
        return Template(unknown=f"{error.name} is not installed")


def digest_of(stored: Stored) -> str:
    """As the lineage of an adapter has it (`bases.Loaded.template_digest`)."""
    return hashlib.sha256(stored.template.encode()).hexdigest()


def rendered(stored: Stored) -> Template:
    """What the template makes of those conversations that it takes."""
    import tokenizers  # an extra; where there is a `Stored` it is there

    tokenizer: Any = tokenizers.Tokenizer.from_buffer(stored.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = stored.split_special_tokens
    bos = str(stored.special_tokens.get("bos_token") or "")
    writer = template.Template(lambda tools: stored.template, stored.special_tokens)
    chats = []
    for talk in TALKS:
        try:
            text, _ = writer.prompt_and_text({"messages": [*talk, _ANSWER]})
        except template.UnplacedRow:
            continue
        encoding = tokenizer.encode(text, add_special_tokens=False)
        chats.append(
            Rendered(
                messages=talk,
                text=text,
                tokens=tuple(encoding.ids),
                pieces=tuple(encoding.tokens),
                bos=bos,
                bos_id=tokenizer.token_to_id(bos) if bos else None,
            )
        )
    if not chats:
        return Template(unknown="its chat template writes none of the conversations that are compared")
    return Template(chats=tuple(chats), dated=_DATE in stored.template)
