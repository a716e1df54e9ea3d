"""Operations of a training, reckoned by hand, and times that others have published, which must lie within ours."""

from dataclasses import replace

import pytest

from finetune.memory import Kind, Work, need, read
from finetune.memory.speed import PASS_S, SHARE, START_S, Fleet, Load, multiplied, operations, recomputes, seconds
from tests.unit.memory.test_shape import LLAMA

WORK = Work(precision="bf16", rank=16, modules=None, dropout=False, longest=1024, rows=8)
LOAD = Load(rows=1000, held_back=0, epochs=3, tokens=(600_000, 700_000))
H100 = Fleet(count=1, tflops=(989.5, 989.5))

#: Llama 3.1 8B. A layer's matrices: queries and answer 4096 x 4096, keys and values 4096 x 1024, feed-forward three of
#: 4096 x 14336; 32 layers; a head of 4096 x 128256.
LAYERS = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
HEAD = 4096 * 128_256
#: r 16 on all seven: inputs and outputs together.
ADAPTER = 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))


def attention(tokens):
    """Forward, all layers: queries by keys and weights by values, each 2 operations a feature and token looked at."""
    return 32 * 2 * 2 * tokens * 4096


def test_a_token_of_llama_by_hand():
    shape = read(LLAMA)
    assert (LAYERS, HEAD, ADAPTER) == (6_979_321_856, 525_336_576, 41_943_040)
    assert multiplied(shape) == LAYERS + HEAD == 7_504_658_432
    forward = 2 * (LAYERS + HEAD) + attention(1024) + 2 * ADAPTER
    # Backwards: the gradient of every input, both of attention's, and those of the adapter's own.
    backward = 2 * (LAYERS + HEAD) + 2 * attention(1024) + 4 * ADAPTER
    assert operations(shape, WORK, replace(LOAD, epochs=1), 1024) == forward + backward == 31_880_904_704
    assert operations(shape, WORK, LOAD, 1024) == 3 * 31_880_904_704


def test_made_again_all_but_the_head_goes_forwards_once_more():
    shape, once = read(LLAMA), replace(LOAD, epochs=1)
    kept, again = (operations(shape, replace(WORK, recompute=on), once, 1024) for on in (False, True))
    assert kept == operations(shape, WORK, once, 1024), "where nothing is said of it, it is not reckoned"
    assert again - kept == 2 * LAYERS + attention(1024) + 2 * ADAPTER == 14_579_400_704
    assert again == 46_460_305_408
    # Nothing is made again of what is measured, and of what the base model is asked.
    more = replace(once, held_back=100, reference=True)
    kept, again = (operations(shape, replace(WORK, recompute=on), more, 1024) for on in (False, True))
    assert again - kept == 14_579_400_704


def test_preferences_ask_the_base_model_and_held_back_rows_are_passed_through():
    shape, once = read(LLAMA), replace(LOAD, epochs=1)
    base = 2 * (LAYERS + HEAD) + attention(1024)
    plain = operations(shape, WORK, once, 1024)
    assert operations(shape, WORK, replace(once, reference=True), 1024) == plain + base
    # 100 of 1000: a tenth of a forward pass a token.
    held = operations(shape, WORK, replace(once, held_back=100), 1024)
    assert held == pytest.approx(plain + (base + 2 * ADAPTER) / 10, rel=1e-12)


def test_the_range_on_an_h100_by_hand():
    """1000 rows, 3 epochs: 600,000 to 700,000 tokens an epoch, 1,024 in the longest row."""
    low, high = seconds(read(LLAMA), WORK, LOAD, H100)

    def each(looked_at):
        return 4 * (LAYERS + HEAD) + 3 * attention(looked_at) + 6 * ADAPTER

    # A row has 600 on average, and a token looks at half of it.
    assert low == pytest.approx(600_000 * 3 * each(300) / (989.5e12 * 0.6) + 4)
    assert round(low) == 97
    # Padded to 1,024 each, at most; 125 steps, and 2^28 // 128256 = 2092 tokens at once.
    padded = 1000 * 1024
    passes = (125 + padded / 2092) * 3 * 32
    assert high == pytest.approx(padded * 3 * each(1024) / (989.5e12 * 0.2) + passes * 0.0055 + 60)
    assert round(high) == 879
    assert (SHARE, PASS_S, START_S) == ((0.2, 0.6), 0.0055, (4.0, 60.0))


def test_made_again_both_ends_are_longer_by_hand():
    low, high = seconds(read(LLAMA), replace(WORK, recompute=True), LOAD, H100)

    def each(looked_at):
        return 6 * LAYERS + 4 * HEAD + 4 * attention(looked_at) + 8 * ADAPTER

    assert low == pytest.approx(600_000 * 3 * each(300) / (989.5e12 * 0.6) + 4)
    assert round(low) == 140
    passes = (125 + 1000 * 1024 / 2092) * 3 * 32
    assert high == pytest.approx(1000 * 1024 * 3 * each(1024) / (989.5e12 * 0.2) + passes * 0.0055 + 60)
    assert round(high) == 1106


def on_cards(*sizes):
    return replace(H100, memory=(min(sizes), max(sizes)))


