"""DPO against a computation that shares no code with ours: one sequence at a time, LoRA merged by hand, no PEFT."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.func import functional_call

from finetune.training import adapter, batches, examples
from finetune.training.batches import Limits
from finetune.training.checkpoint import Checkpoints
from finetune.training.engine import Engine
from finetune.training.examples import Unit
from finetune.training.objectives import Preference
from finetune.training.preferences import PairEncoder
from finetune.training.request import Lora
from finetune.training.schedule import Steps
from tests.support import tiny
from tests.unit.training.test_engine import ALL, GRAD_OFF, Hungry, Reference, stir
from tests.unit.training.test_ranks import Meeting, Threads, each
from tests.unit.training.test_schedule import training

BETA = 0.3
LOSS_OFF = 1e-6
LIMITS = [Limits(1, None), Limits(2, None), Limits(4, None), Limits(9, None), Limits(9, 300)]


def pairs(tmp_path: Path) -> tuple[Unit, ...]:
    path = tiny.write_pairs(tmp_path / "d.jsonl", tiny.PAIRS)
    return examples.load(path, PairEncoder(tiny.tokenizer()), 256, pytest.fail).rows


def engine(limits: Limits, lora: Lora = ALL, **more: Any) -> Engine:
    model = adapter.attach(tiny.model(), lora, 3)
    return Engine(model, training(), 3, 256, limits, objective=Preference(BETA), **more)


def sequence(row: tuple[Sequence[str], str, str], answer: str) -> tuple[Tensor, int]:
    """A prompt with an answer as ids [1, T], and where the answer begins: one id per byte, put together by hand."""
    tokenizer = tiny.tokenizer()
    special = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>")}

    def of(text: str) -> list[int]:
        return list(tokenizer.backend_tokenizer.encode(text).ids)

    ids: list[int] = []
    for message in tiny.messages(row[0]):
        ids += [special["<|im_start|>"], *of(message["role"] + "\n" + message["content"]), special["<|im_end|>"]]
        ids += of("\n")
    ids += [special["<|im_start|>"], *of("assistant\n")]
    return torch.tensor([[*ids, *of(answer), special["<|im_end|>"], *of("\n")]]), len(ids)


def said(logits: Tensor, ids: Tensor, start: int) -> Tensor:
    """Log-probability of the answer: from `start` to the end-of-turn mark, which one line feed follows."""
    chances = torch.log_softmax(logits[0], -1)
    return torch.stack([chances[at - 1, ids[0, at]] for at in range(start, ids.shape[1] - 1)]).sum()


def expected(reference: Reference, rows: Sequence[tuple[Sequence[str], str, str]]) -> tuple[Tensor, dict[str, float]]:
    """Loss and rewards by Rafailov et al. 2023, equation 7; the untouched base is the reference model."""
    base = tiny.model().eval()
    losses, rewards = [], []
    for row in rows:
        of_pair = []
        for answer in row[1:]:
            ids, start = sequence(row, answer)
            tuned = functional_call(reference.model, reference.merged(), (), {"input_ids": ids}).logits
            with torch.no_grad():
                plain = base(input_ids=ids).logits
            of_pair.append(BETA * (said(tuned, ids, start) - said(plain, ids, start)))
        losses.append(torch.log(1 + torch.exp(of_pair[1] - of_pair[0])))
        rewards.append((of_pair[0].item(), of_pair[1].item()))
    count = len(rows)
    told = {
        "rewards/chosen": sum(better for better, _ in rewards) / count,
        "rewards/rejected": sum(worse for _, worse in rewards) / count,
        "rewards/accuracies": sum(better > worse for better, worse in rewards) / count,
        "rewards/margins": sum(better - worse for better, worse in rewards) / count,
    }
    return torch.stack(losses).sum() / count, told


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_loss_rewards_and_every_gradient_are_those_of_each_sequence_alone(tmp_path: Path, limits: Limits) -> None:
    ours = engine(limits)
    stir(ours)
    reference = Reference(ours)
    loss, told = expected(reference, tiny.PAIRS)
    loss.backward()

    measured = ours.gradients(pairs(tmp_path), step=0)

    assert abs(measured.loss - loss.item()) <= LOSS_OFF
    assert measured.more == pytest.approx(told, abs=1e-5)
    assert 0 < told["rewards/accuracies"] < 1
    assert measured.tokens == sum(sequence(row, answer)[0].shape[1] for row in tiny.PAIRS for answer in row[1:])
    for name, parameter in ours.parameters.items():
        theirs = reference.leaves[name].grad
        assert parameter.grad is not None
        assert theirs is not None
        assert theirs.abs().max() > 1e-4, name
        assert (parameter.grad - theirs).abs().max() <= GRAD_OFF, name
    assert ours.evaluate(pairs(tmp_path)).loss == pytest.approx(loss.item(), abs=LOSS_OFF)


def test_a_pair_is_never_cut_apart(tmp_path: Path) -> None:
    data = pairs(tmp_path)
    for limits in LIMITS:
        groups = batches.split(data, limits)
        assert sorted(id(unit) for group in groups for unit in group) == sorted(map(id, data))
        for group in groups:
            batch = batches.collate(group, 256, torch.device("cpu"))
            assert batch.ids.shape[0] == 2 * len(group)
            assert batch.supervised == [unit.parts[which].supervised for which in (0, 1) for unit in group]
            assert limits.tokens is None or len(group) == 1 or batch.ids.numel() <= limits.tokens


def test_before_the_first_update_the_model_is_its_reference(tmp_path: Path) -> None:
    measured = engine(Limits(4, None)).gradients(pairs(tmp_path), 0)
    assert measured.loss == pytest.approx(math.log(2), abs=1e-7)
    assert set(measured.more.values()) == {0.0}


def test_a_training_is_the_plain_loop_and_the_better_answers_win(tmp_path: Path) -> None:
    asked = training(learning_rate=5e-3, epochs=2, weight_decay=0.01)
    ours = Engine(adapter.attach(tiny.model(), ALL, 3), asked, 3, 256, Limits(2, None), objective=Preference(BETA))
    reference = Reference(ours)
    data = pairs(tmp_path)
    optimizer = torch.optim.AdamW(reference.leaves.values(), lr=5e-3, weight_decay=0.01)
    steps = Steps(len(data), 3, asked)
    for done in range(steps.total):
        chosen = steps.examples(done)
        rate = steps.learning_rate(done)
        result = ours.step([data[index] for index in chosen], done, rate, lambda: None, pytest.fail)
        optimizer.zero_grad()
        loss, told = expected(reference, [tiny.PAIRS[index] for index in chosen])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(reference.leaves.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        assert result.loss == pytest.approx(loss.item(), abs=5e-6)
        assert result.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert result.more == pytest.approx(told, abs=5e-5)
    for name, parameter in ours.parameters.items():
        assert (parameter - reference.leaves[name]).abs().max() <= 1e-5, name
    after = ours.evaluate(data)
    assert after.loss < math.log(2) / 2
    assert after.more["rewards/accuracies"] > 0.8
    assert after.more["rewards/margins"] == pytest.approx(
        after.more["rewards/chosen"] - after.more["rewards/rejected"], abs=1e-6
    )


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("many", [9, 1], ids=["many pairs", "fewer pairs than processes"])
def test_a_step_of_several_processes_is_the_step_of_one(tmp_path: Path, count: int, many: int) -> None:
    data = pairs(tmp_path)[:many]
    alone = engine(Limits(3, None))
    stir(alone)
    whole = alone.step(data, 0, 1e-2, lambda: None, pytest.fail)
    measured = alone.evaluate(data)
    meeting = Meeting(count)
    engines = [engine(Limits(3, None), ranks=Threads(rank, meeting)) for rank in range(count)]
    for made in engines:
        stir(made)

    results = each(engines, lambda made: made.step(data, 0, 1e-2, lambda: None, pytest.fail))

    for made, result in zip(engines, results, strict=True):
        assert result.loss == pytest.approx(whole.loss, abs=LOSS_OFF)
        assert result.more == pytest.approx(whole.more, abs=1e-5)
        assert (result.tokens, result.grad_norm) == (whole.tokens, pytest.approx(whole.grad_norm, rel=1e-5))
        for name, parameter in alone.parameters.items():
            assert (made.parameters[name] - parameter).abs().max() <= 1e-5, name
            assert torch.equal(made.parameters[name], engines[0].parameters[name])
    for result in each(engines, lambda made: made.evaluate(data)):
        assert result.loss == pytest.approx(measured.loss, abs=1e-5)
        assert result.more == pytest.approx(measured.more, abs=1e-4)


def test_out_of_memory_halves_by_pairs_and_changes_nothing_else(tmp_path: Path) -> None:
    data = pairs(tmp_path)
    said_so: list[str] = []
    small, hungry = engine(Limits(2, None)), engine(Limits(9, 10_000))
    Hungry(hungry, 5)
    for made, say in ((small, pytest.fail), (hungry, said_so.append)):
        stir(made)
        for step in range(2):
            made.step(data, step, 1e-3, lambda: None, say)
    assert hungry.limits == Limits(2, 10_000)
    assert [each.split(" from now on")[0] for each in said_so] == [
        f"out of memory: micro-batches of at most {rows} examples" for rows in (4, 2)
    ]
    for name, parameter in small.parameters.items():
        assert torch.equal(parameter, hungry.parameters[name])


class Asked:
    """What the model is when it is asked: with its adapter or without, in training or not."""

    def __init__(self, made: Engine) -> None:
        self.seen: list[tuple[bool, bool]] = []
        self._layer = next(module for module in made.model.modules() if isinstance(module, BaseTunerLayer))
        made.model.register_forward_pre_hook(self)

    def __call__(self, module: Any, *_: object) -> None:
        self.seen.append((not self._layer.disable_adapters, module.training))


def test_the_reference_has_neither_adapter_nor_dropout_and_both_come_back(tmp_path: Path) -> None:
    ours = engine(Limits(9, None), Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear"))
    stir(ours)
    asked = Asked(ours)
    data = pairs(tmp_path)
    ours.step(data, 0, 1e-3, lambda: None, pytest.fail)
    ours.evaluate(data)
    assert asked.seen == [(False, False), (True, True), (False, False), (True, False)]
    assert all(parameter.requires_grad for parameter in ours.parameters.values())


def test_dropout_is_the_same_for_a_step_and_off_in_evaluation(tmp_path: Path) -> None:
    data = pairs(tmp_path)
    ours = engine(Limits(3, None), Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear"))
    stir(ours)
    ours.model.train()
    again = [ours.gradients(data, step).loss for step in (0, 1, 0)]
    assert again[0] == again[2] != again[1]
    plain = engine(Limits(3, None))
    stir(plain)
    assert ours.evaluate(data) == plain.evaluate(data)


def test_a_resumed_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    data = pairs(tmp_path)
    lora = Lora(r=4, alpha=8, dropout=0.2, target_modules="all-linear")
    whole = engine(Limits(4, None), lora)
    for step in range(2):
        whole.step(data, step, 1e-2, lambda: None, pytest.fail)
    Checkpoints(tmp_path / "c", {}).save(whole, 2)
    again = engine(Limits(9, None), lora)
    assert Checkpoints(tmp_path / "c", {}).resume(again, pytest.fail) == 2
    results = [made.step(data, 2, 1e-2, lambda: None, pytest.fail) for made in (whole, again)]
    assert results[0] == results[1]
    assert all(torch.equal(parameter, again.parameters[name]) for name, parameter in whole.parameters.items())
