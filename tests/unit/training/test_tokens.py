"""Counts for local base models are what the trainer makes of the rows: ids, labels, refusals."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from finetune.data.example import (
    Chat,
    Function,
    FunctionCall,
    Label,
    Message,
    Preference,
    Text,
    Tool,
    ToolCall,
    canonical,
)
from finetune.data.tokens import Count, Range, Tokens, Uncounted
from finetune.training import stored, template
from finetune.training.examples import IGNORED, ChatEncoder, UnplacedRow
from finetune.training.tokens import LocalTokens
from tests.support import tiny

#: Writes tools, calls and content in parts.
TOOLED = (
    "{%- if tools %}{{- '<|im_start|>tools\\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.content is string %}{{- m.content }}"
    "{%- elif m.content %}{%- for part in m.content %}{{- part.text }}{%- endfor %}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}{{- '<call>' + call.function.name + call.function.arguments }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- if m.weight is defined %}{{- m.weight }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
#: Leaves the thought out of all answers but the last.
THOUGHTFUL = TOOLED.replace(
    "{%- if m.content is string",
    "{%- if m.role == 'assistant' and loop.last %}{{- '<think></think>' }}{%- endif %}{%- if m.content is string",
)
#: Begins with an answer if the conversation does.
BARE = (
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{%- generation %}{{- m.content }}{%- endgeneration %}"
    "{%- else %}{{- m.content + '\\n' }}{%- endif %}{%- endfor %}"
)
STRICT = "{%- if messages[0].role == 'system' %}{{- raise_exception('no system here') }}{%- endif %}" + tiny.UNMARKED
TEMPLATES = {
    "marked": tiny.MARKED,
    "unmarked": tiny.UNMARKED,
    "bare": BARE,
    "nested": BARE.replace("{{- m.content }}{%- end", "{%- generation %}{{- m.content }}{%- endgeneration %}.{%- end"),
    "tooled": TOOLED,
    "thoughtful": THOUGHTFUL,
    "strict": STRICT,
}

SYSTEM = Message("system", "be kind")
USER = Message("user", "hi ☃?")
ANSWER = Message("assistant", "yo, é!")
OTHER = Message("assistant", "no")
TOOL = Tool(Function("count", "Count things", {"type": "object", "properties": {"of": {"type": "string"}}}))
CALLING = [
    USER,
    Message("assistant", tool_calls=[ToolCall("c1", FunctionCall("count", '{"of":"eggs"}'))]),
    Message("tool", "12", tool_call_id="c1"),
    ANSWER,
]

TEXTS = st.text(st.sampled_from("ab é☃\U0001f600\n<|im_end|>"), min_size=1, max_size=12)
MESSAGES = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["system", "user"]), TEXTS),
        st.builds(Message, st.just("assistant"), TEXTS, weight=st.sampled_from([None, 0, 1])),
    ),
    min_size=1,
    max_size=6,
)
CHATS = st.builds(Chat, MESSAGES, tools=st.sampled_from([None, [TOOL], []]))


def merging(trim: bool) -> Tokenizer:
    """Byte pairs, with the space before a word in its token; `trim` leaves it out of where the token stands."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=trim)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for chat in tiny.CHATS for text in chat]
    made.train_from_iterator([*texts, *texts, "system\nuser\nassistant\n aa a b ab é\n"], trainer)
    return made


def dropping() -> Tokenizer:
    """Words of a fixed list, the rest unknown; normalised, and without white space."""
    made = Tokenizer(models.WordLevel({"<unk>": 0, "hi": 1, "yo": 2, "user": 3, "assistant": 4}, unk_token="<unk>"))
    made.normalizer = normalizers.NFKD()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    # Baked into the file, and not what the trainer does.
    made.enable_truncation(5)
    made.enable_padding(length=64)
    return made


