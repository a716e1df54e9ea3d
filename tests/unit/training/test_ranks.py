"""Several processes' parts of a step, as threads with engines of their own; and torch's own sums, in a group of one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune.errors import TrainingError
from finetune.training import batches
from finetune.training.batches import Limits
from finetune.training.engine import Engine
from finetune.training.ranks import ALONE, Ranks
from finetune.training.request import Lora
from finetune.training.stop import Interrupted
from finetune.training.together import Together
from tests.unit.training.test_engine import GRAD_OFF, LOSS_OFF, Hungry, engine, rows, stir


class Meeting:
    """Where threads leave what the others are to have."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = threading.Barrier(count)
        self._left: dict[int, Any] = {}

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self._left[rank] = value
        self._barrier.wait(10)
        everyone = [self._left[number] for number in range(self.count)]
        self._barrier.wait(10)
        return everyone


class Threads(Ranks):
    """One of several in one process. Sums in the order of the ranks."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.count, self._meeting = rank, meeting.count, meeting

    @property
    def label(self) -> tuple[int, ...]:
        return (self.rank,)

    def total(self, values: Sequence[float]) -> Sequence[float]:
        return [sum(column) for column in zip(*self._meeting.exchange(self.rank, list(values)), strict=True)]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        everyone = self._meeting.exchange(self.rank, [None if p.grad is None else p.grad.clone() for p in parameters])
        for parameter, grads in zip(parameters, zip(*everyone, strict=True), strict=True):
            there = [grad for grad in grads if grad is not None]
            parameter.grad = sum(there[1:], there[0].clone()) if there else None


def together(count: int, limits: Limits) -> list[Engine]:
    """Engines with the same adapter; torch's generator is one for all threads, so none of them has dropout."""
    meeting = Meeting(count)
    made = []
    for rank in range(count):
        alone = engine(limits)
        stir(alone)
        made.append(Engine(alone.model, alone._training, 3, 256, limits, ranks=Threads(rank, meeting)))
    return made


def each(engines: Sequence[Engine], call: Callable[[Engine], Any]) -> list[Any]:
    """What `call` returns or raises for every engine, all at once."""

    def caught(made: Engine) -> Any:
        try:
            return call(made)
        except (Exception, Interrupted) as error:  # noqa: BLE001 -- whatever it is, the test wants to see it
            return error

    with ThreadPoolExecutor(len(engines)) as pool:
        return list(pool.map(caught, engines))


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("many", [10, 1], ids=["many rows", "fewer rows than processes"])
def test_a_step_is_the_step_of_one_process(tmp_path: Path, count: int, many: int) -> None:
    data = rows(tmp_path)[:many]
    alone = engine(Limits(3, None))
    stir(alone)
    expected = alone.step(data, 0, 1e-2, lambda: None, pytest.fail)
    engines = together(count, Limits(3, None))
    for made, result in zip(
        engines, each(engines, lambda made: made.step(data, 0, 1e-2, lambda: None, pytest.fail)), strict=True
    ):
        assert result.tokens == expected.tokens
        assert result.loss == pytest.approx(expected.loss, abs=LOSS_OFF)
        assert result.grad_norm == pytest.approx(expected.grad_norm, rel=1e-6)
        for name, parameter in alone.parameters.items():
            # AdamW's first step is the sign of a gradient times the rate: sums in another order keep it.
            assert (made.parameters[name] - parameter).abs().max() <= 1e-5, name
            assert torch.equal(made.parameters[name], engines[0].parameters[name])


def test_the_parts_of_loss_and_gradient_add_up(tmp_path: Path) -> None:
    data = rows(tmp_path)
    alone = engine(Limits(3, None))
    stir(alone)
    whole = alone.gradients(data, 0)
    engines = together(3, Limits(3, None))
    parts = [made.gradients(data, 0) for made in engines]
    assert sum(part.tokens for part in parts) == whole.tokens
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, abs=LOSS_OFF)
    assert all(0 < part.loss < whole.loss for part in parts)
    for name, parameter in alone.parameters.items():
        total = torch.stack([made.parameters[name].grad for made in engines]).sum(0)
        assert (total - parameter.grad).abs().max() <= GRAD_OFF


