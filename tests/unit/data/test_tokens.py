"""Counters that need no model: real counts lie inside the guesses, and OpenAI's texts are counted as tiktoken does."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.example import (
    Chat,
    Function,
    FunctionCall,
    Image,
    ImageUrl,
    Label,
    Message,
    Preference,
    Refusal,
    Text,
    Tool,
    ToolCall,
)
from finetune.data.tokens import (
    Count,
    Guess,
    NotHere,
    Range,
    Tiktoken,
    Tokens,
    Uncounted,
    cached,
    combined,
    estimate,
    sequences,
)

#: A text, and the least and the greatest count of cl100k_base, o200k_base, Claude's, DeepSeek's, Mistral's v3 and
#: Tekken, measured in November 2026.
MEASURED = {
    "English": (
        "Thank you for writing to us. Your parcel left our warehouse yesterday evening and should reach you within "
        "two working days. If nobody is at home, the driver leaves it with a neighbour or takes it to the nearest "
        "shop. You can follow it with the link in the message that we sent you this morning.",
        61,
        62,
    ),
    "German": (
        "Vielen Dank für Ihre Nachricht. Ihr Paket hat unser Lager gestern Abend verlassen und sollte Sie in zwei "
        "Werktagen erreichen. Wenn niemand zu Hause ist, gibt der Fahrer es bei den Nachbarn ab oder bringt es in "
        "den nächsten Laden. Die Sendungsverfolgung finden Sie in der Bestätigung, die wir Ihnen heute Morgen "
        "geschickt haben.",
        67,
        104,
    ),
    "Spanish": (
        "Gracias por escribirnos. Su paquete salió ayer por la tarde de nuestro almacén y debería llegar en dos "
        "días laborables. Si no hay nadie en casa, el repartidor lo deja con un vecino o lo lleva a la tienda más "
        "cercana.",
        49,
        72,
    ),
    "Chinese": (
        "感谢您的来信。您的包裹昨天晚上已经从我们的仓库发出，预计两个工作日内送达。如果家里没有人，快递员会把它交给邻居，"  # noqa: RUF001
        "或者送到最近的商店。您可以用我们今天早上发给您的链接查询它到了哪里。",
        46,
        97,
    ),
    "Japanese": (
        "お問い合わせありがとうございます。お荷物は昨日の夕方に倉庫を出ましたので、二営業日以内に届く予定です。"
        "ご不在の場合は、配達員がお隣の方に預けるか、最寄りの店舗へお持ちします。",
        61,
        106,
    ),
    "Hindi": (
        "हमें लिखने के लिए धन्यवाद। आपका पार्सल कल शाम हमारे गोदाम से निकल गया है और दो कार्य दिवसों में आपके पास "
        "पहुँच जाना चाहिए। यदि घर पर कोई नहीं है, तो चालक उसे पड़ोसी के पास छोड़ देगा या सबसे नज़दीकी दुकान पर ले "
        "जाएगा।",
        62,
        238,
    ),
    "Russian": (
        "Спасибо за ваше письмо. Ваша посылка вчера вечером покинула наш склад и должна прийти в течение двух "
        "рабочих дней. Если никого не будет дома, водитель оставит её соседям или отвезёт в ближайший магазин.",
        49,
        108,
    ),
    "Arabic": (
        "شكرا لكم على رسالتكم. غادر طردكم مستودعنا مساء أمس ومن المتوقع أن يصل إليكم خلال يومي عمل. إذا لم يكن أحد "
        "في المنزل فسيتركه السائق عند الجيران أو يأخذه إلى أقرب متجر.",
        54,
        156,
    ),
    "Python": (
        "def parcels(orders: list[Order], since: date) -> dict[str, list[Parcel]]:\n    found = defaultdict(list)\n"
        "    for order in orders:\n        if order.sent_at is None or order.sent_at.date() < since:\n"
        "            continue\n        for parcel in order.parcels:\n            found[order.customer].append(parcel)\n"
        "    return dict(found)\n",
        75,
        99,
    ),
    "JSON": (
        '{"order":{"id":"A-20931","customer":{"name":"Ada","email":"ada@example.org"},"lines":[{"sku":"K-118",'
        '"count":2,"price":19.9},{"sku":"T-7","count":1,"price":249.0}],"sent_at":"2026-11-03T17:42:10Z",'
        '"paid":true,"note":null}}',
        82,
        109,
    ),
    "log": (
        "2026-11-03T17:42:10Z INFO worker[4711] parcel 20931 left depot 7 after 0.382s\n"
        "2026-11-03T17:42:12Z WARN worker[4711] no answer from 10.0.3.17:8443, try 2 of 5\n",
        70,
        106,
    ),
    "numbers": ("12,4711,0.382\n13,20931,1.070\n14,118,0.004\n15,7,12.250\n16,30511,0.938\n17,99,4.001\n", 51, 82),
}

USER = Message("user", "How many?")
ANSWER = Message("assistant", "Twelve, as ever.")
OTHER = Message("assistant", "No idea.")
TOOL = Tool(Function("count", "Count things", {"type": "object", "properties": {"of": {"type": "string"}}}))
CALL = Message("assistant", tool_calls=[ToolCall("c1", FunctionCall("count", '{"of":"eggs"}'))])
PICTURE = Chat([Message("user", [Text("What is it?"), Image(ImageUrl("https://example.org/a.png"))]), ANSWER])


def bytewise() -> Tiktoken:
    """One token per byte."""
    ranks = {bytes([value]): value for value in range(256)}
    return Tiktoken(tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={}))


@pytest.mark.parametrize("kind", MEASURED)
def test_real_counts_lie_inside_the_guess(kind: str) -> None:
    text, least, most = MEASURED[kind]
    low, high = estimate(text)
    assert low <= least
    assert high >= most
    # A guess so wide that it is never wrong would say nothing.
    assert low >= least / 3
    assert high <= most * 2.5


def test_a_guess_of_english_is_within_a_factor() -> None:
    text, least, most = MEASURED["English"]
    low, high = estimate(text)
    assert least / 1.6 < low
    assert high < most * 1.8


@settings(deadline=None)
@given(st.text(max_size=250), st.text(max_size=250))
def test_more_text_is_never_guessed_to_be_less(first: str, second: str) -> None:
    one, both = estimate(first), estimate(first + second)
    assert 0 <= one.low <= one.high
    assert one.low <= both.low
    assert one.high <= both.high


@pytest.mark.parametrize("kind", ["English", "Hindi", "JSON", "German"])
def test_a_long_text_is_guessed_from_a_part_of_it_and_about_the_same(kind: str) -> None:
    text = (MEASURED[kind][0] + "\n") * 40
    parts = [estimate(piece) for piece in text.splitlines(keepends=True)]
    long = estimate(text)
    assert long.low == pytest.approx(sum(part.low for part in parts), rel=0.1)
    assert long.high == pytest.approx(sum(part.high for part in parts), rel=0.1)


def test_a_chat_is_one_sequence_and_no_counter_without_its_tokenizer_is_exact() -> None:
    counters: list[Tokens] = [Guess(), bytewise()]
    for counter in counters:
        (count,) = counter.count([Chat([USER, ANSWER])])
        assert isinstance(count, Count)
        assert count.longest == count.total
        assert count.total.low < count.total.high
        assert not counter.exact
        assert counter.name
    assert "estimate" in Guess().name


@pytest.mark.parametrize("counter", [Guess(), bytewise()], ids=["guess", "tiktoken"])
def test_a_preference_is_two_sequences_and_a_label_one(counter: Tokens) -> None:
    better, worse, both, label = counter.count(
        [
            Chat([USER, ANSWER]),
            Chat([USER, OTHER]),
            Preference([USER], [ANSWER], [OTHER]),
            Label([USER], [ANSWER], label=False),
        ]
    )
    assert isinstance(better, Count)
    assert isinstance(worse, Count)
    assert isinstance(both, Count)
    assert both.longest == better.longest
    assert both.total == (better.total.low + worse.total.low, better.total.high + worse.total.high)
    assert label == better
    assert counter.count([Preference([USER], [OTHER], [ANSWER])]) == [both]


@pytest.mark.parametrize("counter", [Guess(), bytewise()], ids=["guess", "tiktoken"])
def test_everything_with_text_counts(counter: Tokens) -> None:
    plain = Chat([USER, ANSWER])
    more = [
        Chat([USER, ANSWER], tools=[TOOL]),
        Chat([USER, ANSWER, USER, ANSWER]),
        Chat([Message("user", "How many?", name="ada"), ANSWER]),
        Chat([USER, Message("assistant", "Twelve, as ever.", refusal="I will not say.")]),
        Chat([USER, CALL, Message("tool", "12", tool_call_id="c1"), ANSWER]),
    ]
    (least,) = counter.count([plain])
    assert isinstance(least, Count)
    for count in counter.count(more):
        assert isinstance(count, Count)
        assert count.total.low >= least.total.low
        assert count.total.high > least.total.high
    split = Chat([Message("user", [Text("How "), Text("many?")]), Message("assistant", [Refusal("Twelve, as ever.")])])
    (parts,) = counter.count([split])
    assert isinstance(parts, Count)
    assert parts.total.low == pytest.approx(least.total.low, abs=1)


@pytest.mark.parametrize("counter", [Guess(), bytewise()], ids=["guess", "tiktoken"])
def test_of_images_nothing_is_said(counter: Tokens) -> None:
    rows = [PICTURE, Chat([USER, ANSWER]), Preference(PICTURE.messages[:1], [ANSWER], [OTHER])]
    assert [isinstance(count, Uncounted) for count in counter.count(rows)] == [True, False, True]
    assert "images" in str(counter.count(rows)[0])


@pytest.mark.parametrize("counter", [Guess(), bytewise()], ids=["guess", "tiktoken"])
def test_only_answers_with_weight_are_learned(counter: Tokens) -> None:
    ignored = Message("assistant", "Twelve, as ever.", weight=0)
    one, same, none, twice, pair, label = counter.learned(
        [
            Chat([USER, ANSWER]),
            Chat([USER, ignored, USER, ANSWER]),
            Chat([USER, ignored]),
            Chat([USER, ANSWER, USER, OTHER]),
            Preference([USER, ANSWER, USER], [ANSWER], [OTHER]),
            Label([USER, OTHER, USER], [ANSWER], label=True),
        ]
    )
    assert isinstance(one, Range)
    assert 0 < one.low < one.high
    assert one == same == label
    assert none == (0, 0)
    assert twice == pair
    assert isinstance(twice, Range)
    assert twice > one


def test_openai_s_texts_are_counted_and_its_marks_are_by_the_cookbook() -> None:
    messages = [Message("system", "Be kind."), Message("user", "Grüße"), Message("assistant", "Hallo")]
    size = sum(len(str(message.content).encode()) for message in messages)
    assert bytewise().count([Chat(messages)]) == [combined([Range(size + 3 * 3, size + 3 * 4 + 3)])]
    named = [messages[0], Message("user", "Grüße", name="ada"), messages[2]]
    (count,) = bytewise().count([Chat(named)])
    assert isinstance(count, Count)
    assert count.total == (size + 3 * 3 + 3, size + 3 * 4 + 3 + 3 + 1)
    assert bytewise().learned([Chat(messages)]) == [Range(5, 9)]


def test_the_same_text_twice_counts_twice() -> None:
    once, twice = (bytewise().learned([Chat([USER, ANSWER] * times)])[0] for times in (1, 2))
    assert isinstance(once, Range)
    assert twice == (2 * once.low, 2 * once.high)


def test_no_rows_have_no_counts() -> None:
    for counter in (Guess(), bytewise()):
        assert counter.count([]) == counter.learned([]) == []


def test_the_sequences_of_a_row() -> None:
    chat = Chat([USER, ANSWER], tools=[TOOL])
    assert sequences(chat) == (chat,)
    asked = [USER, OTHER, USER]
    seen = [USER, Message("assistant", "No idea.", weight=0), USER]
    assert sequences(Preference(asked, [ANSWER], [CALL, OTHER], tools=[TOOL])) == (
        Chat([*seen, ANSWER], tools=[TOOL]),
        Chat([*seen, CALL, OTHER], tools=[TOOL]),
    )
    assert sequences(Label(asked, [ANSWER], label=False)) == (Chat([*seen, ANSWER]),)
    assert asked[1].weight is None


@pytest.mark.parametrize("model", ["gpt-4.1-mini-2025-04-14", "ft:gpt-4.1-nano:org::abc", "gpt-4o", "ft:gpt-4o:x:y:z"])
def test_an_encoding_that_is_not_in_the_cache_is_not_fetched(model: str, tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="o200k_base is not in tiktoken's cache") as caught:
        Tiktoken.open(model, {"TIKTOKEN_CACHE_DIR": str(tmp_path)})
    assert "get_encoding('o200k_base')" in caught.value.fix


def test_models_that_nobody_knows_have_no_counter(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="does not know the model mistral-small"):
        Tiktoken.open("mistral-small", {"TIKTOKEN_CACHE_DIR": str(tmp_path)})


def test_the_cache_is_looked_at_as_tiktoken_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, good = "https://example.org/tiny.tiktoken", b"QQ== 0\n"
    digest = hashlib.sha256(good).hexdigest()
    folder = tmp_path / "data-gym-cache"
    folder.mkdir()
    place = folder / hashlib.sha1(url.encode()).hexdigest()
    env = {"TIKTOKEN_CACHE_DIR": str(folder)}
    assert not cached(url, digest, env)
    # Tiktoken would remove it and fetch another.
    place.write_bytes(b"QQ== 1\n")
    assert not cached(url, digest, env)
    assert place.exists()
    place.write_bytes(good)
    assert cached(url, digest, env)
    assert cached(url, digest, {"DATA_GYM_CACHE_DIR": str(folder)})
    assert not cached(url, digest, {"TIKTOKEN_CACHE_DIR": "", "DATA_GYM_CACHE_DIR": str(folder)})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cached(url, digest, {})


def test_without_tiktoken_the_user_is_told_what_to_install() -> None:
    program = """
import sys
sys.modules["tiktoken"] = None
from finetune.data.tokens import NotHere, Tiktoken
try:
    Tiktoken.open("gpt-4o")
except NotHere as error:
    print(error.what, "|", error.fix)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "tiktoken is not installed | pip install 'ft-orchestrator[data]'\n", done.stderr


def test_counting_loads_no_heavy_library_before_it_is_used() -> None:
    heavy = "tiktoken", "tokenizers", "transformers", "torch", "numpy"
    program = f"import sys, finetune.data.tokens; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
