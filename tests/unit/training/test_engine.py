"""The mathematics, against computations that share no code with ours: labels by hand, LoRA merged by hand, no PEFT."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import get_scheduler

from finetune.errors import TrainingError
from finetune.training import adapter, batches, examples
from finetune.training.batches import Limits
from finetune.training.engine import Engine
from finetune.training.examples import ChatEncoder
from finetune.training.request import Lora
from finetune.training.schedule import Steps, order
from finetune.training.stop import Interrupted, Stop
from tests.support import tiny
from tests.unit.training.test_schedule import training

#: The tolerance that any exact implementation meets in fp32 (local-training facts: |Δloss| <= 1.3e-6).
LOSS_OFF = 1.3e-6
GRAD_OFF = 1e-6

ALL = Lora(r=4, alpha=8, dropout=0.0, target_modules="all-linear")


def documents() -> list[tuple[Tensor, Tensor]]:
    """CHATS as ids and labels, [1, T] each, put together by hand: one id per byte."""
    tokenizer = tiny.tokenizer()
    special = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|im_end|>")}

    def of(text: str) -> list[int]:
        return list(tokenizer.backend_tokenizer.encode(text).ids)

    made = []
    for chat in tiny.CHATS:
        ids: list[int] = []
        labels: list[int] = []
        for message in tiny.messages(chat):
            head = [special["<|im_start|>"], *of(message["role"] + "\n")]
            body = [*of(message["content"]), special["<|im_end|>"]]
            ids += [*head, *body, *of("\n")]
            answer = message["role"] == "assistant"
            labels += [*[-100] * len(head), *(body if answer else [-100] * len(body)), -100]
        made.append((torch.tensor([ids]), torch.tensor([labels])))
    return made


def rows(tmp_path: Path) -> tuple[examples.Example, ...]:
    path = tiny.write_rows(tmp_path / "d.jsonl", [tiny.messages(chat) for chat in tiny.CHATS])
    return examples.load(path, ChatEncoder(tiny.tokenizer()), 256, pytest.fail).rows


class Reference:
    """A plain transformers model whose linear weights are W + alpha/r * B @ A, with A and B as the only leaves."""

    def __init__(self, like: Engine) -> None:
        self.model = tiny.model().eval()
        self.leaves = {name: parameter.detach().clone().requires_grad_() for name, parameter in like.parameters.items()}
        self.weights = {name: weight.detach() for name, weight in self.model.named_parameters()}

    def merged(self) -> dict[str, Tensor]:
        weights = dict(self.weights)
        for name, a in self.leaves.items():
            if ".lora_A." in name:
                path = name.removeprefix("base_model.model.").split(".lora_A.")[0] + ".weight"
                weights[path] = weights[path] + 2.0 * (self.leaves[name.replace("lora_A", "lora_B")] @ a)
        return weights

    def loss(self, chosen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Each document by itself through transformers' own loss, weighted by its supervised tokens."""
        counts = [int((labels[:, 1:] != -100).sum()) for _, labels in chosen]
        losses = [
            functional_call(self.model, self.merged(), (), {"input_ids": ids, "labels": labels}).loss
            for ids, labels in chosen
        ]
        return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


def engine(limits: Limits, lora: Lora = ALL, **changes: Any) -> Engine:
    model = adapter.attach(tiny.model(), lora, 3)
    return Engine(model, training(**changes), 3, 256, limits)


