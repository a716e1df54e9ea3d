"""How fast tokens of a local base model are counted: `python tests/bench/tokens.py [ROWS [BASE_MODEL]]`.

Compared with `encode_batch` of the `tokenizers` library on the same rendered texts, all in one call and in batches of
256, whichever is faster. Counting renders the rows and returns a count for each; rendering alone is shown beside it.
They take turns, and a ratio is the median of the rounds' own, so that a busy moment hits all. Without BASE_MODEL (a
folder, or an id that is in the hub's cache) a byte-level BPE of 32,000 tokens is made from the texts of Python's own
manual, of which the rows are in any case; once with a short chat template, once with one that looks at all messages
twice, as Qwen's do. Exits with 1 when a target is missed. On a busy machine the seconds that the cores worked are the
steadier figure.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

import msgspec
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from finetune.data.example import Chat, Message, canonical
from finetune.training.stored import Stored, find
from finetune.training.template import Template
from finetune.training.tokens import LocalTokens

ROUNDS: Final = 7
BATCH: Final = 256
#: Times the library's own time, at most.
TARGET: Final = 1.3
#: How GPT-4 cuts text into words, in short.
WORDS: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s"
)

SHORT: Final = (
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LONG: Final = """
{%- set ns = namespace(asked=0, open=true) %}
{%- for m in messages[::-1] %}
    {%- set result = m.content.startswith('<result>') and m.content.endswith('</result>') %}
    {%- if ns.open and m.role == 'user' and not result %}
        {%- set ns.open = false %}{%- set ns.asked = messages | length - loop.index %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set text = m.content if m.content is string else '' %}
    {%- if m.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if m.thought is string %}{%- set thought = m.thought %}
        {%- elif '</think>' in text %}
            {%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.asked and (loop.last or thought) %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- text }}
        {%- for call in m.tool_calls or [] %}{{- '<call>' + call.function.name + call.function.arguments }}{%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def chats(count: int) -> list[Chat]:
    """Conversations of one to three turns, about 1.3 kB each."""
    rng = random.Random(5)
    texts = [piece for topic in topics.values() for piece in topic.split("\n\n") if len(piece) > 60]
    rows = []
    for _ in range(count):
        messages = [Message("system", "You are a helpful assistant.")]
        for _ in range(rng.choice((1, 1, 2, 3))):
            asked, said = rng.choice(texts)[: rng.randrange(60, 400)], rng.choice(texts) + rng.choice(texts)[:200]
            messages += [Message("user", asked), Message("assistant", said)]
        rows.append(Chat(messages))
    return rows


def bpe() -> bytes:
    """A tokenizer of 32,000 tokens, as JSON."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000,
        special_tokens=["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(topics.values(), trainer)
    return made.to_str().encode()


def seconds(do: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock seconds of one call, and the seconds that all cores worked for it."""
    start, worked = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - start, time.process_time() - worked


def compare(name: str, kept: Stored, rows: Sequence[Chat]) -> bool:
    """Measure and print; True when the target is missed."""
    counter = LocalTokens(name, kept)
    template = Template(lambda tools: kept.template, kept.special_tokens)
    plain = [msgspec.to_builtins(row) for row in rows]
    texts = [str(text) for start in range(0, len(rows), BATCH) for text in template.texts(plain[start : start + BATCH])]
    library = Tokenizer.from_buffer(kept.tokenizer)
    sizes = [len(each) for each in library.encode_batch(texts, add_special_tokens=False)]
    assert [count.total for count in counter.count(rows)] == [(size, size) for size in sizes]
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    ways: dict[str, Callable[[], Any]] = {
        "encode_batch, one call": lambda: library.encode_batch(texts, add_special_tokens=False),
        f"encode_batch of {BATCH}": lambda: [library.encode_batch(each, add_special_tokens=False) for each in batches],
        "render alone": lambda: [template.texts(plain[n : n + BATCH]) for n in range(0, len(plain), BATCH)],
        "count rendered texts": lambda: [counter.lengths(each) for each in batches],
        "count (renders)": lambda: counter.count(rows),
        "learned (renders)": lambda: counter.learned(rows),
    }
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, do in ways.items():
            took = seconds(do)
            # The first round fills caches.
            if number:
                taken[way].append(took)
    walls, works = (
        {way: statistics.median(each[kind] for each in times) for way, times in taken.items()} for kind in (0, 1)
    )
    ratios, efforts = ({way: against(taken, way, kind) for way in ways} for kind in (0, 1))
    size = sum(len(canonical(row)) for row in rows)
    print(f"{name}: {sum(sizes) / len(sizes):.0f} tokens a row, {size / len(rows):.0f} bytes a row")
    print(f"  {'':22} {'us a row':>9} {'MB/s':>7} {'ratio':>7} {'target':>7} {'CPU us':>9} {'ratio':>7}")
    for way, wall in walls.items():
        each, work = wall / len(rows) * 1e6, works[way] / len(rows) * 1e6
        limit = f"{TARGET}x" if way.startswith("count") else ""
        speed, ratio, effort = size / wall / 1e6, ratios[way], efforts[way]
        print(f"  {way:22} {each:9.1f} {speed:7.1f} {ratio:6.2f}x {limit:>7} {work:9.1f} {effort:6.2f}x")
    return any(ratio > TARGET for way, ratio in ratios.items() if way.startswith("count"))


def against(taken: dict[str, list[tuple[float, float]]], way: str, kind: int) -> float:
    """The median over the rounds of this way's time over the library's better one of the same round."""
    library = list(taken.values())[:2]
    rounds = range(len(taken[way]))
    return statistics.median(taken[way][n][kind] / min(each[n][kind] for each in library) for n in rounds)


def main(count: int = 4000, base_model: str = "") -> int:
    """Measure and print; the exit status."""
    rows = chats(count)
    print(f"{count} rows, {ROUNDS} rounds, Python {sys.version.split()[0]}")
    if base_model:
        with tempfile.TemporaryDirectory() as cache:
            return int(compare(base_model, find(base_model, cache=Path(cache)), rows))
    made = bpe()
    missed = [
        compare(name, Stored(made, text, text, {}, split_special_tokens=False), rows)
        for name, text in {"short template": SHORT, "long template": LONG}.items()
    ]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main(*(int(arg) if arg.isdigit() else arg for arg in sys.argv[1:])))