def test_cards_on_which_not_all_rows_fit_make_them_again():
    """Kept, a row of 1,024 tokens needs 28 GB with all that is held, and one of 600, the mean, 23 GB."""
    shape = read(LLAMA)
    mean, longest = (need(shape, Kind.LORA, replace(WORK, longest=tokens)) for tokens in (600, 1024))
    held = longest.weights + longest.trained
    assert (round((held + mean.least) / 1e9), round((held + longest.least) / 1e9)) == (23, 28)
    for card, expected in (
        (held + longest.least * 1.11, (False, False)),
        (held + longest.least * 1.09, (False, True)),
        (held + mean.least * 0.91, (False, True)),
        (held + mean.least * 0.89, (True, True)),
    ):
        assert recomputes(shape, WORK, LOAD, on_cards(card)) == expected
        kept, again = (seconds(shape, replace(WORK, recompute=on), LOAD, H100) for on in (False, True))
        found = seconds(shape, WORK, LOAD, on_cards(card))
        assert found == tuple((again if on else kept)[end] for end, on in enumerate(expected))
    # It may get either of the two.
    assert recomputes(shape, WORK, LOAD, on_cards(held, 2 * held)) == (False, True)
    # Each row is two sequences of 300 tokens on average.
    pairs = replace(WORK, sequences=2)
    assert recomputes(shape, pairs, LOAD, on_cards(held + mean.least * 0.89)) == (True, True)
    assert recomputes(shape, pairs, LOAD, on_cards(held + mean.least * 0.91)) == (False, True)


def test_what_the_recipe_says_of_it_goes_before_what_fits():
    for wanted in (True, False):
        for fleet in (H100, on_cards(1), on_cards(10**15)):
            assert recomputes(read(LLAMA), replace(WORK, recompute=wanted), LOAD, fleet) == (wanted, wanted)
    assert recomputes(read(LLAMA), WORK, LOAD, H100) == (False, False), "of its memory nothing is known"


def test_rows_are_cut_and_padding_has_an_end():
    shape = read(LLAMA)
    short = replace(WORK, longest=128)
    assert seconds(shape, short, LOAD, H100) == seconds(shape, short, replace(LOAD, tokens=(128_000, 128_000)), H100)
    # 700 tokens a row on average, and 4,096 in the longest: padding doubles them at most.
    long = replace(WORK, longest=4096)
    reckoned = operations(shape, long, LOAD, 4096) * 1_400_000 / (989.5e12 * 0.2)
    passes = (125 + 1_400_000 / 4096) * 3 * 32
    assert seconds(shape, long, LOAD, H100)[1] == pytest.approx(reckoned + passes * PASS_S + START_S[1])


def test_several_cards_and_slower_ones():
    shape, one = read(LLAMA), replace(H100, tflops=(312.0, 989.5))
    low, high = seconds(shape, WORK, LOAD, one)
    assert low == seconds(shape, WORK, LOAD, H100)[0]
    assert high > 2 * seconds(shape, WORK, LOAD, H100)[1]
    two = seconds(shape, WORK, LOAD, replace(one, count=2))
    assert two[0] - 4 == pytest.approx((low - 4) / 2)
    assert (high - 60) / 2 < two[1] - 60 < high - 60


def test_few_tokens_at_once_take_longer():
    shape = read(LLAMA)
    many, one = (seconds(shape, replace(WORK, at_once=at_once), LOAD, H100) for at_once in (8, 1))
    assert many[0] == one[0]
    # 1000 passes an epoch in place of 125.
    assert one[1] - many[1] == pytest.approx(875 * 3 * 32 * PASS_S)
    # A row goes through once, however few tokens go at once.
    alone = replace(WORK, rows=1)
    assert seconds(shape, alone, LOAD, H100) == seconds(shape, replace(alone, at_once=1), LOAD, H100)


def test_the_base_model_and_what_is_held_back_pass_forwards_alone():
    """Of the at most 5.5 ms of a pass and back the third."""
    shape, work = read(LLAMA), replace(WORK, at_once=8)

    def passing(load):
        reckoned = operations(shape, work, load, 1024) * 1_024_000 / (989.5e12 * 0.2)
        return (seconds(shape, work, load, H100)[1] - reckoned - START_S[1]) / (125 * 3 * 32 * PASS_S)

    assert passing(LOAD) == pytest.approx(1)
    assert passing(replace(LOAD, reference=True)) == pytest.approx(4 / 3)
    assert passing(replace(LOAD, held_back=100)) == pytest.approx(1 + 1 / 30)
    assert passing(replace(LOAD, held_back=100, reference=True)) == pytest.approx(4 / 3 + 2 / 30)


#: Seconds of a step of 8 rows, one at a time, of 256, 512 ... 8192 tokens: LoRA (r 64) on one A100-SXM4-80G.
#: https://github.com/QwenLM/Qwen, README, "Profiling of Memory and Speed"; sizes by the models' config.json.
#: Activations are made again: its script says so, and the memory that the table tells.
QWEN = {
    "1.8B": ((2048, 24, 5504), (1.0, 1.0, 1.1, 1.7, 3.3, 6.8)),
    "7B": ((4096, 32, 11008), (1.2, 1.5, 2.8, 5.2, 10.1, 21.3)),
    "14B": ((5120, 40, 13696), (1.6, 2.4, 4.4, 8.4, 17.0, 36.0)),
}


@pytest.mark.parametrize("size", QWEN)
def test_published_times_lie_within(size):
    (hidden, layers, inner), measured = QWEN[size]
    heads = hidden // 128
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner}
    config |= {"num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": 151_936}
    for power, step_s in enumerate(measured):
        length = 256 << power
        work = replace(WORK, rank=64, longest=length, at_once=1, recompute=True)
        load = Load(rows=8, held_back=0, epochs=1, tokens=(8 * length, 8 * length))
        low, high = seconds(read(config), work, load, Fleet(count=1, tflops=(312.0, 312.0)))
        assert low - START_S[0] <= step_s <= high - START_S[1], length
        # And no wider than it must be.
        assert (high - START_S[1]) / step_s < 4, length
