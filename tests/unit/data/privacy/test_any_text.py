"""Whatever a text holds: no error, no overlap, nothing found twice, and no more time than its length asks for."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data.privacy import KINDS, Numbered, find, redact
from finetune.data.privacy.finding import Finding, Hit, chosen
from tests.unit.data.privacy.fakes import FAKES, key, token
from tests.unit.data.privacy.test_hits import HITS, marked
from tests.unit.data.privacy.test_near_misses import MISSES

PIECES = [
    *(marked(marks)[0] for marks, _, _ in HITS),
    *MISSES,
    *(token(*parts) for parts in FAKES.values()),
    *"@.-+/()[]:=\"'\\ \n_,#1",
    *("Tel. ", "CPF ", "card ", "api_key=", "password: ", "\\n", "://", "١٢", "é", "卡", "\ud800", "\u00a0", "😀"),
    *("DE89", "4242", " 4242", "030", "00", "+49", "12 ", "99.", "X", "sk-", "[EMAIL_1]", "[PHONE", "_1]"),
]
texts = st.one_of(
    st.text(st.characters(), max_size=60),
    st.text("0123456789 ./()-+@ABXabk:", max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES) | st.text("0123456789ABab .-/@+", max_size=6), max_size=8).map("".join),
)


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_findings_lie_in_the_text_in_order_and_apart(text: str) -> None:
    at = 0
    for each in find(text):
        assert at <= each.start < each.end <= len(text)
        assert each.kind in KINDS
        assert each.detail
        at = each.end


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_what_redaction_leaves_has_no_findings(text: str) -> None:
    once = redact(text, find(text), Numbered([text]))

    assert find(once) == []
    assert redact(once, find(once), Numbered([once])) == once


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_the_same_text_has_the_same_findings(text: str) -> None:
    assert find(text) == find(text)


spans = st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(1, 3))


@given(spans=st.lists(spans, max_size=12))
def test_of_overlapping_hits_the_higher_rank_stays(spans: list[tuple[int, int, int]]) -> None:
    hits = [Hit(rank, Finding("email", str(rank), start, start + size)) for start, size, rank in spans]

    kept = chosen(hits)

    assert all(left.end <= right.start for left, right in pairwise(kept))
    for rank, finding in hits:
        over = [each for each in kept if each.start < finding.end and finding.start < each.end]
        assert over
        assert max(int(each.detail) for each in over) >= rank


#: What a careless pattern would take for ever over: each is repeated to any length.
HARD = [
    *("1", "1 ", "01 ", "1111 ", "1.", "1-1/1.", "1(", "(", "0 ", "(030) ", "415 726 2671 ", "030 901820 ", "+1", "+"),
    *(
        "a",
        "A",
        "A ",
        "A1",
        "a.",
        ".",
        "-",
        "/",
        "_",
        " ",
        "\u00a0",
        "\uff11",
        "é1",
        "\u0661 ",
        "卡1",
        "\\n",
        "[",
        "[EMAIL_1",
        "\0",
    ),
    *("a@", "@", "a@a.", "a@b.de-", "@a", "://", "://a:", "://a:b@", "passwd", "password: ", "password:", "passw"),
    *(
        "sk-",
        "sk-proj-",
        "eyJ",
        "-eyJaaaaaaa",
        "eyJaaaaaaaaaaa.",
        "hf_a",
        "xoxb-1",
        "-ghp_",
        "key: ",
        "token=",
        "bearer ",
    ),
    *("DE89", "DE89 ", "AB12 ", "AB 12 34 56 ", "-----BEGIN ", "-----BEGIN PRIVATE " + "KEY-----", "RSA "),
    *(
        "-----BEGIN PRIVATE " + "KEY-----\nVersion: ",
        "a.b1/",
        "hooks.slack.com/services/",
        "1. ",
        "1" * 20 + " ",
        "4242 ",
    ),
]


def cpu_s(text: str) -> float:
    started = time.process_time()
    find(text)
    return time.process_time() - started


@pytest.mark.parametrize("piece", HARD)
def test_the_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    small, large = 5_000, 80_000
    find(piece)

    # The least of some: a busy machine only ever adds.
    few = min(cpu_s(piece * (small // len(piece))) for _ in range(3))
    many = min(cpu_s(piece * (large // len(piece))) for _ in range(3))

    # Sixteen times the length: 256 times the time if each sign were compared with each other one.
    assert many < 60 * few + 0.1


@pytest.mark.parametrize("end", ["@", "x", "@b.de", ".", "1", "=", "-----END"])
@pytest.mark.parametrize("piece", ["a", "1", " ", "1 ", ".", "a.", "-", "A1", "\\n"])
def test_a_long_run_with_another_end_takes_no_longer(piece: str, end: str) -> None:
    text = piece * (60_000 // len(piece)) + end

    assert cpu_s(text) < 10
    assert cpu_s(end + text) < 10


def test_a_long_text_with_one_finding_at_each_end() -> None:
    text = f"a@b.de {'lorem ipsum ' * 100_000} {key()}"

    first, last = find(text)

    assert (first.start, last.end) == (0, len(text))