def stir(made: Engine) -> None:
    """B starts at zero, which would leave A without a gradient."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "limits", [Limits(1, None), Limits(2, None), Limits(3, None), Limits(10, None), Limits(10, 150)], ids=str
)
def test_loss_and_every_gradient_are_those_of_each_document_alone(tmp_path: Path, limits: Limits) -> None:
    ours = engine(limits)
    stir(ours)
    reference = Reference(ours)
    expected = reference.loss(documents())
    expected.backward()

    measured = ours.gradients(rows(tmp_path), step=0)

    assert measured.tokens == sum(ids.shape[1] for ids, _ in documents())
    assert len(ours.parameters) == 2 * 7 * 2
    assert abs(measured.loss - expected.item()) <= LOSS_OFF
    assert measured.more == {}
    for name, parameter in ours.parameters.items():
        theirs = reference.leaves[name].grad
        assert parameter.grad is not None
        assert theirs is not None
        assert theirs.abs().max() > 1e-4, name
        assert (parameter.grad - theirs).abs().max() <= GRAD_OFF, name


def test_ragged_examples_do_make_several_padded_micro_batches(tmp_path: Path) -> None:
    groups = batches.split(rows(tmp_path), Limits(3, None))
    assert [len(group) for group in groups] == [3, 3, 3, 1]
    first = batches.collate(groups[0], 256, torch.device("cpu"))
    assert (first.mask.sum(1) < first.mask.shape[1]).any()
    assert first.tokens == int(first.mask.sum())
    assert (first.labels[first.mask == 0] == -100).all()


def test_a_training_is_the_plain_loop(tmp_path: Path) -> None:
    """Three epochs against torch's AdamW, transformers' schedule and one document at a time."""
    asked = training(learning_rate=3e-3, lr_scheduler="cosine", weight_decay=0.01, max_grad_norm=0.5)
    ours = Engine(adapter.attach(tiny.model(), ALL, 3), asked, 3, 256, Limits(3, None))
    reference = Reference(ours)
    data, docs = rows(tmp_path), documents()
    optimizer = torch.optim.AdamW(reference.leaves.values(), lr=3e-3, weight_decay=0.01)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=math.ceil(0.15 * 9), num_training_steps=9)
    steps = Steps(len(data), 3, asked)
    losses: list[tuple[float, float, float, float]] = []
    for epoch in range(3):
        chosen = [docs[index] for index in order(len(docs), 3, epoch)]
        for start in range(0, len(docs), 4):
            done = len(losses)
            result = ours.step(
                [data[index] for index in steps.examples(done)],
                done,
                steps.learning_rate(done),
                lambda: None,
                pytest.fail,
            )
            optimizer.zero_grad()
            loss = reference.loss(chosen[start : start + 4])
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(reference.leaves.values(), 0.5)
            optimizer.step()
            scheduler.step()
            losses.append((result.loss, loss.item(), result.grad_norm, norm.item()))
    assert len(losses) == steps.total == 9
    for our_loss, loss_, our_norm, norm_ in losses:
        assert our_loss == pytest.approx(loss_, abs=2e-6)
        assert our_norm == pytest.approx(norm_, rel=1e-6)
    assert max(norm for *_, norm in losses) > 0.5, "clipping was never needed"
    assert sum(loss for loss, *_ in losses[-3:]) < sum(loss for loss, *_ in losses[:3]) - 0.1
    for name, parameter in ours.parameters.items():
        assert (parameter - reference.leaves[name]).abs().max() <= 5e-6, name


def test_dropout_is_on_in_steps_the_same_for_a_step_and_off_in_evaluation(tmp_path: Path) -> None:
    data = rows(tmp_path)
    ours = engine(Limits(3, None), Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear"))
    stir(ours)
    ours.model.train()
    again = [ours.gradients(data, step).loss for step in (0, 1, 0)]
    assert again[0] == again[2] != again[1]
    plain = engine(Limits(3, None))
    stir(plain)
    assert ours.evaluate(data) == plain.evaluate(data)
    assert plain.evaluate(data).loss == pytest.approx(plain.gradients(data, 0).loss, abs=1e-6)


def test_only_the_adapter_learns_and_it_is_fp32_on_a_bf16_base(tmp_path: Path) -> None:
    ours = Engine(adapter.attach(tiny.model().bfloat16(), ALL, 3), training(), 3, 256, Limits(4, None))
    before = {n: p.detach().clone() for n, p in ours.model.named_parameters() if n not in ours.parameters}
    ours.step(rows(tmp_path), 0, 1e-2, lambda: None, pytest.fail)
    ours.step(rows(tmp_path), 1, 1e-2, lambda: None, pytest.fail)
    assert all(parameter.dtype == torch.float32 for parameter in ours.parameters.values())
    after = dict(ours.model.named_parameters())
    assert all(tensor.dtype == torch.bfloat16 and torch.equal(tensor, after[n]) for n, tensor in before.items())


class Hungry:
    """Runs out of memory for more rows than `most` at once, as the device's edge would."""

    def __init__(self, made: Engine, most: int) -> None:
        self.most = most
        made.model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if len(kwargs["input_ids"]) > self.most:
            raise torch.OutOfMemoryError("out of memory")


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(tmp_path: Path) -> None:
    data = rows(tmp_path)
    said: list[str] = []
    small, hungry = engine(Limits(2, None)), engine(Limits(10, 10_000))
    Hungry(hungry, 2)
    for made, say in ((small, pytest.fail), (hungry, said.append)):
        stir(made)
        for step in range(2):
            made.step(data, step, 1e-3, lambda: None, say)
    assert hungry.limits == Limits(2, 10_000)
    assert [message.split(":")[0] for message in said] == ["out of memory"] * 2
    for name, parameter in small.parameters.items():
        assert torch.equal(parameter, hungry.parameters[name])