def prefixed() -> Tokenizer:
    """As Llama 2's: a mark for spaces and one before the text, bytes for what is unknown, and `<s>` when asked for."""
    letters = ["▁", *"ab.,!?<>|_", *"hiyonused"]
    vocab = dict.fromkeys(["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters])
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(vocab)}, [], unk_token=None, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return made


def wrapped(tokenizer: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bytes": tiny.tokenizer,
    "pairs": lambda: wrapped(merging(False)),
    "trimmed": lambda: wrapped(merging(True)),
    "words": lambda: wrapped(dropping()),
    "prefixed": lambda: wrapped(prefixed()),
}


def both(chat_template: str, kind: str = "bytes") -> tuple[LocalTokens, ChatEncoder, Any]:
    """The counter, the trainer's encoder, and the tokenizer of both."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.chat_template = chat_template
    kept = stored.Stored(
        tokenizer=tokenizer.backend_tokenizer.to_str().encode(),
        template=chat_template,
        tools_template=chat_template,
        special_tokens=tokenizer.special_tokens_map,
        split_special_tokens=tokenizer.split_special_tokens,
    )
    return LocalTokens("tiny", kept), ChatEncoder(tokenizer), tokenizer


ALL = {(name, kind): both(text, kind) for name, text in TEMPLATES.items() for kind in TOKENIZERS}
PAIRS = pytest.mark.parametrize("pair", ALL.values(), ids=["-".join(names) for names in ALL])


def trained(encoder: ChatEncoder, chat: Chat) -> Any:
    """The trainer's row, read from the prepared line; None where the trainer refuses it."""
    try:
        return encoder.encode(json.loads(canonical(chat)))
    except UnplacedRow:
        return None


@PAIRS
@settings(max_examples=20, deadline=None)
@given(chats=st.lists(CHATS, max_size=4))
def test_counts_and_learned_are_the_trainer_s(pair: tuple[LocalTokens, ChatEncoder, Any], chats: list[Chat]) -> None:
    counter, encoder, _ = pair
    made = [trained(encoder, chat) for chat in chats]
    for chat, row, learned in zip(chats, made, counter.learned(chats), strict=True):
        expected = row and Range(row.supervised, row.supervised)
        assert isinstance(learned, Uncounted) if row is None else learned == expected, chat
    for row, count in zip(made, counter.count(chats), strict=True):
        if row is not None:
            same = Range(len(row.ids), len(row.ids))
            assert count == Count(same, same)


@PAIRS
@settings(max_examples=20, deadline=None)
@given(chat=CHATS)
def test_pieces_and_segments_are_the_text_and_its_labels(
    pair: tuple[LocalTokens, ChatEncoder, Any], chat: Chat
) -> None:
    counter, encoder, tokenizer = pair
    row = trained(encoder, chat)
    if row is None:
        with pytest.raises(template.UnplacedRow):
            counter.segments(chat)
        return
    rendered = tokenizer.apply_chat_template(
        [{k: v for k, v in m.items() if k != "weight"} for m in json.loads(canonical(chat))["messages"]],
        tools=json.loads(canonical(chat)).get("tools"),
        tokenize=False,
    )
    labels = (row.labels != IGNORED).tolist()
    segments, pieces = counter.segments(chat), counter.pieces(chat)
    for found in (segments, pieces):
        assert "".join(segment.text for segment in found) == rendered
        assert [each.learned for each in found for _ in range(each.tokens)] == labels
    assert all(one.learned != other.learned for one, other in pairwise(segments))
    assert len(pieces) <= len(labels) + 1


def test_segments_read_like_this() -> None:
    counter, *_ = ALL["unmarked", "pairs"]
    assert [(s.text, s.learned) for s in counter.segments(Chat([SYSTEM, USER, ANSWER, USER, OTHER]))] == [
        ("<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi ☃?<|im_end|>\n<|im_start|>assistant\n", False),
        ("yo, é!<|im_end|>", True),
        ("\n<|im_start|>user\nhi ☃?<|im_end|>\n<|im_start|>assistant\n", False),
        ("no<|im_end|>", True),
        ("\n", False),
    ]


def test_a_character_of_several_tokens_is_one_piece() -> None:
    counter, *_ = ALL["marked", "bytes"]
    pieces = counter.pieces(Chat([Message("assistant", "a☃")]))
    assert [(p.text, p.learned, p.tokens) for p in pieces[-4:]] == [
        ("a", True, 1),
        ("☃", True, 3),
        ("<|im_end|>", True, 1),
        ("\n", False, 1),
    ]


def test_tools_calls_and_parts_count_as_the_trainer_counts_them() -> None:
    counter, encoder, _ = ALL["tooled", "pairs"]
    chats = [Chat(CALLING, tools=[TOOL, TOOL]), Chat([Message("user", [Text("a"), Text("b")]), ANSWER])]
    for chat, count, learned in zip(chats, counter.count(chats), counter.learned(chats), strict=True):
        row = trained(encoder, chat)
        assert isinstance(count, Count)
        assert (count.total.low, learned) == (len(row.ids), Range(row.supervised, row.supervised))


def test_what_a_template_cannot_join_is_not_counted() -> None:
    counter, encoder, _ = ALL["unmarked", "pairs"]
    chat = Chat(CALLING, tools=[TOOL])
    assert trained(encoder, chat) is None
    assert isinstance(counter.count([chat])[0], Uncounted)


def test_a_row_whose_answers_cannot_be_placed_is_counted_but_not_what_is_learned_of_it() -> None:
    counter, encoder, _ = ALL["thoughtful", "pairs"]
    chat = Chat(CALLING, tools=[TOOL])
    assert trained(encoder, chat) is None
    assert isinstance(counter.count([chat])[0], Count)
    assert "rendered differently" in str(counter.learned([chat])[0])


def test_a_preference_is_two_sequences_and_its_prompt_is_not_learned() -> None:
    counter, *_ = ALL["unmarked", "pairs"]
    first, second = counter.count([Chat([USER, OTHER, USER, ANSWER]), Chat([USER, OTHER, USER, OTHER])])
    assert isinstance(first, Count)
    assert isinstance(second, Count)
    rows = [Preference([USER, OTHER, USER], [ANSWER], [OTHER]), Label([USER, OTHER, USER], [OTHER], label=True)]
    pair, label = counter.count(rows)
    assert pair == Count(
        max(first.total, second.total),
        Range(first.total.low + second.total.low, first.total.high + second.total.high),
    )
    assert label == second
    answers = [counter.learned([Chat([USER, answer])])[0] for answer in (ANSWER, OTHER)]
    sizes = [answer.low for answer in answers if isinstance(answer, Range)]
    assert counter.learned(rows) == [Range(sum(sizes), sum(sizes)), Range(sizes[1], sizes[1])]


def test_a_refused_row_says_what_the_trainer_would_say_and_others_are_counted() -> None:
    counter, encoder, _ = ALL["strict", "bytes"]
    good = Chat([USER, ANSWER])
    counts = counter.count([good, Chat([SYSTEM, USER, ANSWER]), good])
    with pytest.raises(UnplacedRow) as caught:
        encoder.encode(json.loads(canonical(Chat([SYSTEM, USER, ANSWER]))))
    assert counts[1] == Uncounted(str(caught.value))
    assert counts[0] == counts[2] != counts[1]
    assert counter.learned([Chat([SYSTEM, USER, ANSWER])]) == [counts[1]]


def test_what_a_template_says_is_cut_and_made_printable() -> None:
    counter, *_ = both("{{- raise_exception('\x1b[31m' + 'x' * 5000) }}")
    (refused,) = counter.count([Chat([USER])])
    assert isinstance(refused, Uncounted)
    assert len(refused.why) <= 200
    assert refused.why.isprintable()


def test_batches_make_no_difference_and_no_rows_no_counts() -> None:
    counter, *_ = ALL["marked", "pairs"]
    chats = [Chat([USER, Message("assistant", "a b " * (n % 90))]) for n in range(700)]
    whole = counter.count(chats)
    assert whole == [count for n in range(0, 700, 7) for count in counter.count(chats[n : n + 7])]
    assert len({count.total.low for count in whole if isinstance(count, Count)}) == 90
    assert counter.count([]) == counter.learned([]) == []


def test_it_is_a_counter_and_says_so() -> None:
    counter: Tokens = ALL["marked", "bytes"][0]
    assert counter.exact
    assert counter.name == "tiny"
