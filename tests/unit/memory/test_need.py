"""What a training holds, reckoned by hand for a model that everybody knows."""

from dataclasses import replace

import pytest

from finetune.memory import MOST_LOGITS, Kind, Unknown, Work, need, read
from tests.unit.memory.test_shape import LLAMA, MIXTRAL

WORK = Work(precision="bf16", rank=16, modules=None, dropout=False, longest=1000, rows=8)
SHAPE = read(LLAMA)


def test_weights_and_what_is_trained():
    found = need(SHAPE, Kind.LORA, WORK)
    assert found.weights == 2 * 8_030_261_248
    # The adapter, its gradient and two moments, in fp32.
    assert found.trained == 16 * 41_943_040
    wide = need(SHAPE, Kind.LORA, replace(WORK, precision="fp32"))
    assert wide.weights == 4 * 8_030_261_248
    full = need(SHAPE, Kind.FULL, WORK)
    assert full.weights + full.trained == 16 * 8_030_261_248
    narrow = need(SHAPE, Kind.QLORA, WORK)
    in_four = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    rest = 8_030_261_248 - in_four
    # NF4 with a scale for 64; the rest in bf16; and the widest layer in bf16 while it is used.
    assert narrow.weights == round(in_four * 0.5625) + 2 * rest + 2 * 4096 * 14336
    assert narrow.low < found.low < full.low


def test_rows_by_hand():
    """Of a token in bf16: each of the seven layers' inputs in fp32 for the adapter, two norms in fp32, queries, keys,
    values and answers, three of the gate, and what the adapter makes; at the end twelve bytes a logit.
    """
    inputs = 4 * (6 * 4096 + 14336)
    layer = inputs + 4 * 2 * 4096 + 2 * (2 * 4096 + 2 * 1024) + 2 * 3 * 14336 + 7 * 4 * 16
    token = 32 * layer + 12 * 128256
    found = need(SHAPE, Kind.LORA, WORK)
    assert found.least == 1000 * token
    # Eight rows have more logits than go through at once.
    assert found.most == MOST_LOGITS // 128256 * token
    assert need(SHAPE, Kind.LORA, replace(WORK, at_once=4)).most == 4000 * token
    assert need(SHAPE, Kind.LORA, replace(WORK, at_once=4, rows=2)).most == 2000 * token
    assert need(SHAPE, Kind.LORA, replace(WORK, sequences=2)).least == 2000 * token


def test_rows_whose_activations_are_made_again_by_hand():
    """What all layers have read is kept; of the rest there are the logits, or one layer with what passes through it."""
    found = need(SHAPE, Kind.LORA, WORK)
    read_by_all = 32 * 2 * 4096
    assert found.again == 1000 * (read_by_all + 12 * 128256)
    assert found.low == found.weights + found.trained + found.again
    assert found.high == found.weights + found.trained + found.most
    small = replace(SHAPE, vocabulary=1000)
    inputs = 4 * (6 * 4096 + 14336)
    layer = inputs + 4 * 2 * 4096 + 2 * (2 * 4096 + 2 * 1024) + 2 * 3 * 14336 + 7 * 4 * 16
    assert need(small, Kind.LORA, WORK).again == 1000 * (read_by_all + layer + 10 * 14336)


def test_a_recipe_may_have_them_made_again_always_or_never():
    auto = need(SHAPE, Kind.LORA, WORK)
    always, never = (need(SHAPE, Kind.LORA, replace(WORK, recompute=recompute)) for recompute in (True, False))
    assert (always.again, never.again) == (None, None)
    assert always.least == auto.again < auto.least == never.least
    assert (always.low, never.high) == (auto.low, auto.high)
    assert always.high < auto.high
    assert never.low == never.weights + never.trained + never.least


def test_a_row_that_is_longer_than_what_goes_through_at_once_goes_alone():
    found = need(SHAPE, Kind.LORA, replace(WORK, longest=100_000))
    assert found.least == found.most


def test_fewer_adapted_layers_and_no_dropout_need_less():
    few = need(SHAPE, Kind.LORA, replace(WORK, modules=("q_proj",)))
    every = need(SHAPE, Kind.LORA, WORK)
    assert few.trained < every.trained
    assert few.least < every.least
    assert need(SHAPE, Kind.LORA, replace(WORK, dropout=True)).least > every.least


def test_experts_are_not_loaded_in_four_bits():
    shape = read(MIXTRAL)
    with pytest.raises(Unknown, match="4 bits"):
        need(shape, Kind.QLORA, WORK)
    assert need(shape, Kind.LORA, WORK).weights == 2 * 46_702_792_704


#: "G" at the peak, read as 10^9 bytes, of rows of 256, 512 ... 8192 tokens, one at a time: LoRA (r 64, dropout 0.05) of
#: Qwen on one A100-SXM4-80G with activations made again. github.com/QwenLM/Qwen, README, "Profiling of Memory and
#: Speed", and finetune/finetune_lora_single_gpu.sh; sizes by the models' config.json.
QWEN = {
    "7B": ((4096, 32, 11008), (20.1, 20.4, 21.5, 23.8, 29.7, 36.6)),
    "14B": ((5120, 40, 13696), (34.6, 35.1, 35.3, 37.4, 42.5, 55.2)),
}


@pytest.mark.parametrize("size", QWEN)
def test_published_peaks_of_a_card_are_a_little_above(size):
    """By what the driver and the libraries take for themselves."""
    (hidden, layers, inner), measured = QWEN[size]
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner}
    config |= {"num_attention_heads": hidden // 128, "num_key_value_heads": hidden // 128, "vocab_size": 151_936}
    for power, peak in enumerate(measured):
        work = replace(WORK, rank=64, dropout=True, longest=256 << power, at_once=1)
        found = need(read(config), Kind.LORA, work)
        assert 1.0 < peak * 1e9 / found.low < 1.125, work.longest
        # Not even such a card has room for all that is kept of the longest rows.
        assert (found.high > 80e9) == (work.longest >= (8192 if size == "7B" else 4096))