def test_one_example_too_many_is_told(tmp_path: Path) -> None:
    ours = engine(Limits(4, None))
    Hungry(ours, 0)
    with pytest.raises(TrainingError, match=r"(?s)E621.*max_seq_length"):
        ours.step(rows(tmp_path), 0, 1e-3, lambda: None, lambda _: None)


def test_an_operation_that_cannot_repeat_exactly_is_allowed_and_told(tmp_path: Path) -> None:
    ours, said = engine(Limits(4, None)), []

    def picky(*_: object) -> None:
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError("x_cuda does not have a deterministic implementation, but you set ...")

    ours.model.register_forward_pre_hook(picky)
    ours.step(rows(tmp_path), 0, 1e-3, lambda: None, said.append)
    assert len(said) == 1
    assert "does not repeat exactly" in said[0]


def test_other_runtime_errors_are_not_taken_for_memory(tmp_path: Path) -> None:
    ours = engine(Limits(4, None))
    ours.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape"):
        ours.step(rows(tmp_path), 0, 1e-3, lambda: None, pytest.fail)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_before_it_reaches_the_weights(
    tmp_path: Path, value: float
) -> None:
    ours = engine(Limits(4, None))
    before = {name: parameter.detach().clone() for name, parameter in ours.parameters.items()}
    ours.model.register_forward_hook(lambda _m, _a, out: setattr(out, "logits", out.logits * value))
    with pytest.raises(TrainingError, match=r"(?s)E620.*step 5.*learning_rate"):
        ours.step(rows(tmp_path), 4, 1e-3, lambda: None, pytest.fail)
    assert all(torch.equal(before[name], parameter) for name, parameter in ours.parameters.items())


def test_a_stop_between_micro_batches_drops_the_partial_step(tmp_path: Path) -> None:
    ours = engine(Limits(2, None))
    stop = Stop()
    stop.defer()
    before = {name: parameter.detach().clone() for name, parameter in ours.parameters.items()}
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            stop.ask()
        stop.check()

    with pytest.raises(Interrupted):
        ours.step(rows(tmp_path), 0, 1e-3, check, pytest.fail)
    assert calls == 2
    assert all(torch.equal(before[name], parameter) for name, parameter in ours.parameters.items())
    assert not ours.optimizer.state


def test_automatic_micro_batches_are_bounded_by_tokens_and_vocabulary() -> None:
    assert batches.limits("auto", 32, 259) == Limits(32, 8192)
    assert batches.limits("auto", 32, 151_936) == Limits(32, 1766)
    assert batches.limits(64, 32, 151_936) == Limits(32, None)


def test_an_example_longer_than_the_bound_goes_alone(tmp_path: Path) -> None:
    groups = batches.split(rows(tmp_path), Limits(10, 100))
    assert all(len(group) == 1 or len(group) * len(group[0].ids) <= 100 for group in groups)
    assert len(groups[0][0].ids) > 100
    assert sum(map(len, groups)) == len(tiny.CHATS)
