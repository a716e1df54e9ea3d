import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.serving.text import Detokeniser, StopFilter, detokenise

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd"), max_size=30)
AWKWARD = "naïve 🙂 中文字 e\u0301 👩‍👩‍👧 ok"


def tokens_of(text: str, cuts: list[int]) -> list[bytes]:
    raw = text.encode()
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[a:b] for a, b in itertools.pairwise(places)]


def byte_level(tokens: list[bytes]) -> Callable[[list[int]], str]:
    return lambda ids: b"".join(tokens[i] for i in ids).decode("utf-8", "replace")


def byte_fallback(tokens: list[bytes]) -> Callable[[list[int]], str]:
    """As sentencepiece models do it: one bad byte breaks its whole run; the very first space goes."""

    def decode(ids: list[int]) -> str:
        out, run = "", b""
        for token in [*(tokens[i] for i in ids), b"<end>"]:
            if len(token) == 1 and token[0] >= 0x80:
                run += token
                continue
            try:
                out += run.decode()
            except UnicodeDecodeError:
                out += "\ufffd" * len(run)
            run = b""
            out += "" if token == b"<end>" else token.decode("utf-8", "replace")
        return out.removeprefix(" ")

    return decode


@given(TEXT, st.lists(st.integers(0, 200), max_size=40))
def test_pieces_are_the_text_and_never_a_broken_character(text: str, cuts: list[int]) -> None:
    tokens = tokens_of(text, cuts)
    made = Detokeniser(byte_level(tokens))
    pieces = [*(made.push(i) for i in range(len(tokens))), made.flush()]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_single_bytes_come_out_as_whole_characters_at_once() -> None:
    tokens = [bytes([b]) for b in AWKWARD.encode()]
    made = Detokeniser(byte_level(tokens))
    pieces = [made.push(i) for i in range(len(tokens))]
    assert [p for p in pieces if p] == list(AWKWARD)


def test_byte_fallback_decoders() -> None:
    tokens = [*(bytes([b]) for b in " 中文字🙂".encode()), b" and", b" more", *(bytes([b]) for b in "é".encode())]
    pieces_of = Detokeniser(byte_fallback(tokens))
    pieces = [*(pieces_of.push(i) for i in range(len(tokens))), pieces_of.flush()]
    assert "".join(pieces) == "中文字🙂 and moreé"


def test_bytes_that_are_no_text_do_not_stop_the_stream() -> None:
    tokens = [b"\xff"] * 40 + [b"x"]
    made = Detokeniser(byte_level(tokens))
    pieces = [made.push(i) for i in range(len(tokens))]
    assert any(pieces[:20])
    assert "".join(pieces) + made.flush() == "\ufffd" * 40 + "x"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=6),
            st.integers(4, 12).map(lambda count: b"\xff" * count),
            st.sampled_from("é中🙂").map(str.encode),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 200), max_size=60),
)
def test_no_character_is_lost_among_bytes_that_are_no_text(parts: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(parts)
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    tokens = [raw[a:b] for a, b in itertools.pairwise(places)]
    assert detokenise(range(len(tokens)), byte_level(tokens)) == raw.decode("utf-8", "replace")
    singles = [bytes([each]) for each in raw]
    assert detokenise(range(len(singles)), byte_level(singles)) == raw.decode("utf-8", "replace")


def test_a_decoder_that_breaks_whole_runs_loses_no_text_after_them() -> None:
    tokens = [*(bytes([b]) for b in "中".encode()), b"\xff", b" and", b" so", b" on"]
    assert detokenise(range(len(tokens)), byte_fallback(tokens)) == "中\ufffd and so on"


def test_a_long_run_that_is_no_text_is_not_decoded_anew_each_time() -> None:
    tokens, longest = [b"\xff"] * 400, 0
    decode = byte_level(tokens)

    def watched(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids)

    assert detokenise(range(len(tokens)), watched) == "\ufffd" * 400
    assert longest < 40


def test_an_unfinished_character_comes_with_the_flush() -> None:
    assert detokenise([0, 1], byte_level([b"a", b"\xe4\xb8"])) == "a\ufffd"


@given(
    st.text(alphabet="ab", max_size=20),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 20), max_size=8),
)
def test_stop_filter_cuts_before_the_first_stop_however_the_text_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    kept = StopFilter(stops)
    pieces = [kept.push(part.decode()) for part in tokens_of(text, cuts)]
    out = "".join(pieces) + kept.flush()
    assert kept.hit == bool(found)
    if not found:
        assert out == text
    else:
        # Fed in one go the earliest start wins; fed in pieces, a stop that is whole earlier may win.
        assert text.startswith(out)
        assert any(text.startswith(stop, len(out)) for stop in stops)
        assert not any(stop in out for stop in stops)


@pytest.mark.parametrize(("pieces", "said"), [(["he", "llo ST", "OP x"], "hello "), (["ST", "O"], "STO")])
def test_stop_filter_holds_back_a_beginning(pieces: list[str], said: str) -> None:
    kept = StopFilter(["STOP"])
    assert "".join(kept.push(piece) for piece in pieces) + kept.flush() == said