def test_shares_have_every_example_once_and_about_as_many_tokens(tmp_path: Path) -> None:
    data = rows(tmp_path)
    for count in (1, 2, 3, 11):
        shares = batches.deal(data, count)
        assert len(shares) == count
        assert sorted(id(example) for share in shares for example in share) == sorted(map(id, data))
        sizes = [sum(len(example.ids) for example in share) for share in shares]
        assert max(sizes) - min(sizes) <= max(len(example.ids) for example in data)
        assert shares[0]


def test_the_validation_loss_is_that_of_one_process(tmp_path: Path) -> None:
    data = rows(tmp_path)
    alone = engine(Limits(3, None))
    stir(alone)
    expected = alone.evaluate(data)
    for measured in each(together(2, Limits(3, None)), lambda made: made.evaluate(data)):
        assert measured.loss == pytest.approx(expected.loss, abs=LOSS_OFF)
        assert measured.tokens == expected.tokens


def test_out_of_memory_in_one_makes_all_micro_batches_smaller(tmp_path: Path) -> None:
    data = rows(tmp_path)
    engines = together(2, Limits(4, None))
    Hungry(engines[1], 2)
    said: list[str] = []
    results = each(engines, lambda made: made.step(data, 0, 1e-2, lambda: None, said.append))
    assert results[0] == results[1]
    assert [made.limits for made in engines] == [Limits(2, None)] * 2
    assert len(said) == 2
    Hungry(engines[1], 0)
    for result in each(engines, lambda made: made.step(data, 1, 1e-2, lambda: None, said.append)):
        assert isinstance(result, TrainingError)
        assert result.problems[0].code == "E621"


@pytest.mark.parametrize("what", ["step", "evaluate"])
@pytest.mark.parametrize("many", [10, 1], ids=["many rows", "nothing to do for it"])
def test_who_is_asked_to_stop_stops_all_and_nothing_has_changed(tmp_path: Path, what: str, many: int) -> None:
    data = rows(tmp_path)[:many]
    engines = together(2, Limits(2, None))
    before = [parameter.detach().clone() for parameter in engines[0].parameters.values()]

    def asked() -> None:
        raise Interrupted

    def call(made: Engine) -> Any:
        check = asked if made is engines[1] else lambda: None
        if what == "evaluate":
            return made.evaluate(data, check)
        return made.step(data, 0, 1e-2, check, pytest.fail)

    assert [type(result) for result in each(engines, call)] == [Interrupted] * 2
    for made in engines:
        assert all(map(torch.equal, before, made.parameters.values()))
        assert not made.optimizer.state


class Labelled(Ranks):
    """Alone, with the random numbers of one of several."""

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def label(self) -> tuple[int, ...]:
        return (self._number,)


def test_dropout_of_every_process_is_its_own(tmp_path: Path) -> None:
    data = rows(tmp_path)
    lora = Lora(r=4, alpha=8, dropout=0.5, target_modules="all-linear")

    def loss(ranks: Ranks, step: int) -> float:
        like = engine(Limits(3, None), lora)
        stir(like)
        made = Engine(like.model, like._training, 3, 256, Limits(3, None), ranks=ranks)
        made.model.train()
        return made.gradients(data, step).loss

    assert loss(Labelled(1), 4) == loss(Labelled(1), 4)
    assert len({loss(ranks, 4) for ranks in (ALONE, Labelled(0), Labelled(1))} | {loss(Labelled(1), 5)}) == 4


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Together]:
    made = Together(0, 1)
    made.join(tmp_path / "meeting")
    yield made
    made.leave()


def test_sums_go_through_torch_and_come_back_in_their_places(group: Together) -> None:
    shapes = [(3, 2), (5,), (1, 4)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    grads = [torch.randn(shape) for shape in shapes]
    parameters[0].grad, parameters[2].grad = grads[0].clone(), grads[2].clone()
    group.sum_gradients(parameters)
    assert torch.equal(parameters[0].grad, grads[0])
    # The optimiser is to leave it alone, as it does in one process.
    assert parameters[1].grad is None
    assert torch.equal(parameters[2].grad, grads[2])
    assert group.total((1.5, True, 3)) == [1.5, 1.0, 3.0]
    assert group.gather(7) == [7.0]
    with group.first_before_others():
        pass


def test_alone_nothing_is_copied() -> None:
    values = (1.0, 2.0)
    assert ALONE.total(values) is values
    assert (ALONE.first, ALONE.label, ALONE.count) == (True, (), 1)
